//! The audit log that a steward keeps: what it says is logged is on disk, and signed.
//!
//! An append writes the tiles, leaves and records first and the checkpoint last. What an end in between leaves behind
//! the checkpoint was promised to nobody, and the next append writes over it.

mod cosigned;
mod files;
mod prover;
mod subjects;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use meshd_trust::SigningKey;
use meshd_trust::log::{
    Checkpoint, CheckpointKeys, CheckpointRefusal, ConsistencyProof, Edge, EntriesError, LogOrigin, Note,
    NoteError, NoteSignature, TILE_WIDTH, TileAddress, TileError, TileSource, TreeHash, TreeHead,
    prove_consistency, tree_head,
};
use meshd_wire::{KeyId, Leaf, LeafKind, OrgId, PublicKey, RecordId, Subject, Timestamp};

pub(super) use self::cosigned::{Cosigned, NOTES_MAX};
pub(super) use self::files::{LogFiles, Row};
use self::prover::Prover;
use self::subjects::{Said, Subjects};
use crate::whole_file::FileError;

/// Reports a log that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// An operation on a file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The checkpoint is no note.
    #[error("read {}", path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: NoteError,
    },
    /// The checkpoint is not this steward's.
    #[error("the checkpoint of the log is not signed by this steward")]
    Checkpoint(#[source] CheckpointRefusal),
    /// Leaves of a tile can't be read or written.
    #[error("leaves in {}", path.display())]
    Entries {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: EntriesError,
    },
    /// Records of a tile can't be read.
    #[error("{} ends within a record", path.display())]
    Records {
        /// The file.
        path: PathBuf,
    },
    /// A tile can't be read.
    #[error("read a tile of the log")]
    Tile(#[from] TileError<io::Error>),
    /// Leaves or tiles are not those that were signed. Nothing may be appended: it would hide that.
    #[error("{} is not the log that was signed: {signed} leaves with another root", dir.display())]
    Damaged {
        /// Its directory.
        dir: PathBuf,
        /// Leaves that were signed.
        signed: u64,
    },
    /// There are leaves and no checkpoint.
    #[error("{} has no checkpoint", dir.display())]
    Headless {
        /// Its directory.
        dir: PathBuf,
    },
    /// What was cosigned last is damaged. Nothing may be cosigned: it could be a tree that excludes it.
    #[error("{} is not the checkpoint that was cosigned last", path.display())]
    Forgotten {
        /// The file.
        path: PathBuf,
    },
}

/// How a tree grew from an older one.
#[derive(Debug)]
pub(super) enum Growth {
    /// The older one is its beginning.
    From {
        /// Leaves of the older one.
        old: u64,
        /// Shows it.
        proof: ConsistencyProof,
    },
    /// This log never had the older one, as far as it knows itself.
    Never,
}

/// The tiles of a tree of this size as those of a smaller one, whose own may be gone.
pub(super) struct Widest<'f> {
    pub(super) files: &'f LogFiles,
    pub(super) size: u64,
}

impl TileSource for Widest<'_> {
    type Error = io::Error;

    fn read(&self, address: TileAddress) -> io::Result<Vec<u8>> {
        let widest = TileAddress::within(self.size, address.level(), address.index());
        self.files.read(widest.unwrap_or(address))
    }
}

/// What a leaf shall say; the log adds when, and which leaf was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) kind: LeafKind,
    pub(super) subject: Subject,
    pub(super) epoch: Option<u32>,
    pub(super) actor: KeyId,
    /// Id and envelope of the record that says so.
    pub(super) record: Option<(RecordId, Vec<u8>)>,
}

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    files: LogFiles,
    origin: LogOrigin,
    key: SigningKey,
    edge: Edge,
    /// Leaves of the last tile, as long as it is not full.
    rows: Vec<Row>,
    subjects: Subjects,
    note: Note,
    cosigned: Cosigned,
    /// A checkpoint was being replaced when the disk failed: what counts is what is there.
    is_in_doubt: bool,
}

impl Log {
    /// Opens a log and holds all its leaves against its checkpoint, or begins one.
    ///
    /// It may have been signed by one of the `former` keys last.
    pub(super) fn open(
        dir: &Path,
        origin: LogOrigin,
        key: SigningKey,
        former: &[PublicKey],
    ) -> Result<Self, LogError> {
        let files = LogFiles::open(dir)?;
        let note = match files.note()? {
            Some(note) => note,
            None if files.has_any() => return Err(LogError::Headless { dir: dir.to_owned() }),
            None => {
                let first = Checkpoint { origin, head: Edge::new().head() }.sign(&key);
                files.put_note(&first)?;
                first
            }
        };
        let log = former.iter().copied().chain([key.public()]).collect();
        let keys = CheckpointKeys { log, witnesses: Vec::new() };
        let signed = keys.verify(&note, &origin).map_err(LogError::Checkpoint)?.checkpoint.head;
        if files.remove_behind(signed.size)? {
            tracing::warn!(
                dir = %dir.display(),
                leaves = signed.size,
                "the audit log had leaves behind its checkpoint, from a write that was broken off before anybody \
                 heard of it: they are removed"
            );
        }
        let (edge, rows, subjects) = (Edge::new(), Vec::new(), Subjects::default());
        let cosigned = Cosigned::open(&files)?;
        let mut log = Self { files, origin, key, edge, rows, subjects, note, cosigned, is_in_doubt: false };
        log.read(signed.size)?;
        if log.head() != signed {
            return Err(LogError::Damaged { dir: dir.to_owned(), signed: signed.size });
        }
        log.mend(signed.size)?;
        // A start knows no former keys yet, and has to open it as well.
        if !former.is_empty() {
            let key = SigningKey::from_seed(*log.key.seed());
            log.countersign(&key)?;
        }
        Ok(log)
    }

    /// Believes the disk again, not the memory.
    fn reopen(&mut self) -> Result<(), LogError> {
        let key = SigningKey::from_seed(*self.key.seed());
        *self = Self::open(self.files.dir(), self.origin, key, &[])?;
        Ok(())
    }

    /// Reads so many leaves.
    fn read(&mut self, size: u64) -> Result<(), LogError> {
        for tile in (0..).map_while(|index| TileAddress::within(size, 0, index)) {
            let rows = self.files.rows(tile)?;
            for (index, Row { leaf, record }) in (self.edge.size()..).zip(&rows) {
                // What a newer release has written is about somebody whom this one does not know.
                if let Ok(leaf) = Leaf::from_bytes(leaf) {
                    self.subjects.note(&leaf, record, index);
                }
            }
            self.edge.append(rows.iter().map(|row| TreeHash::leaf(&row.leaf)));
            self.rows = if u64::from(tile.width()) < TILE_WIDTH { rows } else { Vec::new() };
        }
        Ok(())
    }

    /// Writes tiles again that are missing or damaged: they follow from the leaves, which are what was signed.
    fn mend(&self, size: u64) -> Result<(), LogError> {
        let mut edge = Edge::new();
        for tile in (0..).map_while(|index| TileAddress::within(size, 0, index)) {
            let leaves = self.files.rows(tile)?;
            for tile in edge.append(leaves.iter().map(|row| TreeHash::leaf(&row.leaf))) {
                let address = tile.address;
                let is_kept = TileAddress::within(size, address.level(), address.index()) == Some(address);
                if is_kept && !self.files.read(address).is_ok_and(|bytes| bytes == tile.bytes) {
                    tracing::warn!(tile = %address, "a tile of the audit log is damaged, writing it again");
                    self.files.put_tile(&tile)?;
                }
            }
        }
        Ok(())
    }

    /// Whether any leaf is about a subject.
    pub(super) fn knows(&self, subject: &Subject) -> bool {
        self.subjects.of(subject).is_some()
    }

    /// Whether this is the certificate of its subject that was logged last.
    pub(super) fn has_certificate(&self, subject: &Subject, record: &RecordId) -> bool {
        self.subjects.of(subject).is_some_and(|said| said.certified == Some(*record))
    }

    /// Whether any key of a subject is logged.
    pub(super) fn has_key(&self, subject: &Subject) -> bool {
        self.subjects.of(subject).is_some_and(Said::has_key)
    }

    /// Whether a node may say this of a key: it was said before, or it goes on from what was said.
    pub(super) fn allows(&self, statement: &Statement, now: Timestamp) -> bool {
        let (leaf, epoch) = (self.leaf(statement, now), statement.epoch.unwrap_or_default());
        let record = statement.record.as_ref().map_or(&[][..], |(_, envelope)| envelope);
        let is_new = self.subjects.find(&leaf, record).is_none();
        let said = self.subjects.of(&statement.subject);
        !is_new || said.is_some_and(|said| said.allows(statement.kind, epoch))
    }

    /// Whether the revocation of a subject is logged.
    pub(super) fn has_revoked(&self, subject: &Subject) -> bool {
        self.subjects.of(subject).is_some_and(|said| said.is_revoked)
    }

    /// Puts the records that prove the log's keys beside it.
    pub(super) fn put_chain(&self, chain: &[Vec<u8>]) -> Result<(), LogError> {
        self.files.put_chain(chain)
    }

    /// Size and root.
    pub(super) fn head(&self) -> TreeHead {
        self.edge.head()
    }

    /// Whose it is.
    pub(super) fn origin(&self) -> LogOrigin {
        self.origin
    }

    /// Key that signs it.
    pub(super) fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// Signs the newest checkpoint with a second key as well: whichever of both is there after a crash, it is believed.
    pub(super) fn countersign(&mut self, key: &SigningKey) -> Result<(), LogError> {
        if self.is_in_doubt {
            self.reopen()?;
        }
        let mut note = self.note.clone();
        for signature in (Checkpoint { origin: self.origin, head: self.head() }).sign(key).signatures() {
            if !note.signatures().contains(signature) {
                note.add(signature.clone()).map_err(|source| self.files.bad_note(source))?;
            }
        }
        self.files.put_note(&note)?;
        self.note = note;
        Ok(())
    }

    /// Signs with another key from the next checkpoint on.
    pub(super) fn sign_with(&mut self, key: SigningKey) {
        self.key = key;
    }

    /// Newest checkpoint with the cosignatures that came by now.
    pub(super) fn note(&self) -> &Note {
        &self.note
    }

    /// The largest tree that a witness has cosigned by one of its keys, as far as its note is at hand.
    pub(super) fn cosigned_by(&self, witness: &OrgId, keys: &[PublicKey]) -> Option<TreeHead> {
        let name = LogOrigin { org: *witness, ..self.origin }.to_string();
        let is_cosigned =
            |note: &&Note| keys.iter().any(|key| note.cosigned_by(&name, key).is_ok_and(|at| at.is_some()));
        let note = std::iter::once(&self.note).chain(self.cosigned.newest().rev()).find(is_cosigned)?;
        Some(note.text().parse::<Checkpoint>().ok()?.head)
    }

    /// Shows that the newest tree grew from an older one; from nothing, if none is given.
    pub(super) fn growth(&self, from: Option<TreeHead>) -> Result<Growth, LogError> {
        let now = self.head();
        let Some(old) = from else {
            return Ok(Growth::From { old: 0, proof: ConsistencyProof::default() });
        };
        if old.size > now.size {
            return Ok(Growth::Never);
        }
        let proof = prove_consistency(&self.files, old.size, now.size)?;
        let is_ours = proof.verify(&old, &now).is_ok();
        Ok(if is_ours { Growth::From { old: old.size, proof } } else { Growth::Never })
    }

    /// Shows how the log grew from one size to another: its checkpoint of the first, the proof, and that of the second.
    /// None if it never had so many leaves.
    pub(super) fn grown(
        &self,
        old: u64,
        new: u64,
    ) -> Result<Option<(Note, ConsistencyProof, Note)>, LogError> {
        if old > new || new > self.head().size {
            return Ok(None);
        }
        let proof = prove_consistency(&self.widest(), old, new)?;
        Ok(Some((self.note_of(old)?, proof, self.note_of(new)?)))
    }

    /// Signs the checkpoint of a tree that the log has had.
    pub(super) fn note_of(&self, size: u64) -> Result<Note, LogError> {
        let (now, tiles) = (self.head(), self.widest());
        let head = tree_head(&tiles, size)?;
        // Files are not believed: what is signed must be a beginning of the tree that was.
        if prove_consistency(&tiles, size, now.size)?.verify(&head, &now).is_err() {
            return Err(LogError::Damaged { dir: self.files.dir().to_owned(), signed: now.size });
        }
        Ok(Checkpoint { origin: self.origin, head }.sign(&self.key))
    }

    fn widest(&self) -> Widest<'_> {
        Widest { files: &self.files, size: self.head().size }
    }

    /// Leaves with their records from one on, as far as its tile goes.
    pub(super) fn rows_from(&self, from: u64) -> Result<Vec<Row>, LogError> {
        let size = self.head().size;
        let tile = TileAddress::within(size, 0, from / TILE_WIDTH).filter(|_| from < size);
        let Some(tile) = tile else { return Ok(Vec::new()) };
        let is_last = u64::from(tile.width()) < TILE_WIDTH;
        let rows = if is_last { self.rows.clone() } else { self.files.rows(tile)? };
        Ok(rows.into_iter().skip(usize::try_from(from % TILE_WIDTH).unwrap_or(0)).collect())
    }

    /// The cosigned checkpoint that is kept of a size, as bytes.
    pub(super) fn cosigned_at(&self, size: u64) -> Option<Vec<u8>> {
        Some(self.cosigned.read(&self.files, size)?.to_string().into_bytes())
    }

    /// Sizes of the cosigned checkpoints that may have changed since the log had this size, the largest first.
    pub(super) fn cosigned_since(&self, size: u64) -> impl Iterator<Item = u64> {
        self.cosigned.last_of(size)
    }

    /// Stores a verified cosignature of one of the log's checkpoints.
    pub(super) fn add_cosignature(
        &mut self,
        note: &Note,
        size: u64,
        signature: NoteSignature,
    ) -> Result<(), LogError> {
        let mut kept = self.cosigned.read(&self.files, size).unwrap_or_else(|| note.clone());
        kept.add(signature.clone()).map_err(|source| self.files.bad_further(size, source))?;
        self.cosigned.keep(&self.files, size, kept)?;
        if self.note.text() == note.text() && !self.is_in_doubt {
            let mut newest = self.note.clone();
            newest.add(signature).map_err(|source| self.files.bad_note(source))?;
            self.files.put_note(&newest)?;
            self.note = newest;
        }
        Ok(())
    }

    /// Appends what was not said lately. When this returns, all of it is on disk and signed, or nothing of it is.
    ///
    /// Gives back the index of each.
    pub(super) fn append(&mut self, statements: &[Statement], now: Timestamp) -> Result<Vec<u64>, LogError> {
        if self.is_in_doubt {
            self.reopen()?;
        }
        let before = self.edge.size();
        let (mut fresh, mut noted, mut rows) = (Subjects::default(), Vec::new(), Vec::new());
        let mut indices = Vec::with_capacity(statements.len());
        for statement in statements {
            let leaf = self.leaf(statement, now);
            let record = statement.record.as_ref().map_or(&[][..], |(_, envelope)| envelope);
            let said = fresh.find(&leaf, record).or_else(|| self.subjects.find(&leaf, record));
            if let Some(index) = said {
                indices.push(index);
                continue;
            }
            let index = before + rows.len() as u64;
            let prev = fresh.last(&leaf.subject).or_else(|| self.subjects.last(&leaf.subject));
            let leaf = Leaf { prev, ..leaf };
            rows.push(Row { leaf: leaf.to_bytes(), record: record.to_vec() });
            fresh.note(&leaf, record, index);
            noted.push((leaf, record, index));
            indices.push(index);
        }
        if !rows.is_empty() {
            self.write(rows)?;
            noted.iter().for_each(|(leaf, record, index)| self.subjects.note(leaf, record, *index));
        }
        Ok(indices)
    }

    fn leaf(&self, statement: &Statement, now: Timestamp) -> Leaf {
        let Statement { kind, subject, epoch, actor, record } = statement;
        Leaf {
            epoch: *epoch,
            record: record.as_ref().map(|(id, _)| *id),
            ..Leaf::new(now, *kind, self.origin.org, *subject, *actor)
        }
    }

    fn write(&mut self, rows: Vec<Row>) -> Result<(), LogError> {
        let before = self.edge.size();
        let (edge, last) = self.files.append(&self.edge, &self.rows, rows)?;
        let note = Checkpoint { origin: self.origin, head: edge.head() }.sign(&self.key);
        self.is_in_doubt = true;
        self.files.put_note(&note)?;
        self.is_in_doubt = false;
        self.files.remove_narrower(before, edge.size());
        (self.edge, self.rows, self.note) = (edge, last, note);
        Ok(())
    }

    /// Proves leaves of the newest tree.
    pub(super) fn prover(&self) -> Prover<'_> {
        Prover::new(self)
    }
}
