//! The life of a subject as its leaves tell it: its epochs, and its end.

use std::collections::BTreeMap;

use meshd_wire::record::NodeKeys;
use meshd_wire::{Leaf, LeafKind, Subject, Timestamp};

use super::audit::Beside;
use super::finding::Finding;

/// Time that a node has to erase a key that another has replaced.
const DESTROY_S: u64 = 60 * 60;
/// What an epoch may last beyond its period, besides a tenth of it.
const OVERDUE_S: u64 = 10 * 60;
/// How much a key's first moment, by its node's clock, may lie before its announcement, by the steward's.
const ANNOUNCE_S: u64 = 5 * 60;

/// What is known of a subject at a leaf.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Its newest leaf.
    last: Option<u64>,
    /// Largest epoch that a leaf names.
    named: u32,
    /// Largest epoch that was ever in use.
    used: u32,
    /// Epoch in use.
    current: Option<Current>,
    /// Epochs that were announced and did not come into use yet, and when.
    announced: BTreeMap<u32, Timestamp>,
    /// Epochs that wait for their end, and since when they are not in use.
    replaced: BTreeMap<u32, Timestamp>,
    /// End of the newest certificate.
    certified: Option<Timestamp>,
    /// Leaf and time of its revocation.
    revoked: Option<(u64, Timestamp)>,
}

/// An epoch in use.
#[derive(Debug, Clone, Copy)]
struct Current {
    epoch: u32,
    since: Timestamp,
    /// When the node came back that had not been a member at the end of the period.
    back: Option<Timestamp>,
}

/// What a judgement about a period needs.
struct Judge<'f> {
    node: Subject,
    period_s: u64,
    findings: &'f mut Vec<Finding>,
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
        beside: Beside<'_>,
        period_s: u64,
        findings: &mut Vec<Finding>,
    ) {
        let mut judge = Judge { node: leaf.subject, period_s, findings };
        match kind {
            LeafKind::Revoke => self.revoked = self.revoked.or(Some((index, leaf.time))),
            LeafKind::Enrol | LeafKind::Renew => {
                self.act(index, &mut judge);
                self.certify(leaf.time, beside, &mut judge);
            }
            LeafKind::RotateAnnounce | LeafKind::RotateActivate => {
                self.act(index, &mut judge);
                let Some(epoch) = leaf.epoch else { return };
                self.name(epoch, &mut judge);
                if kind == LeafKind::RotateActivate {
                    self.activate(index, leaf.time, epoch, beside, &mut judge);
                } else {
                    self.announced.entry(epoch).or_insert(leaf.time);
                }
            }
            LeafKind::KeyDestroy => {
                let Some(epoch) = leaf.epoch else { return };
                self.name(epoch, &mut judge);
                self.drop_key(epoch, leaf.time, &mut judge);
            }
            LeafKind::KeyCompromised => {
                let Some(epoch) = leaf.epoch else { return };
                self.name(epoch, &mut judge);
                self.leave(epoch, leaf.time, &mut judge);
            }
            LeafKind::StateRollback => {
                if let Some(epoch) = leaf.epoch {
                    self.name(epoch, &mut judge);
                }
            }
            LeafKind::RevokeEffect
            | LeafKind::Sever
            | LeafKind::Policy
            | LeafKind::AgreementJoin
            | LeafKind::AgreementLeave
            | LeafKind::StewardDelegate
            | LeafKind::StewardRetire
            | LeafKind::RootRotate
            | LeafKind::TokenIssue
            | LeafKind::TokenUse
            | LeafKind::ClockReset
            | LeafKind::BreakGlass
            | LeafKind::ConfigPqDowngrade => {}
        }
    }

    /// Ends at the time of the audit.
    pub(super) fn end(self, node: Subject, now: Timestamp, period_s: u64, findings: &mut Vec<Finding>) {
        let mut judge = Judge { node, period_s, findings };
        let until = self.revoked.map_or(now, |(_, at)| at);
        if let Some(current) = self.current {
            match self.certified {
                Some(certified) if current.back.is_none() && certified < judge.due(current.since) => {
                    judge.dormant(current, certified, until);
                }
                // Without a certificate nobody talks to it, whatever key it has.
                certified => judge.period(current, certified.map_or(until, |certified| certified.min(until))),
            }
        }
        for (epoch, since) in self.replaced {
            if until > since.plus(DESTROY_S) {
                judge.findings.push(Finding::Undestroyed { node, epoch, since, destroyed: None });
            }
        }
    }

    /// Only who is not revoked does anything.
    fn act(&self, index: u64, judge: &mut Judge<'_>) {
        if let Some((revoked, _)) = self.revoked {
            let subject = judge.node;
            judge.findings.push(Finding::OrphanRevoke { subject, revoked, index });
        }
    }

    /// Takes the certificate of a node that may have been away: its key is due as soon as it is back.
    fn certify(&mut self, time: Timestamp, beside: Beside<'_>, judge: &mut Judge<'_>) {
        let Beside::Cert(cert) = beside else { return };
        if let (Some(before), Some(current)) = (self.certified, &mut self.current)
            && current.back.is_none()
            && before < judge.due(current.since)
            && time > judge.due(current.since)
        {
            judge.dormant(*current, before, time);
            current.back = Some(time);
        }
        self.certified = Some(cert.not_after);
    }

    /// Epochs are named one after the other, those included that never came into use.
    fn name(&mut self, epoch: u32, judge: &mut Judge<'_>) {
        let first = self.named.saturating_add(1);
        if epoch > first {
            judge.findings.push(Finding::Gap { node: judge.node, first, last: epoch - 1 });
        }
        self.named = self.named.max(epoch);
    }

    fn activate(
        &mut self,
        index: u64,
        time: Timestamp,
        epoch: u32,
        beside: Beside<'_>,
        judge: &mut Judge<'_>,
    ) {
        // A node that does not know whether it was heard says it again.
        if self.current.is_some_and(|current| current.epoch == epoch) {
            return;
        }
        let node = judge.node;
        if epoch <= self.used {
            let (before, again) = ((node, self.used), (node, epoch));
            judge.findings.push(Finding::Reuse { index, key: None, before, again });
            return;
        }
        let used = match beside {
            Beside::Keys(keys) => Some(keys),
            Beside::Cert(_) | Beside::Nothing => None,
        };
        match (self.announced.remove(&epoch), self.current) {
            (Some(announced), _) => check_announced(index, epoch, announced, used, judge),
            (None, Some(_)) => {
                let used = used.map(|keys| keys.cur.key);
                judge.findings.push(Finding::Unlogged { index, node, epoch, announced: None, used });
            }
            // The first key, or one that had to replace another at once.
            (None, None) => {}
        }
        if let Some(current) = self.current {
            judge.period(current, time);
            self.replaced.insert(current.epoch, time);
        }
        self.used = epoch;
        self.current = Some(Current { epoch, since: time, back: None });
    }

    /// A key is erased: one that was replaced, one that never came into use, or the one in use because it has to go.
    fn drop_key(&mut self, epoch: u32, time: Timestamp, judge: &mut Judge<'_>) {
        self.announced.remove(&epoch);
        if let Some(since) = self.replaced.remove(&epoch)
            && time > since.plus(DESTROY_S)
        {
            let (node, destroyed) = (judge.node, Some(time));
            judge.findings.push(Finding::Undestroyed { node, epoch, since, destroyed });
        }
        self.leave(epoch, time, judge);
    }

    /// The epoch in use ends without one after it.
    fn leave(&mut self, epoch: u32, time: Timestamp, judge: &mut Judge<'_>) {
        if let Some(current) = self.current.take_if(|current| current.epoch == epoch) {
            judge.period(current, time);
        }
    }
}

impl Judge<'_> {
    /// When an epoch has been in use for too long.
    fn due(&self, since: Timestamp) -> Timestamp {
        since.plus(self.period_s.saturating_add(self.period_s / 10).saturating_add(OVERDUE_S))
    }

    fn period(&mut self, current: Current, until: Timestamp) {
        let Current { epoch, since, back } = current;
        let due = back.map_or(self.due(since), |back| back.plus(self.period_s / 10).plus(OVERDUE_S));
        if until > due {
            self.findings.push(Finding::Overdue { node: self.node, epoch, since, until });
        }
    }

    fn dormant(&mut self, current: Current, certified: Timestamp, until: Timestamp) {
        let Current { epoch, since, back: _ } = current;
        if until > self.due(since) {
            self.findings.push(Finding::Dormant { node: self.node, epoch, since, certified });
        }
    }
}

/// A key is announced before it is used.
fn check_announced(
    index: u64,
    epoch: u32,
    announced: Timestamp,
    used: Option<&NodeKeys>,
    judge: &mut Judge<'_>,
) {
    let since = used.map(|keys| keys.cur.since);
    if let Some(since) = since.filter(|since| announced > since.plus(ANNOUNCE_S)) {
        judge.findings.push(Finding::LateLog { index, node: judge.node, epoch, since, announced });
    }
}
