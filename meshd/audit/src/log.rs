//! The audit of all logs that are there, each from its files.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use meshd_trust::VerifyingKey;
use meshd_trust::log::{
    Audit, AuditTerms, Edge, Finding, Severity, TILE_WIDTH, Tile, TileAddress, TreeHash, VerifiedCheckpoint,
};
use meshd_wire::record::NodeKeys;
use meshd_wire::{Leaf, LeafKind, MeshId, OrgId, PublicKey, Subject, Timestamp};

use crate::chain::Chain;
use crate::entry::{Entry, Keyring};
use crate::files::{Files, FilesError};
use crate::judgement::{Judge, Judged};
use crate::notes::{self, Believed};
use crate::pages::{self, Content, Page};
use crate::parallel;
use crate::report::{CheckpointReport, Cosigned, LogReport, OrgReport, Report};
use crate::table::Table;
use crate::told;

/// What the caller says about an audit.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Time of the audit.
    pub at: Timestamp,
    /// Period in which a tunnel key is to be replaced.
    pub period_s: u64,
    /// Whether the mesh id was compared with one that the auditor gave.
    pub is_compared: bool,
    /// Threads that verify signatures; the report is the same with any number.
    pub threads: NonZeroUsize,
}

/// Tiles of leaves that are taken apart at a time, on all threads: some 3 MB.
const STRETCH: usize = 16;

/// The files of one log.
pub struct LogSource<'f> {
    /// Organisation whose log it is.
    pub org: OrgId,
    /// Its directory.
    pub files: &'f dyn Files,
    /// Paths that are there, where others than those of the log are evidence of tampering: in a bundle.
    pub sealed: Option<BTreeSet<String>>,
}

/// First use of each tunnel key: log, node and epoch.
type Keys = BTreeMap<PublicKey, (OrgId, Subject, u32)>;

/// Hears how many leaves of how many were read.
pub type Progress<'p> = &'p mut dyn FnMut(u64, u64);

/// Audits logs under a chain.
pub fn audit(
    mut chain: Chain,
    logs: &[LogSource<'_>],
    terms: &Terms,
    progress: Progress<'_>,
) -> Result<Report, FilesError> {
    let mut findings: Vec<Finding> = chain.findings().to_vec();
    for log in logs {
        for delegation in delegations(log)? {
            // Whoever made a bundle has put all of them into its chain, and nothing else counts there.
            if log.sealed.is_none() {
                chain.take_delegation(&delegation);
            } else if !chain.has(&delegation) {
                let what = "a delegation that stands beside a leaf is not in the chain".to_owned();
                findings.push(Finding::Authority { what, is_there: false });
            }
        }
    }
    // A bundle has all logs; of a directory nobody expects more than its own.
    if logs.iter().any(|log| log.sealed.is_some()) {
        let looked_at: BTreeSet<OrgId> = logs.iter().map(|log| log.org).collect();
        let absent = chain.orgs().map(|(org, _)| org).filter(|org| !looked_at.contains(org));
        findings.extend(absent.map(|org| Finding::Absent { org }));
    }
    if chain.genesis().is_none() {
        let what = "the genesis is not proven to be signed by all founders".to_owned();
        findings.push(Finding::Authority { what, is_there: false });
    }
    let mut worst = findings.iter().map(Finding::severity).max().unwrap_or(Severity::Notice);
    let mut reports = Vec::new();
    // Within one log the audit itself finds a key that is used again.
    let mut keys = (logs.len() > 1).then(Keys::new);
    for log in logs {
        let (report, severity) = Auditor::new(&chain, log).run(terms, keys.as_mut(), progress)?;
        worst = worst.max(severity);
        reports.push(report);
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
    let none = Table::default();
    Ok(Report {
        mesh: chain.mesh().to_string(),
        mesh_name: chain.genesis().map_or_else(String::new, |genesis| genesis.name.clone()),
        is_compared: terms.is_compared,
        at: terms.at.0,
        period_s: terms.period_s,
        verdict: told::verdict_of(worst),
        organisations: chain
            .orgs()
            .map(|(id, name)| OrgReport { id: id.to_string(), name: name.to_owned() })
            .collect(),
        findings: findings.iter().map(|finding| told::tell(finding, &chain, &none)).collect(),
        logs: reports,
    })
}

/// The delegations beside the leaves of a log, whose signatures may be by keys whose delegation is over.
pub(crate) fn delegations(log: &LogSource<'_>) -> Result<Vec<Vec<u8>>, FilesError> {
    let mut found = Vec::new();
    for index in 0.. {
        // The size is not known before a checkpoint is believed.
        let Some(full) = TileAddress::within((index + 1) * TILE_WIDTH, 0, index) else { break };
        let leaves = pages::widest(log.files, full, Content::Leaves.path())?;
        let records = pages::widest(log.files, full, Content::Records.path())?;
        let (Some(leaves), Some(records)) = (leaves, records) else { break };
        let (Some(leaves), Some(records)) = (leaves.leaves(), records.records()) else { continue };
        for (leaf, record) in leaves.iter().zip(records) {
            let is_delegation =
                Leaf::from_bytes(leaf).is_ok_and(|leaf| leaf.known_kind() == Some(LeafKind::StewardDelegate));
            if is_delegation && !record.is_empty() {
                found.push(record.to_vec());
            }
        }
    }
    Ok(found)
}

/// The files of a tile of leaves, taken apart.
struct Sheet {
    /// None if the leaves are not there, or damaged.
    entries: Option<Vec<Entry>>,
    /// Files that are not there, or damaged.
    faults: Vec<Finding>,
}

impl Sheet {
    fn read(tile: TileAddress, leaves: Option<&Page<'_>>, records: Option<&Page<'_>>, mesh: &MeshId) -> Self {
        let mut faults = Vec::new();
        let mut fault = |what: Content, page: Option<&Page<'_>>| {
            faults.push(Finding::Tile { path: what.path()(&tile), is_there: page.is_some() });
        };
        let Some(of_leaves) = leaves.and_then(Page::leaves) else {
            fault(Content::Leaves, leaves);
            return Self { entries: None, faults };
        };
        let of_records = records.and_then(Page::records);
        if of_records.is_none() {
            fault(Content::Records, records);
        }
        let beside =
            |at: usize| of_records.as_ref().map(|records| records.get(at).copied().unwrap_or_default());
        let entries = of_leaves.iter().enumerate().map(|(at, leaf)| Entry::read(leaf, beside(at), mesh));
        Self { entries: Some(entries.collect()), faults }
    }

    fn entries(&self) -> &[Entry] {
        self.entries.as_deref().unwrap_or_default()
    }
}

/// The audit of one log.
struct Auditor<'a> {
    chain: &'a Chain,
    log: &'a LogSource<'a>,
    findings: Vec<Finding>,
    judge: Judge<'a>,
    keys: Keyring,
    table: Table,
    edge: Edge,
    /// Tiles that follow from the leaves and are not full yet.
    open: BTreeMap<(u8, u64), Tile>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl<'a> Auditor<'a> {
    fn new(chain: &'a Chain, log: &'a LogSource<'a>) -> Self {
        Self {
            chain,
            log,
            findings: Vec::new(),
            judge: Judge::new(chain, log.org),
            keys: Keyring::new(),
            table: Table::default(),
            edge: Edge::new(),
            open: BTreeMap::new(),
            first: None,
            last: None,
        }
    }

    fn run(
        mut self,
        terms: &Terms,
        mut keys: Option<&mut Keys>,
        progress: Progress<'_>,
    ) -> Result<(LogReport, Severity), FilesError> {
        let LogSource { org, files, sealed } = self.log;
        let mut believed = notes::read(*files, self.chain, org, &mut self.findings)?;
        believed.sort_by_key(|one| std::cmp::Reverse(one.verified.checkpoint.head.size));
        let size = believed.first().map_or(0, |one| one.verified.checkpoint.head.size);
        let mut audit = Audit::new(self.audit_terms(terms), checkpoints(&believed));
        self.know(self.chain.signers().copied().collect());
        let mut tiles = (0..).map_while(|index| TileAddress::within(size, 0, index));
        'all: loop {
            let stretch = self.stretch(tiles.by_ref().take(STRETCH), terms.threads);
            if stretch.is_empty() {
                break;
            }
            for sheet in stretch {
                if !self.sheet(sheet?, &mut audit, keys.as_deref_mut())? {
                    break 'all;
                }
                progress(audit.size(), size);
            }
        }
        for tile in std::mem::take(&mut self.open).into_values() {
            self.compare(&tile)?;
        }
        if let Some(sealed) = sealed.as_ref().filter(|_| !believed.is_empty()) {
            self.strangers(sealed, size, &believed);
        }
        let head = audit.head();
        self.findings.extend(audit.finish(terms.at));
        Ok(self.report(terms, head.size, head.root, &believed))
    }

    fn audit_terms(&self, terms: &Terms) -> AuditTerms {
        let org = self.log.org;
        let witnesses = self.chain.orgs().map(|(id, _)| id).filter(|id| *id != org).collect();
        AuditTerms { org, rotation_period_s: terms.period_s, witnesses }
    }

    /// Reads tiles up to one that is not there, takes their leaves and records apart, and verifies all signatures.
    fn stretch(
        &mut self,
        tiles: impl Iterator<Item = TileAddress>,
        threads: NonZeroUsize,
    ) -> Vec<Result<Sheet, FilesError>> {
        let mesh = self.chain.mesh();
        let mut files = Vec::new();
        for tile in tiles {
            let read = |what: Content| pages::read(self.log.files, tile, what.path());
            let pages = read(Content::Leaves).and_then(|leaves| Ok((tile, leaves, read(Content::Records)?)));
            let is_last = !matches!(pages, Ok((_, Some(_), _)));
            files.push(pages);
            if is_last {
                break;
            }
        }
        let sheets = parallel::map(threads, files, |pages| {
            pages.map(|(tile, leaves, records)| Sheet::read(tile, leaves.as_ref(), records.as_ref(), &mesh))
        });
        let certified = sheets.iter().flatten().flat_map(Sheet::entries).filter_map(Entry::identity);
        self.know(certified.copied().collect());
        parallel::map(threads, sheets, |sheet| {
            sheet.map(|mut sheet| {
                sheet.entries.iter_mut().flatten().for_each(|entry| entry.verify(&self.keys, &mesh));
                sheet
            })
        })
    }

    /// Takes note of keys that may have signed something; whether they might is judged with each record.
    fn know(&mut self, keys: Vec<PublicKey>) {
        for key in keys {
            let id = key.key_id();
            if !self.keys.contains_key(&id)
                && let Some(key) = VerifyingKey::new(&key)
            {
                self.keys.insert(id, key);
            }
        }
    }

    /// Takes the leaves of a tile; false if they are not there, for no leaf behind them can be judged.
    fn sheet(
        &mut self,
        sheet: Sheet,
        audit: &mut Audit,
        mut keys: Option<&mut Keys>,
    ) -> Result<bool, FilesError> {
        self.findings.extend(sheet.faults);
        let Some(entries) = sheet.entries else { return Ok(false) };
        let tiles = self.edge.append(entries.iter().map(|entry| entry.hash));
        entries.iter().for_each(|entry| self.entry(entry, audit, keys.as_deref_mut()));
        for tile in tiles {
            let at = (tile.address.level(), tile.address.index());
            if u64::from(tile.address.width()) == TILE_WIDTH {
                self.open.remove(&at);
                self.compare(&tile)?;
            } else {
                self.open.insert(at, tile);
            }
        }
        Ok(true)
    }

    /// Takes a leaf, and its record unless the whole file of records is gone or damaged.
    fn entry(&mut self, entry: &Entry, audit: &mut Audit, keys: Option<&mut Keys>) {
        let index = audit.size();
        let judged =
            entry.leaf.as_ref().map_or(Ok(Judged::Nothing), |leaf| self.judge.judge(leaf, &entry.beside));
        let judged = judged.unwrap_or_else(|fault| {
            self.findings.push(Finding::Record { index, fault });
            Judged::Nothing
        });
        if let Some(leaf) = entry.leaf.as_ref().filter(|leaf| leaf.org == self.log.org) {
            self.table.take(leaf, judged.beside());
            self.first = self.first.or(Some(leaf.time));
            self.last = Some(leaf.time);
            if let (Judged::Keys(named), Some(keys)) = (judged, keys) {
                self.elsewhere(index, leaf, named, keys);
            }
        }
        audit.read_leaf(entry.hash, entry.leaf.as_ref(), judged.beside());
    }

    /// Finds a key that a node of another log has.
    fn elsewhere(&mut self, index: u64, leaf: &Leaf, named: &NodeKeys, keys: &mut Keys) {
        let is_new = matches!(leaf.known_kind(), Some(LeafKind::RotateAnnounce | LeafKind::RotateActivate));
        let Some(one) = named.all().find(|one| is_new && Some(one.epoch) == leaf.epoch) else { return };
        let again = (leaf.subject, one.epoch);
        let (org, node, epoch) = *keys.entry(one.key).or_insert((self.log.org, again.0, again.1));
        if org != self.log.org {
            let before = (node, epoch);
            self.findings.push(Finding::Reuse { index, key: Some(one.key), before, again });
        }
    }

    /// Compares a tile of hashes with what follows from the leaves.
    fn compare(&mut self, tile: &Tile) -> Result<(), FilesError> {
        let page = pages::read(self.log.files, tile.address, Content::Hashes.path())?;
        let is_right = page.as_ref().is_some_and(|page| page.hashes() == Some(tile.bytes.as_slice()));
        if !is_right {
            let is_there = page.is_some();
            self.findings.push(Finding::Tile { path: tile.address.path(), is_there });
        }
        Ok(())
    }

    /// Finds files that a log of this size does not have.
    fn strangers(&mut self, sealed: &BTreeSet<String>, size: u64, believed: &[Believed]) {
        let tiles = pages::all(size).map(|(tile, what)| what.path()(&tile));
        let further =
            believed.iter().map(|one| format!("{}/{}", notes::FURTHER, one.verified.checkpoint.head.size));
        let told = self.findings.iter().filter_map(|finding| match finding {
            Finding::Checkpoint { path, .. } | Finding::Tile { path, .. } => Some(path.clone()),
            _ => None,
        });
        let known: BTreeSet<String> =
            tiles.chain(further).chain(told).chain([notes::NEWEST.to_owned()]).collect();
        let strange = sealed.difference(&known).cloned();
        self.findings.extend(strange.map(|path| Finding::Tile { path, is_there: true }));
    }

    fn report(
        mut self,
        terms: &Terms,
        leaves: u64,
        root: TreeHash,
        believed: &[Believed],
    ) -> (LogReport, Severity) {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
        let worst = self.findings.first().map_or(Severity::Notice, Finding::severity);
        let findings =
            self.findings.iter().map(|finding| told::tell(finding, self.chain, &self.table)).collect();
        let mut exceptions: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for finding in &self.findings {
            if let Some(key) = told::key_of(finding) {
                exceptions.entry(key).or_default().push(finding.code().to_owned());
            }
        }
        let (nodes, keys) = self.table.finish(terms.at, &exceptions);
        let mut checkpoints: Vec<CheckpointReport> = believed.iter().map(checkpoint).collect();
        checkpoints.dedup();
        let report = LogReport {
            org: self.log.org.to_string(),
            org_name: self.chain.org_name(&self.log.org).to_owned(),
            leaves,
            first: self.first.map(|at| at.0),
            last: self.last.map(|at| at.0),
            root: root.to_string(),
            checkpoints,
            findings,
            nodes,
            keys,
        };
        (report, worst)
    }
}

fn checkpoints(believed: &[Believed]) -> impl Iterator<Item = VerifiedCheckpoint> {
    believed.iter().map(|one| one.verified.clone())
}

fn checkpoint(one: &Believed) -> CheckpointReport {
    let head = one.verified.checkpoint.head;
    CheckpointReport {
        size: head.size,
        root: head.root.to_string(),
        key: one.key.key_id().to_string(),
        cosigned: one
            .verified
            .cosigned
            .iter()
            .map(|(org, at)| Cosigned { org: org.to_string(), at: at.0 })
            .collect(),
    }
}
