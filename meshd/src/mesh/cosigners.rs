//! The stewards of the other organisations as witnesses: each new checkpoint of this steward's log is shown to all of
//! them.
//!
//! What was appended within a tick is shown as one checkpoint, to each witness at most one at a time. Where a steward is
//! reached its organisation's members say by their paths; who answers there proves the TLS key that its root has
//! delegated to ([decision 27](../../../docs/decisions/0027-witnesses-are-found-by-their-paths.md)).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use meshd_trust::OrgView;
use meshd_trust::log::Note;
use meshd_wire::{OrgId, PublicKey, Timestamp};

use super::Mesh;
use super::turn::Turn;
use crate::enrol::CosignAnswer;
use crate::role::steward::CosignAsk;

/// Time that a witness has before an auditor names it (docs/audit.md, `UNWITNESSED`), in seconds.
const WITNESS_S: u64 = 600;

/// Where this steward is with each witness.
#[derive(Debug, Default)]
pub(super) struct Cosigners(BTreeMap<OrgId, Witness>);

/// One of them.
#[derive(Debug, Default)]
struct Witness {
    turn: Turn,
    /// Since when there is something that it has not cosigned.
    missing_since: Option<Timestamp>,
}

/// A call to a witness.
#[derive(Debug)]
pub struct CosignCall {
    /// Organisation of the witness.
    pub witness: OrgId,
    /// Where it may be.
    pub at: Vec<SocketAddr>,
    /// Key of its TLS server.
    pub server: PublicKey,
    /// What it is asked.
    pub ask: CosignAsk,
}

impl Mesh {
    /// Calls to the witnesses that have not seen all of the log; none if this host is no steward.
    #[must_use]
    pub fn cosign_calls(&mut self) -> Vec<CosignCall> {
        let Some(steward) = &mut self.steward else { return Vec::new() };
        let (tick, now) = (Instant::now(), self.clock.now());
        let mut calls = Vec::new();
        for org in self.roster.orgs().filter(|org| org.id() != self.membership.org) {
            let witness = self.cosigners.0.entry(org.id()).or_default();
            let server = head_server(&org);
            // A proof costs reads: none is made for a witness that would not be asked now.
            let may_ask = witness.turn.may_ask(tick);
            if witness.turn.is_asked() || (witness.missing_since.is_some() && (server.is_none() || !may_ask))
            {
                continue;
            }
            let ask = match steward.cosign_ask(&org.id(), &witness_keys(&org)) {
                Ok(Some(ask)) => ask,
                Ok(None) => {
                    witness.missing_since = None;
                    continue;
                }
                Err(error) => {
                    let error = crate::chain::of(&error);
                    tracing::error!(error, "no proof can be made that the audit log only grew");
                    witness.turn.failed(tick);
                    continue;
                }
            };
            witness.missing_since.get_or_insert(now);
            let Some(server) = server.filter(|_| may_ask) else { continue };
            calls.push(CosignCall { witness: org.id(), at: Vec::new(), server, ask });
        }
        for call in &mut calls {
            call.at = self.control_hosts_of(|org| *org == call.witness);
            self.cosigners.0.entry(call.witness).or_default().turn.asked();
        }
        calls
    }

    /// Takes in what a witness answered; none if it was not reached.
    pub fn on_cosigned(&mut self, witness: OrgId, asked: &Note, answer: Option<CosignAnswer>) {
        let tick = Instant::now();
        let asker = self.cosigners.0.entry(witness).or_default();
        let (Some(answer), Some(steward)) = (answer, &mut self.steward) else {
            return asker.turn.failed(tick);
        };
        let org = self.roster.org(&witness);
        let keys = org.map(|org| witness_keys(&org)).unwrap_or_default();
        match steward.on_cosigned(&witness, &keys, asked, answer) {
            Ok(()) => *asker = Witness::default(),
            Err(error) => {
                let name = org.map_or("", |org| org.name());
                tracing::warn!(org = name, error = crate::chain::of(&error), "the audit log is not cosigned");
                asker.turn.failed(tick);
            }
        }
    }

    /// Organisations that have not cosigned within their time, with the seconds that it has been.
    pub(super) fn missing_cosigners(&self) -> Vec<(String, u64)> {
        let now = self.clock.now();
        let missing = self.cosigners.0.iter().filter_map(|(org, witness)| {
            let missing_s = now.since(witness.missing_since?);
            (missing_s > WITNESS_S).then(|| (self.name_of_org(org), missing_s))
        });
        missing.collect()
    }
}

/// Keys by which an organisation's stewards cosign.
fn witness_keys(org: &OrgView<'_>) -> Vec<PublicKey> {
    org.delegations().map(|steward| steward.witness_key).collect()
}

/// Key of the TLS server of the organisation's head steward.
pub(super) fn head_server(org: &OrgView<'_>) -> Option<PublicKey> {
    org.head().map(|head| head.tls_key)
}
