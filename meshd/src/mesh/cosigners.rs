//! The stewards of the other organisations as witnesses: each new checkpoint of this steward's log is shown to all of
//! them.
//!
//! What was appended within a tick is shown as one checkpoint, to each witness at most one at a time. Where a steward is
//! reached its organisation's members say by their paths; who answers there proves the TLS key that its root has
//! delegated to ([decision 27](../../../docs/decisions/0027-witnesses-are-found-by-their-paths.md)).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meshd_trust::OrgView;
use meshd_trust::log::Note;
use meshd_wire::{OrgId, PublicKey, Timestamp};

use super::Mesh;
use crate::enrol::CosignAnswer;
use crate::role::steward::CosignAsk;

/// Wait after a call that failed, doubled up to the longest.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_LONGEST: Duration = Duration::from_secs(60);
/// Time that a witness has before an auditor names it (docs/audit.md, `UNWITNESSED`), in seconds.
const WITNESS_S: u64 = 600;

/// Where this steward is with each witness.
#[derive(Debug, Default)]
pub(super) struct Cosigners(BTreeMap<OrgId, Turn>);

/// The turn of one witness.
#[derive(Debug, Default)]
struct Turn {
    is_asked: bool,
    /// When it may be asked again, and how long that was waited for.
    again: Option<(Instant, Duration)>,
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

impl Turn {
    fn may_ask(&self, now: Instant) -> bool {
        !self.is_asked && self.again.is_none_or(|(at, _)| at <= now)
    }

    fn failed(&mut self, now: Instant) {
        let wait = self.again.map_or(WAIT_FIRST, |(_, wait)| (wait * 2).min(WAIT_LONGEST));
        self.again = Some((now + wait, wait));
    }
}

impl Mesh {
    /// Calls to the witnesses that have not seen all of the log; none if this host is no steward.
    #[must_use]
    pub fn cosign_calls(&mut self) -> Vec<CosignCall> {
        let Some(steward) = &mut self.steward else { return Vec::new() };
        let (tick, now) = (Instant::now(), self.clock.now());
        let mut calls = Vec::new();
        for org in self.roster.orgs().filter(|org| org.id() != self.membership.org) {
            let turn = self.cosigners.0.entry(org.id()).or_default();
            let server = head_server(&org);
            // A proof costs reads: none is made for a witness that would not be asked now.
            if turn.is_asked || (turn.missing_since.is_some() && (server.is_none() || !turn.may_ask(tick))) {
                continue;
            }
            let ask = match steward.cosign_ask(&org.id(), &witness_keys(&org)) {
                Ok(Some(ask)) => ask,
                Ok(None) => {
                    turn.missing_since = None;
                    continue;
                }
                Err(error) => {
                    let error = crate::chain::of(&error);
                    tracing::error!(error, "no proof can be made that the audit log only grew");
                    turn.failed(tick);
                    continue;
                }
            };
            turn.missing_since.get_or_insert(now);
            let Some(server) = server.filter(|_| turn.may_ask(tick)) else { continue };
            calls.push(CosignCall { witness: org.id(), at: Vec::new(), server, ask });
        }
        for call in &mut calls {
            call.at = self.control_hosts_of(|org| *org == call.witness);
            self.cosigners.0.entry(call.witness).or_default().is_asked = true;
        }
        calls
    }

    /// Takes in what a witness answered; none if it was not reached.
    pub fn on_cosigned(&mut self, witness: OrgId, asked: &Note, answer: Option<CosignAnswer>) {
        let tick = Instant::now();
        let turn = self.cosigners.0.entry(witness).or_default();
        turn.is_asked = false;
        let (Some(answer), Some(steward)) = (answer, &mut self.steward) else { return turn.failed(tick) };
        let org = self.roster.org(&witness);
        let keys = org.map(|org| witness_keys(&org)).unwrap_or_default();
        match steward.on_cosigned(&witness, &keys, asked, answer) {
            Ok(()) => *turn = Turn::default(),
            Err(error) => {
                let name = org.map_or("", |org| org.name());
                tracing::warn!(org = name, error = crate::chain::of(&error), "the audit log is not cosigned");
                turn.failed(tick);
            }
        }
    }

    /// Organisations that have not cosigned within their time, with the seconds that it has been.
    pub(super) fn missing_cosigners(&self) -> Vec<(String, u64)> {
        let now = self.clock.now();
        let missing = self.cosigners.0.iter().filter_map(|(org, turn)| {
            let missing_s = now.since(turn.missing_since?);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_asked_once_at_a_time_and_ever_less_often_while_it_is_away() {
        let now = Instant::now();
        let mut turn = Turn::default();
        assert!(turn.may_ask(now));
        turn.is_asked = true;
        assert!(!turn.may_ask(now + WAIT_LONGEST));
        turn.is_asked = false;
        let mut waited = Vec::new();
        for _ in 0..8 {
            turn.failed(now);
            let (at, wait) = turn.again.expect("waits");
            assert!(!turn.may_ask(at - Duration::from_nanos(1)) && turn.may_ask(at));
            waited.push(wait.as_secs());
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
