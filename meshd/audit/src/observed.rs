//! Keys that were seen on the wire, held against the logs.
//!
//! A log tells which keys were announced. Which were used, only those know who talked: each node has a journal of the keys
//! that handshakes were completed with, its own and those of its peers. It is that node's word, and signed by nobody, so
//! what it shows breaks a rule and is no evidence of tampering.

use std::collections::{BTreeMap, BTreeSet};

use meshd_wire::{MeshId, NodeId, OrgId, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

use crate::report::{FindingReport, KeyReport, NodeReport, Report, Verdict};

/// How much the clock of a node may differ from that of a steward, seconds.
const CLOCKS_S: u64 = 5 * 60;
/// Keys of one node that a journal has room for, and how far back they reach at least at a usual pace: a month, seconds.
const JOURNAL_KEYS_MAX: usize = 256;
const USUAL_S: u64 = 30 * 86_400;
/// Findings that say of a log that part of it can't be seen.
const UNSEEN: [&str; 4] = ["MISSING", "TILE", "RECORD", "UNREADABLE"];

/// The journal of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Mesh in which it was kept.
    pub mesh: MeshId,
    /// Node that kept it.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// When it was asked for.
    pub at: Timestamp,
    /// When it began.
    pub since: Timestamp,
    /// Keys that had to make room for others.
    pub forgotten: u64,
    /// The keys.
    pub sightings: Vec<Sighting>,
}

/// A key that handshakes were completed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Whose it is.
    pub node: NodeId,
    /// Name of that node as the journal has it; it may be empty.
    pub name: String,
    /// Organisation that answers for the node.
    pub org: OrgId,
    /// Whether it is between the node of the journal and a plain WireGuard peer.
    pub is_external: bool,
    /// Its number.
    pub epoch: u32,
    /// The public half.
    pub key: PublicKey,
    /// Word for the ciphers.
    pub suite: String,
    /// Whether there was a pre-shared key besides.
    pub has_psk: bool,
    /// When the first handshake was complete.
    pub first: Timestamp,
    /// When the last one was.
    pub last: Timestamp,
    /// How many there were.
    pub handshakes: u64,
}

/// What the comparison gives. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedReport {
    /// Mesh, by its id.
    pub mesh: String,
    /// Node whose journal it is.
    pub observer: String,
    /// Its name.
    pub observer_name: String,
    /// When the journal began.
    pub since: u64,
    /// When it was asked for.
    pub until: u64,
    /// Keys that it had no room for any more.
    pub forgotten: u64,
    /// What all of it means, the rest of the audit included.
    pub verdict: Verdict,
    /// What the audit of the logs alone means.
    pub audit: Verdict,
    /// What is wrong with the keys on the wire, the gravest first.
    pub findings: Vec<FindingReport>,
    /// The keys on the wire.
    pub keys: Vec<ObservedReportKey>,
}

/// A key on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedReportKey {
    /// Whose it is.
    pub node: String,
    /// Name of that node.
    pub name: String,
    /// Organisation that answers for it.
    pub org: String,
    /// Its number.
    pub epoch: u32,
    /// The public half.
    pub key: String,
    /// What the logs say of it.
    pub state: Logged,
    /// Word for the ciphers.
    pub suite: String,
    /// Whether there was a pre-shared key besides.
    pub psk: bool,
    /// When the first handshake was complete.
    pub first: u64,
    /// When the last one was.
    pub last: u64,
    /// How many there were.
    pub handshakes: u64,
    /// Codes of findings about it.
    pub exceptions: Vec<String>,
}

/// What the logs say of a key on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Logged {
    /// It was announced, for this node and number.
    Logged,
    /// No log names it.
    Unlogged,
    /// No log names it, and that may still come.
    TooNew,
    /// The log of its organisation is not at hand.
    NoLog,
    /// It is between a node and a plain WireGuard peer: no log has such keys.
    External,
}

/// Says why a journal can't be held against logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it was kept in the mesh {found}, not in {wanted}")]
pub struct OtherMesh {
    /// Mesh of the journal.
    pub found: MeshId,
    /// Mesh of the logs.
    pub wanted: String,
}

/// Holds a journal against the audited logs.
pub fn observed(report: &Report, journal: &Journal) -> Result<ObservedReport, OtherMesh> {
    if journal.mesh.to_string() != report.mesh {
        return Err(OtherMesh { found: journal.mesh, wanted: report.mesh.clone() });
    }
    let mut judge = Judge::new(report);
    let keys = journal.sightings.iter().map(|one| judge.judge(one)).collect();
    judge.pushed_out(journal);
    let mut findings = judge.findings;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let own = findings.iter().map(|finding| finding.severity).max().unwrap_or(Verdict::Clean);
    Ok(ObservedReport {
        mesh: report.mesh.clone(),
        observer: journal.node.to_string(),
        observer_name: journal.name.clone(),
        since: journal.since.0,
        until: journal.at.0,
        forgotten: journal.forgotten,
        verdict: own.max(report.verdict),
        audit: report.verdict,
        findings,
        keys,
    })
}

/// The logs by what a sighting names.
struct Judge<'r> {
    report: &'r Report,
    /// Organisations whose log is at hand.
    orgs: BTreeSet<&'r str>,
    /// Keys by organisation, node and number.
    epochs: BTreeMap<(&'r str, &'r str, u32), &'r KeyReport>,
    /// What each key was logged as first.
    keys: BTreeMap<&'r str, &'r KeyReport>,
    /// Nodes by organisation.
    nodes: BTreeMap<(&'r str, &'r str), &'r NodeReport>,
    /// Organisations whose log is missed.
    absent: BTreeSet<OrgId>,
    /// Organisations of whose log not all can be seen.
    torn: BTreeSet<&'r str>,
    findings: Vec<FindingReport>,
}

impl<'r> Judge<'r> {
    fn new(report: &'r Report) -> Self {
        let mut judge = Self {
            report,
            orgs: report.logs.iter().map(|log| log.org.as_str()).collect(),
            epochs: BTreeMap::new(),
            keys: BTreeMap::new(),
            nodes: BTreeMap::new(),
            absent: BTreeSet::new(),
            torn: BTreeSet::new(),
            findings: Vec::new(),
        };
        for log in &report.logs {
            if log.findings.iter().any(|finding| UNSEEN.contains(&finding.code.as_str())) {
                judge.torn.insert(&log.org);
            }
            judge.nodes.extend(log.nodes.iter().map(|node| ((log.org.as_str(), node.node.as_str()), node)));
            for key in &log.keys {
                judge.epochs.insert((&log.org, &key.node, key.epoch), key);
                if let Some(public) = &key.key {
                    judge.keys.entry(public).or_insert(key);
                }
            }
        }
        judge
    }

    fn judge(&mut self, seen: &Sighting) -> ObservedReportKey {
        let (node, org, key) = (seen.node.to_string(), seen.org.to_string(), seen.key.to_string());
        let named = self.nodes.get(&(org.as_str(), node.as_str())).copied();
        let logged = self.epochs.get(&(org.as_str(), node.as_str(), seen.epoch)).copied();
        let before = self.findings.len();
        let state = match logged {
            _ if seen.is_external => Logged::External,
            _ if !self.orgs.contains(org.as_str()) => {
                self.no_log(seen.org, &org);
                Logged::NoLog
            }
            Some(logged) if logged.key.as_ref() == Some(&key) => {
                self.times(seen, logged, named.and_then(|node| node.revoked));
                Logged::Logged
            }
            logged => self.unlogged(seen, logged, (&org, &key)),
        };
        let name = named.map(|node| &node.name).filter(|name| !name.is_empty()).unwrap_or(&seen.name).clone();
        let mut exceptions = Vec::new();
        for finding in &mut self.findings[before..] {
            if finding.epoch.is_some() {
                finding.name = Some(name.clone()).filter(|name| !name.is_empty());
                exceptions.push(finding.code.clone());
            }
        }
        ObservedReportKey {
            node,
            name,
            org: self.org_name(&org).unwrap_or(org),
            epoch: seen.epoch,
            key,
            state,
            suite: seen.suite.clone(),
            psk: seen.has_psk,
            first: seen.first.0,
            last: seen.last.0,
            handshakes: seen.handshakes,
            exceptions,
        }
    }

    /// The key of no log, or of another node or number.
    fn unlogged(
        &mut self,
        seen: &Sighting,
        of_epoch: Option<&KeyReport>,
        (org, key): (&str, &str),
    ) -> Logged {
        let elsewhere = self.keys.get(key).map(|one| format!("epoch {} of {}", one.epoch, one.name_or_id()));
        let text = match (elsewhere, of_epoch) {
            (Some(elsewhere), _) => format!("a key on the wire that was logged as {elsewhere}"),
            (None, Some(KeyReport { key: Some(logged), .. })) => {
                format!("another key on the wire than the log has for this epoch: {}", short(logged))
            }
            (None, Some(_) | None) => "a key on the wire that no log names".to_owned(),
        };
        let is_named = of_epoch.is_some_and(|logged| logged.key.is_some());
        if !is_named && self.torn.contains(org) {
            let text = format!("{text}, as far as the log can be seen");
            self.find("UNSEEN", Verdict::Incomplete, seen, seen.first, text);
            return Logged::TooNew;
        }
        // A node's first key is logged when the node is there, and a bundle ends when it was made.
        if self.report.at < seen.first.0.saturating_add(CLOCKS_S) {
            self.find("RECENT", Verdict::Incomplete, seen, seen.first, format!("{text}; it may be by now"));
            return Logged::TooNew;
        }
        self.find("UNLOGGED", Verdict::Findings, seen, seen.first, text);
        Logged::Unlogged
    }

    /// A key that was logged: was it so when it was used, and was it allowed to be?
    fn times(&mut self, seen: &Sighting, logged: &KeyReport, revoked: Option<u64>) {
        let announced = [logged.announced, logged.active_from].into_iter().flatten().min();
        // One that is first heard of when it is given up was used in silence.
        let announced = announced.or(logged.compromised);
        if let Some(early) = announced.and_then(|at| late(seen.first.0, at)) {
            let may_be = if logged.announced.is_none() {
                "; a first key may be, and one that replaced another at once"
            } else {
                ""
            };
            let text = format!("on the wire {early} s before it was logged{may_be}");
            self.find("LATE-LOG", Verdict::Findings, seen, seen.first, text);
        }
        let ended = [logged.destroyed, logged.compromised].into_iter().flatten().min();
        if let Some(after) = ended.and_then(|at| late(at, seen.last.0)) {
            let text = format!("on the wire {after} s after it had to be gone");
            self.find("UNDESTROYED", Verdict::Findings, seen, seen.last, text);
        }
        if let Some(after) = revoked.and_then(|at| late(at, seen.last.0)) {
            let text = format!("on the wire {after} s after its node was revoked");
            self.find("ORPHAN-REVOKE", Verdict::Findings, seen, seen.last, text);
        }
    }

    /// Says of whom the journal may have forgotten what matters: a node that changes its key all the time pushes out its own.
    fn pushed_out(&mut self, journal: &Journal) {
        let mut kept: BTreeMap<NodeId, Vec<&Sighting>> = BTreeMap::new();
        for seen in &journal.sightings {
            kept.entry(seen.node).or_default().push(seen);
        }
        for rows in kept.into_values().filter(|rows| journal.forgotten > 0 && rows.len() >= JOURNAL_KEYS_MAX)
        {
            let Some(oldest) = rows.into_iter().min_by_key(|seen| seen.first) else { continue };
            if journal.at.since(oldest.first) < USUAL_S {
                let text = "it has replaced its key so often that the journal forgot older ones".to_owned();
                self.find("FORGOTTEN", Verdict::Incomplete, oldest, oldest.first, text);
            }
        }
    }

    /// Says once of an organisation that its log is missed.
    fn no_log(&mut self, org: OrgId, id: &str) {
        if self.absent.insert(org) {
            self.findings.push(FindingReport {
                code: "ABSENT".to_owned(),
                severity: Verdict::Incomplete,
                leaf: None,
                time: None,
                subject: Some(id.to_owned()),
                name: self.org_name(id),
                epoch: None,
                text: "its keys are on the wire, and its log is not at hand".to_owned(),
            });
        }
    }

    fn find(&mut self, code: &str, severity: Verdict, seen: &Sighting, time: Timestamp, text: String) {
        self.findings.push(FindingReport {
            code: code.to_owned(),
            severity,
            leaf: None,
            time: Some(time.0),
            subject: Some(seen.node.to_string()),
            name: None,
            epoch: Some(seen.epoch),
            text,
        });
    }

    fn org_name(&self, id: &str) -> Option<String> {
        let named = self.report.organisations.iter().find(|org| org.id == id);
        named.map(|org| org.name.clone()).filter(|name| !name.is_empty())
    }
}

impl KeyReport {
    fn name_or_id(&self) -> &str {
        if self.name.is_empty() { &self.node } else { &self.name }
    }
}

/// How much later one time is than another, if that is more than clocks may differ.
fn late(due: u64, at: u64) -> Option<u64> {
    at.checked_sub(due).filter(|late| *late > CLOCKS_S)
}

fn short(key: &str) -> String {
    key.chars().take(10).collect()
}
