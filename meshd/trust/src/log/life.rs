//! The life of a subject as its leaves tell it: its epochs, and its end.

use std::collections::BTreeMap;

use meshd_wire::{Leaf, LeafKind, Subject, Timestamp};

use super::finding::Finding;

/// Time that a node has to erase a key that another has replaced.
const DESTROY_S: u64 = 60 * 60;
/// What an epoch may last beyond its period, besides a tenth of it.
const OVERDUE_S: u64 = 10 * 60;

/// What is known of a subject at a leaf.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Its newest leaf.
    last: Option<u64>,
    /// Largest epoch that a leaf names.
    named: u32,
    /// Epoch in use, and since when.
    current: Option<(u32, Timestamp)>,
    /// Epochs that wait for their end, and since when they are not in use.
    replaced: BTreeMap<u32, Timestamp>,
    /// Leaf and time of its revocation.
    revoked: Option<(u64, Timestamp)>,
}

impl Life {
    /// Goes on with a leaf, and says which one was before it.
    pub(super) fn follow(&mut self, index: u64) -> Option<u64> {
        self.last.replace(index)
    }

    /// Takes what a leaf tells.
    pub(super) fn take(
        &mut self,
        index: u64,
        kind: LeafKind,
        leaf: &Leaf,
        period_s: u64,
        findings: &mut Vec<Finding>,
    ) {
        let subject = leaf.subject;
        match kind {
            LeafKind::Revoke => self.revoked = self.revoked.or(Some((index, leaf.time))),
            LeafKind::Enrol | LeafKind::Renew => self.act(subject, index, findings),
            LeafKind::RotateAnnounce | LeafKind::RotateActivate => {
                self.act(subject, index, findings);
                let Some(epoch) = leaf.epoch else { return };
                self.name(subject, epoch, findings);
                if kind == LeafKind::RotateActivate {
                    self.activate(index, leaf, epoch, period_s, findings);
                }
            }
            LeafKind::KeyDestroy => {
                let replaced = leaf.epoch.and_then(|epoch| self.replaced.remove_entry(&epoch));
                if let Some((epoch, since)) = replaced
                    && leaf.time > since.plus(DESTROY_S)
                {
                    let destroyed = Some(leaf.time);
                    findings.push(Finding::Undestroyed { node: subject, epoch, since, destroyed });
                }
            }
            LeafKind::KeyCompromised
            | LeafKind::RevokeEffect
            | LeafKind::Sever
            | LeafKind::Policy
            | LeafKind::AgreementJoin
            | LeafKind::AgreementLeave
            | LeafKind::StewardDelegate
            | LeafKind::StewardRetire
            | LeafKind::RootRotate
            | LeafKind::TokenIssue
            | LeafKind::TokenUse
            | LeafKind::StateRollback
            | LeafKind::ClockReset
            | LeafKind::BreakGlass
            | LeafKind::ConfigPqDowngrade => {}
        }
    }

    /// Ends at the time of the audit.
    pub(super) fn end(self, node: Subject, now: Timestamp, period_s: u64, findings: &mut Vec<Finding>) {
        let until = self.revoked.map_or(now, |(_, at)| at);
        if let Some((epoch, since)) = self.current {
            check_period(node, epoch, since, until, period_s, findings);
        }
        for (epoch, since) in self.replaced {
            if until > since.plus(DESTROY_S) {
                findings.push(Finding::Undestroyed { node, epoch, since, destroyed: None });
            }
        }
    }

    /// Only who is not revoked does anything.
    fn act(&self, subject: Subject, index: u64, findings: &mut Vec<Finding>) {
        if let Some((revoked, _)) = self.revoked {
            findings.push(Finding::OrphanRevoke { subject, revoked, index });
        }
    }

    /// Epochs are named one after the other.
    fn name(&mut self, node: Subject, epoch: u32, findings: &mut Vec<Finding>) {
        let next = self.named.saturating_add(1);
        if epoch > next {
            findings.push(Finding::Gap { node, first: next, last: epoch - 1 });
        }
        self.named = self.named.max(epoch);
    }

    fn activate(&mut self, index: u64, leaf: &Leaf, epoch: u32, period_s: u64, findings: &mut Vec<Finding>) {
        let node = leaf.subject;
        if let Some((current, since)) = self.current {
            if epoch <= current {
                let (before, again) = ((node, current), (node, epoch));
                findings.push(Finding::Reuse { index, key: None, before, again });
                return;
            }
            check_period(node, current, since, leaf.time, period_s, findings);
            self.replaced.insert(current, leaf.time);
        }
        self.current = Some((epoch, leaf.time));
    }
}

fn check_period(
    node: Subject,
    epoch: u32,
    since: Timestamp,
    until: Timestamp,
    period_s: u64,
    findings: &mut Vec<Finding>,
) {
    let longest = period_s.saturating_add(period_s / 10).saturating_add(OVERDUE_S);
    if until.since(since) > longest {
        findings.push(Finding::Overdue { node, epoch, since, until });
    }
}
