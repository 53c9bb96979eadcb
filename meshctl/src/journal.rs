//! The journal of keys on the wire: what a daemon answers, and the same in a file.

use std::path::Path;

use meshd_api::{Body, Document, Exit, Observed, ObservedKey, RESPONSE_BYTES_MAX};
use meshd_audit::{Journal, Sighting};
use meshd_wire::Timestamp;
use meshd_wire::id::ParseIdError;
use serde::Deserialize;

use crate::failure::Failure;
use crate::log_dir;

/// What every document of the daemon has.
#[derive(Deserialize)]
struct Head {
    schema: String,
}

/// Reads a journal that was exported.
pub fn read(path: &Path) -> Result<Journal, Failure> {
    let shown = path.display();
    let bytes = log_dir::bounded(path, RESPONSE_BYTES_MAX as u64)
        .map_err(|error| Failure::new(Exit::Failed, format!("can't read {shown}")).because(&error))?;
    let other = || {
        Failure::new(Exit::Failed, format!("{shown} is no journal of keys"))
            .with_hint("make one on a node with `meshctl audit observed --export FILE`")
    };
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| other().because(&error))?;
    if head.schema != Observed::SCHEMA {
        let kind = |schema: &str| schema.rsplit_once('/').map(|(kind, _)| kind.to_owned());
        if kind(&head.schema) == kind(Observed::SCHEMA) {
            let newer = format!("{shown} is a journal of another release: {}", head.schema);
            return Err(Failure::new(Exit::Failed, newer)
                .with_hint("take a meshctl of the release of the node that exported it"));
        }
        return Err(other());
    }
    let document: Document<Observed> =
        serde_json::from_slice(&bytes).map_err(|error| other().because(&error))?;
    journal(document.body).map_err(|error| other().because(&error))
}

/// A journal as the audit takes it.
pub fn journal(observed: Observed) -> Result<Journal, ParseIdError> {
    let Observed { mesh, node, name, at, since, forgotten, keys } = observed;
    Ok(Journal {
        mesh: mesh.parse()?,
        node: node.parse()?,
        name,
        at: Timestamp(at),
        since: Timestamp(since),
        forgotten,
        sightings: keys.into_iter().map(sighting).collect::<Result<_, _>>()?,
    })
}

fn sighting(seen: ObservedKey) -> Result<Sighting, ParseIdError> {
    let ObservedKey { node, name, org, external, epoch, key, suite, psk, first, last, handshakes } = seen;
    Ok(Sighting {
        node: node.parse()?,
        name,
        org: org.parse()?,
        is_external: external,
        epoch,
        key: key.parse()?,
        suite: suite.word().to_owned(),
        has_psk: psk,
        first: Timestamp(first),
        last: Timestamp(last),
        handshakes,
    })
}
