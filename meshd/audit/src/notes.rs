//! The checkpoints of a log's directory.

use meshd_trust::log::{Finding, Note, VerifiedCheckpoint};
use meshd_wire::{OrgId, PublicKey};

use crate::chain::Chain;
use crate::files::{Files, FilesError};

/// Newest note.
pub(crate) const NEWEST: &str = "checkpoint";
/// Directory of further notes.
pub(crate) const FURTHER: &str = "checkpoints";
/// Further notes that are read: one a minute in a year.
const FURTHER_MAX: usize = 525_600;

/// A note that is believed.
#[derive(Debug, Clone)]
pub(crate) struct Believed {
    pub(crate) note: Note,
    pub(crate) verified: VerifiedCheckpoint,
    /// Key of the log that signed it.
    pub(crate) key: PublicKey,
}

/// Paths of all notes that are there, the newest first.
pub(crate) fn paths(files: &dyn Files) -> Result<Vec<String>, FilesError> {
    let mut further: Vec<u64> = files.list(FURTHER)?.iter().filter_map(|name| size_of(name)).collect();
    further.sort_unstable();
    let newest = std::iter::once(NEWEST.to_owned());
    Ok(newest.chain(further.iter().rev().map(|size| format!("{FURTHER}/{size}"))).collect())
}

/// Reads and verifies all notes.
pub(crate) fn read(
    files: &dyn Files,
    chain: &Chain,
    org: &OrgId,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Believed>, FilesError> {
    let mut believed = Vec::new();
    for path in paths(files)?.into_iter().take(FURTHER_MAX) {
        let Some(bytes) = files.read(&path)? else {
            // A steward that lives removes further notes that say no more than others.
            if path == NEWEST {
                findings.push(Finding::Checkpoint { path, is_there: false });
            }
            continue;
        };
        match believe(&bytes, chain, org) {
            Some(one) if is_in_place(&path, &one) => {
                let strangers = chain.checkpoint_keys(org);
                for stranger in strangers.strangers(&one.note, &chain.origin(org)) {
                    let name = stranger.name().to_owned();
                    findings.push(Finding::Signer { path: path.clone(), name });
                }
                believed.push(one);
            }
            Some(_) | None => findings.push(Finding::Checkpoint { path, is_there: true }),
        }
    }
    Ok(believed)
}

/// Believes a note of a log.
pub(crate) fn believe(bytes: &[u8], chain: &Chain, org: &OrgId) -> Option<Believed> {
    let note = Note::from_bytes(bytes).ok()?;
    let (keys, origin) = (chain.checkpoint_keys(org), chain.origin(org));
    let verified = keys.verify(&note, &origin).ok()?;
    let name = origin.to_string();
    let signed = |key: &&PublicKey| note.is_signed_by(&name, key).is_ok_and(|signed| signed);
    let key = keys.log.iter().find(signed).copied()?;
    Some(Believed { note, verified, key })
}

fn is_in_place(path: &str, one: &Believed) -> bool {
    let named = path.strip_prefix(FURTHER).and_then(|rest| rest.strip_prefix('/')).and_then(size_of);
    path == NEWEST || named == Some(one.verified.checkpoint.head.size)
}

/// A size as the name of a file.
fn size_of(name: &str) -> Option<u64> {
    name.parse().ok().filter(|size: &u64| size.to_string() == name)
}
