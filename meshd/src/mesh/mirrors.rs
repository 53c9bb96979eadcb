//! Copies of the logs of other organisations, at their stewards: what to ask whom, and when.
//!
//! How far a log has come, it shows to its witness; its organisation's state says so, and what nodes pass on. Each is
//! asked by one call at a time: as long as there is more, and ever less often while witnesses have not cosigned what
//! there is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meshd_trust::log::CheckpointKeys;
use meshd_wire::record::Roles;
use meshd_wire::{OrgId, PublicKey};

use super::Mesh;
use super::cosigners::head_server;
use super::turn::Turn;
use crate::enrol::Copied;
use crate::role::steward::{CopyTerms, NotCopied};

/// Rest of a log that has no more: what comes in the meantime comes in one go.
const REST: Duration = Duration::from_secs(10);

/// Calls at a time, of all logs: each brings up to a megabyte.
const CALLS_MAX: usize = 2;

/// Where this steward is with the copy of each log.
#[derive(Debug, Default)]
pub(super) struct Mirrors(BTreeMap<OrgId, Turn>);

/// A call to a log.
#[derive(Debug)]
pub struct CopyCall {
    /// Organisation whose log it is.
    pub org: OrgId,
    /// Where its steward may be.
    pub at: Vec<SocketAddr>,
    /// Key of its TLS server.
    pub server: PublicKey,
    /// Index of the first leaf that is missing.
    pub from: u64,
}

impl Mesh {
    /// Calls to the logs whose copies are not whole; none if this host is no steward.
    #[must_use]
    pub fn copy_calls(&mut self) -> Vec<CopyCall> {
        let (Some(steward), tick) = (&mut self.steward, Instant::now()) else { return Vec::new() };
        let orgs: Vec<OrgId> = self.roster.orgs().map(|org| org.id()).collect();
        let under_way = self.mirrors.0.values().filter(|turn| turn.is_asked()).count();
        let mut calls = Vec::new();
        let mut others: Vec<_> = self.roster.orgs().filter(|org| org.id() != self.membership.org).collect();
        // Who has waited longest: one that always has more is not always the first.
        others.sort_by_key(|org| self.mirrors.0.get(&org.id()).and_then(Turn::due));
        for org in others {
            let (turn, id) = (self.mirrors.0.entry(org.id()).or_default(), org.id());
            let is_turn = under_way + calls.len() < CALLS_MAX && turn.may_ask(tick);
            if !is_turn || self.checkpoints.has_convicted(&self.roster, &id) {
                continue;
            }
            let said = org.state().and_then(|state| state.checkpoint).map_or(0, |checkpoint| checkpoint.n);
            let size = said.max(self.checkpoints.size_of(&id));
            let Some(server) = head_server(&org).filter(|_| size > 0) else { continue };
            let witnesses: Vec<OrgId> = orgs.iter().filter(|org| **org != id).copied().collect();
            match steward.copy_from(&id, size, &witnesses) {
                Ok(Some(from)) => {
                    turn.asked();
                    calls.push(CopyCall { org: id, at: Vec::new(), server, from });
                }
                Ok(None) => turn.rests_until(tick + REST),
                Err(error) => {
                    let error = crate::chain::of(&error);
                    tracing::error!(org = org.name(), error, "the copy of a log can't be read");
                    turn.failed(tick);
                }
            }
        }
        for call in &mut calls {
            call.at = self.control_hosts_of(|org| *org == call.org);
        }
        calls
    }

    /// Takes in what a log gave; none if it was not reached.
    pub fn on_copied(&mut self, org: OrgId, from: u64, answer: Option<Copied>) {
        let (tick, terms) = (Instant::now(), self.copy_terms(org));
        // The last page of a log has no rows.
        let is_more = answer.as_ref().is_some_and(|page| !page.rows.is_empty());
        let taken = match (answer, &mut self.steward) {
            (Some(page), Some(steward)) => steward.on_copied(from, page, &terms),
            _ => Ok(false),
        };
        let turn = self.mirrors.0.entry(org).or_default();
        match taken {
            Ok(true) if is_more => turn.rests_until(tick),
            Ok(true) => turn.rests_until(tick + REST),
            Ok(false) => turn.failed(tick),
            Err(error) => {
                turn.failed(tick);
                let (name, error_chain) = (self.name_of_org(&org), crate::chain::of(&error));
                tracing::warn!(org = name, error = error_chain, "the audit log is not copied");
                if let NotCopied::Forked(evidence) = error {
                    self.convict(org, *evidence);
                }
            }
        }
    }

    /// Who may have signed what of a log.
    fn copy_terms(&self, org: OrgId) -> CopyTerms {
        let view = self.roster.org(&org);
        let others = self.roster.orgs().filter(|other| other.id() != org);
        let witnesses =
            others.flat_map(|org| org.delegations_ever().map(move |one| (org.id(), one.witness_key)));
        let logs = view.into_iter().flat_map(|org| org.delegations_ever());
        let logs = logs.filter(|steward| steward.roles.contains(Roles::LOG));
        CopyTerms {
            org,
            log_keys: view.map(|org| org.log_keys()).unwrap_or_default(),
            keys_ever: CheckpointKeys {
                log: logs.map(|steward| steward.log_key).collect(),
                witnesses: witnesses.collect(),
            },
        }
    }
}
