//! A log as it grows: each new checkpoint is signed, and its tree begins with the one before.
//!
//! Of the leaves that were seen only the hashes that a tree of them needs are kept, so a look costs what was appended
//! since the last one. What the leaves and records mean is for [`audit`](crate::audit) to say, which reads all of them.

use meshd_trust::log::{Finding, Frontier, TILE_WIDTH, TileAddress, TreeHash, TreeHead};
use meshd_wire::{Leaf, OrgId};
use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::files::{Files, FilesError};
use crate::log::{LogSource, delegations};
use crate::notes::{self, Believed};
use crate::pages::{self, Content, Page};
use crate::report::FindingReport;
use crate::table::Table;
use crate::told;

/// A log under watch.
#[derive(Debug)]
pub struct Growth {
    chain: Chain,
    org: OrgId,
    frontier: Frontier,
    /// The checkpoint that was looked at last; none before the first.
    note: Option<Vec<u8>>,
    /// What could not be seen at the last look: a log that is written to may just have replaced a file.
    doubt: Option<Finding>,
}

/// What a look has shown.
#[derive(Debug, Default)]
pub struct Grown {
    /// Whether the checkpoint is another one than before.
    pub is_changed: bool,
    /// Whether all could be seen that is signed.
    pub is_whole: bool,
    /// Leaves since the look before; none at the first look, for they were there before.
    pub leaves: Vec<LeafReport>,
    /// What is wrong.
    pub findings: Vec<FindingReport>,
}

/// A leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafReport {
    /// Its number, from 0.
    pub index: u64,
    /// When the steward took it in, in seconds since 1970; none for a leaf of a newer release, or none at all.
    pub time: Option<u64>,
    /// Word for what it says; a number for one of a newer release.
    pub kind: Option<String>,
    /// Whom it is about.
    pub subject: Option<String>,
    /// Epoch that it is about.
    pub epoch: Option<u32>,
}

/// Why a tree is not believed to have grown.
enum Halt {
    /// It can't be seen, or not yet.
    Doubt(Finding),
    /// It has not.
    Wrong(Finding),
    /// A file can't be read.
    Files(FilesError),
}

impl From<FilesError> for Halt {
    fn from(error: FilesError) -> Self {
        Self::Files(error)
    }
}

impl Growth {
    /// Begins before the first leaf.
    pub fn new(chain: Chain, org: OrgId) -> Self {
        Self { chain, org, frontier: Frontier::new(), note: None, doubt: None }
    }

    /// Leaves so far, all signed.
    pub fn head(&self) -> TreeHead {
        self.frontier.head()
    }

    /// Looks whether there is another checkpoint, and holds it against the leaves so far. What can't be seen is told when it
    /// could not be seen at the look before either, and again at each look until it can.
    pub fn look(&mut self, files: &dyn Files) -> Result<Grown, FilesError> {
        match self.follow(files) {
            Ok(grown) => {
                self.doubt = None;
                Ok(grown)
            }
            Err(Halt::Wrong(finding)) => Ok(self.find(&finding)),
            Err(Halt::Doubt(finding)) => {
                let before = self.doubt.replace(finding.clone());
                let is_again = before.is_some_and(|before| match (before, &finding) {
                    (Finding::Checkpoint { is_there: before, .. }, Finding::Checkpoint { is_there, .. }) => {
                        before == *is_there
                    }
                    (before, finding) => before.code() == finding.code(),
                });
                Ok(if is_again { self.find(&finding) } else { Grown::default() })
            }
            Err(Halt::Files(error)) => Err(error),
        }
    }

    fn follow(&mut self, files: &dyn Files) -> Result<Grown, Halt> {
        let path = notes::NEWEST.to_owned();
        let Some(bytes) = files.read(&path)? else {
            return Err(Halt::Doubt(Finding::Checkpoint { path, is_there: false }));
        };
        if self.note.as_deref() == Some(&*bytes) {
            return Ok(Grown { is_whole: true, ..Grown::default() });
        }
        let believed = self.believe(&bytes, files)?;
        // A copy that is being written has such a note for a moment.
        let believed = believed.ok_or(Halt::Doubt(Finding::Checkpoint { path, is_there: true }))?;
        let leaves = self.grow(believed.verified.checkpoint.head, files)?;
        self.note = Some(bytes.into_owned());
        Ok(Grown { is_changed: true, is_whole: true, leaves, findings: Vec::new() })
    }

    /// Believes a note, by keys that may have come since if it must be.
    fn believe(&mut self, bytes: &[u8], files: &dyn Files) -> Result<Option<Believed>, FilesError> {
        if let Some(believed) = notes::believe(bytes, &self.chain, &self.org) {
            return Ok(Some(believed));
        }
        let newer = files.read("chain")?.and_then(|chain| Chain::read(&chain, Some(self.chain.mesh())).ok());
        if let Some(newer) = newer {
            self.chain = newer;
        }
        for delegation in delegations(&LogSource { org: self.org, files, sealed: None })? {
            self.chain.take_delegation(&delegation);
        }
        Ok(notes::believe(bytes, &self.chain, &self.org))
    }

    /// Goes on to a signed tree, and gives the leaves that it has more.
    fn grow(&mut self, signed: TreeHead, files: &dyn Files) -> Result<Vec<LeafReport>, Halt> {
        let before = self.frontier.head();
        if signed.size < before.size {
            return Err(Halt::Doubt(Finding::Missing { signed: before.size, found: signed.size }));
        }
        let (mut frontier, mut leaves) = (self.frontier.clone(), Vec::new());
        let first = before.size / TILE_WIDTH;
        for tile in (first..).map_while(|index| TileAddress::within(signed.size, 0, index)) {
            let page = pages::read(files, tile, Content::Leaves.path())?;
            let Some(of_tile) = page.as_ref().and_then(Page::leaves) else { break };
            let known = frontier.size().saturating_sub(tile.index() * TILE_WIDTH);
            for leaf in of_tile.iter().skip(usize::try_from(known).unwrap_or(usize::MAX)) {
                // At the first look all of them are new, and nobody is told.
                if self.note.is_some() {
                    leaves.push(LeafReport::read(frontier.size(), leaf));
                }
                frontier.append(TreeHash::leaf(leaf));
            }
        }
        let found = frontier.head();
        if found.size < signed.size {
            return Err(Halt::Doubt(Finding::Missing { signed: signed.size, found: found.size }));
        }
        if found.root != signed.root {
            let was_signed = self.note.is_some() && signed.size == before.size;
            return Err(Halt::Wrong(match was_signed {
                true => Finding::Fork { one: before, other: signed },
                false => Finding::Root { signed, found },
            }));
        }
        self.frontier = frontier;
        Ok(leaves)
    }

    fn find(&self, finding: &Finding) -> Grown {
        let told = told::tell(finding, &self.chain, &Table::default());
        Grown { findings: vec![told], ..Grown::default() }
    }
}

impl LeafReport {
    fn read(index: u64, bytes: &[u8]) -> Self {
        let Ok(leaf) = Leaf::from_bytes(bytes) else {
            return Self { index, time: None, kind: None, subject: None, epoch: None };
        };
        Self {
            index,
            time: Some(leaf.time.0),
            kind: Some(
                leaf.known_kind().map_or_else(|| leaf.kind.to_string(), |kind| kind.name().to_owned()),
            ),
            subject: Some(leaf.subject.to_string()),
            epoch: leaf.epoch,
        }
    }
}
