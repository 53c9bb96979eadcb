//! Copies of the logs of other organisations: evidence outlives whoever leaves the mesh, or loses its disk.
//!
//! A copy is a log directory as auditors read it. It comes in pages: leaves with their records, and the checkpoint that the
//! log signs of the tree that ends with them, which is written last. Whatever lies behind it at the next start is
//! removed, as in the log itself. The cosigned checkpoints come with the leaves, or later, as the witnesses do.

#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use meshd_trust::log::{
    Checkpoint, CheckpointKeys, Edge, Evidence, LogOrigin, Note, TILE_WIDTH, TileAddress, TileError,
    TreeHash, TreeHead, tree_head,
};
use meshd_wire::enrol::{CopiedRow, EnrolReply, Refused};
use meshd_wire::limits::{FRAME_BYTES_MAX, RECORD_BYTES_MAX};
use meshd_wire::{Envelope, Leaf, MeshId, OrgId, PublicKey, Timestamp};
use minicbor::bytes::ByteVec;
use rustix::fs::statvfs;

use super::log::{Cosigned, LogFiles, NOTES_MAX, Row, Widest};
use super::{Answer, Declined, LogError, Steward};
use crate::enrol::Copied;
use crate::whole_file::{FileError, make_dirs};

/// Directory of the copies, a log for each organisation.
const MIRROR: &str = "mirror";
/// What stands behind the name of a copy that was put aside.
const DAMAGED: &str = "damaged";
const FORMER: &str = "former";
/// Questions of one node: it has one a second at most, and each costs the reads of a tile.
pub(super) const COPIES_PER_S: u32 = 2;
pub(super) const COPIES_AT_ONCE: u32 = 8;
/// Room in a reply for leaves, records and cosigned checkpoints; the rest is more than a checkpoint needs.
const PAGE_BYTES_MAX: usize = FRAME_BYTES_MAX - 128 * 1024;
/// Cosigned checkpoints in a reply: each is written by itself.
const COSIGNED_MAX: usize = NOTES_MAX + 16;
/// Bytes before a leaf and its record, or before a cosigned checkpoint, at most.
const HEAD_LEN: usize = 16;
/// Room on the disk that copies of others leave to this host.
const DISK_LEFT_BYTES: u64 = 256 << 20;

/// Reports a part of a log that is not taken into its copy.
#[derive(Debug, thiserror::Error)]
pub enum NotCopied {
    /// The checkpoint is not one of the log.
    #[error("what came is no checkpoint of the log")]
    Checkpoint,
    /// The log has forgotten leaves.
    #[error("the log has {size} leaves, fewer than were copied")]
    Shrunk {
        /// Its leaves now.
        size: u64,
    },
    /// The leaves are not those of the checkpoint.
    #[error("the log gave other leaves than its checkpoint of {size} has")]
    Other {
        /// Leaves of the checkpoint.
        size: u64,
    },
    /// The log has signed two trees of one size.
    #[error("the log has signed two trees of one size")]
    Forked(Box<Evidence>),
    /// Others would be left with too little of the disk.
    #[error("the disk has {left} bytes left, and copies stop at {DISK_LEFT_BYTES}")]
    Room {
        /// Bytes that are left.
        left: u64,
    },
    /// The copy can't be read or written.
    #[error("keep a copy of the log")]
    Files(#[from] LogError),
}

/// A log, and who may have signed what of it.
#[derive(Debug)]
pub struct CopyTerms {
    /// Organisation whose log it is.
    pub org: OrgId,
    /// Keys that may sign it now.
    pub log_keys: Vec<PublicKey>,
    /// Keys that ever did, and those of all witnesses.
    pub keys_ever: CheckpointKeys,
}

/// The copy of a log.
#[derive(Debug)]
pub(super) struct Mirror {
    files: LogFiles,
    edge: Edge,
    /// Leaves of the last tile, as long as it is not full.
    rows: Vec<Row>,
    cosigned: Cosigned,
}

impl Mirror {
    /// Opens a copy, or begins one. What its checkpoint does not vouch for is removed.
    fn open(dir: &Path) -> Result<Self, LogError> {
        let files = LogFiles::open(dir)?;
        let damaged = |signed| LogError::Damaged { dir: dir.to_owned(), signed };
        let mut cosigned = Cosigned::open(&files)?;
        let head = match files.note()? {
            Some(note) => note.text().parse::<Checkpoint>().map_err(|_| damaged(0))?.head,
            // More than a first page that was broken off.
            None if cosigned.largest() > TILE_WIDTH => {
                return Err(LogError::Headless { dir: dir.to_owned() });
            }
            None => Edge::new().head(),
        };
        let edge = Edge::resume(&files, head.size)?;
        let last = TileAddress::within(head.size, 0, head.size / TILE_WIDTH);
        let rows = last.map_or(Ok(Vec::new()), |tile| files.rows(tile))?;
        // The leaves of a tile that is not full are written again with those that follow: they have to be right as well.
        let mut from_leaves = Edge::resume(&files, head.size - rows.len() as u64)?;
        from_leaves.append(rows.iter().map(|row| TreeHash::leaf(&row.leaf)));
        if edge.head() != head || from_leaves.head() != head {
            return Err(damaged(head.size));
        }
        files.remove_behind(head.size)?;
        cosigned.cut(&files, head.size);
        Ok(Self { files, edge, rows, cosigned })
    }

    fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Takes in a page. True if it says anything new.
    fn take(
        &mut self,
        page: Copied,
        (origin, terms): (&LogOrigin, &CopyTerms),
        chain: &[Vec<u8>],
    ) -> Result<bool, NotCopied> {
        let note = Note::from_bytes(&page.checkpoint).map_err(|_| NotCopied::Checkpoint)?;
        let keys = CheckpointKeys { log: terms.log_keys.clone(), witnesses: Vec::new() };
        let head = keys.verify(&note, origin).map_err(|_| NotCopied::Checkpoint)?.checkpoint.head;
        let note = note.signed_alone_by(&origin.to_string(), &terms.log_keys);
        let rows: Vec<Row> = page.rows.into_iter().map(|row| with_its_record(&origin.mesh, row)).collect();
        self.judge(&rows, &note, head)?;
        leave_room(self.files.dir(), DISK_LEFT_BYTES)?;
        // Who reads a note finds beside it who may sign.
        self.files.put_chain(chain)?;
        let (before, has_grown) = (self.size(), !rows.is_empty());
        let grown = if has_grown { Some(self.files.append(&self.edge, &self.rows, rows)?) } else { None };
        let says_more = self.take_cosigned(&page.cosigned, head.size, origin, &terms.keys_ever)?;
        if let Some((edge, last)) = grown {
            // Last: what lies behind it after a crash comes again, with its cosigned checkpoints.
            self.files.put_note(&note)?;
            self.files.remove_narrower(before, head.size);
            (self.edge, self.rows) = (edge, last);
        }
        Ok(has_grown || says_more)
    }

    /// Holds rows against what there is, and the checkpoint of the tree that ends with them.
    fn judge(&self, rows: &[Row], note: &Note, head: TreeHead) -> Result<(), NotCopied> {
        let before = self.size();
        if head.size < before {
            return Err(NotCopied::Shrunk { size: head.size });
        }
        if rows.len() as u64 > TILE_WIDTH - before % TILE_WIDTH {
            return Err(NotCopied::Other { size: head.size });
        }
        let mut edge = self.edge.clone();
        edge.append(rows.iter().map(|row| TreeHash::leaf(&row.leaf)));
        if edge.head() == head {
            return Ok(());
        }
        let kept = self.files.note()?.filter(|_| head.size == before && head != self.edge.head());
        let evidence = kept.map(|kept| Box::new(Evidence::new(kept, note.clone())));
        Err(evidence.map_or(NotCopied::Other { size: head.size }, NotCopied::Forked))
    }

    /// Takes in cosigned checkpoints of a tree of this size, whose tiles are there. True if one of them says anything new.
    fn take_cosigned(
        &mut self,
        notes: &[Vec<u8>],
        size: u64,
        origin: &LogOrigin,
        keys: &CheckpointKeys,
    ) -> Result<bool, NotCopied> {
        let (mut is_news, mut refused) = (false, notes.len().saturating_sub(COSIGNED_MAX));
        for bytes in notes.iter().take(COSIGNED_MAX) {
            let believed = believe(bytes, origin, keys).filter(|(head, _)| head.size <= size);
            let Some((head, note)) = believed else {
                refused += 1;
                continue;
            };
            let before = self.cosigned.read(&self.files, head.size);
            if let Some(before) = before.as_ref().filter(|before| before.text() != note.text()) {
                return Err(NotCopied::Forked(Box::new(Evidence::new(before.clone(), note))));
            }
            let tiles = Widest { files: &self.files, size };
            if before.is_none() && !tree_head(&tiles, head.size).is_ok_and(|found| found == head) {
                refused += 1;
                continue;
            }
            let mut kept = before.clone().unwrap_or_else(|| note.clone());
            // The first that a key has made counts.
            for signature in note.signatures() {
                if !kept.has_one_of_key(signature) {
                    let added = kept.add(signature.clone());
                    added.map_err(|source| self.files.bad_further(head.size, source))?;
                }
            }
            if before.as_ref() == Some(&kept) {
                continue;
            }
            self.cosigned.keep(&self.files, head.size, kept)?;
            is_news |= self.cosigned.of(head.size).is_some();
        }
        if refused > 0 {
            let org = origin.org.short();
            tracing::warn!(
                org,
                refused,
                "an audit log gave checkpoints that nobody cosigned, or not of its tree"
            );
        }
        Ok(is_news)
    }

    /// Whether one of these keys has signed what there is, or there is nothing.
    fn is_signed_by(&self, origin: &LogOrigin, keys: &[PublicKey]) -> Result<bool, LogError> {
        let Some(note) = self.files.note()? else { return Ok(true) };
        let name = origin.to_string();
        Ok(keys.iter().any(|key| note.is_signed_by(&name, key).unwrap_or(false)))
    }

    /// Whether each of these organisations has cosigned the newest checkpoint.
    fn is_cosigned_by(&self, witnesses: &[LogOrigin]) -> bool {
        let note = self.cosigned.of(self.size());
        // Signatures of others are not kept.
        let has =
            |name: &str| note.is_some_and(|note| note.signatures().iter().any(|one| one.name() == name));
        witnesses.iter().all(|witness| has(&witness.to_string()))
    }
}

impl Steward {
    /// Gives a node a part of this steward's log.
    pub(super) fn tell_copy(
        &mut self,
        peer: &PublicKey,
        from: u64,
        now: Timestamp,
    ) -> Result<Answer, Declined> {
        if !self.copy_quotas.take(peer, now) {
            return Err(Refused::Unavailable.into());
        }
        let log = self.log.as_ref().ok_or(Refused::Unavailable)?;
        let mut room = PAGE_BYTES_MAX / 4;
        let since = log.cosigned_since(from).filter_map(|size| log.cosigned_at(size));
        let mut cosigned: Vec<Vec<u8>> = since.take_while(|note| fits(&mut room, note.len())).collect();
        let (mut room, mut rows, mut noted) = (PAGE_BYTES_MAX * 3 / 4, Vec::new(), None);
        for (row, size) in log.rows_from(from)?.into_iter().zip(from.saturating_add(1)..) {
            let note = log.cosigned_at(size);
            let bytes = row.leaf.len() + row.record.len() + HEAD_LEN + note.as_ref().map_or(0, Vec::len);
            if !fits(&mut room, bytes) || cosigned.len() == COSIGNED_MAX {
                break;
            }
            rows.push(CopiedRow { leaf: row.leaf, record: row.record });
            if let Some(note) = note {
                cosigned.push(note);
                noted = Some(rows.len());
            }
        }
        // As far as others have seen it, if it does not come to its end.
        if let Some(noted) = noted.filter(|_| from + (rows.len() as u64) < log.head().size) {
            rows.truncate(noted);
        }
        let checkpoint =
            if rows.is_empty() { log.note().clone() } else { log.note_of(from + rows.len() as u64)? };
        let (checkpoint, cosigned) =
            (checkpoint.to_string().into_bytes(), cosigned.into_iter().map(ByteVec::from).collect());
        Ok(Answer::silent(EnrolReply::Copied { rows, checkpoint, cosigned }))
    }

    /// The leaf from which the copy of another log goes on, which has so many leaves and these witnesses; none if
    /// nothing is missing.
    pub fn copy_from(
        &mut self,
        org: &OrgId,
        size: u64,
        witnesses: &[OrgId],
    ) -> Result<Option<u64>, LogError> {
        let Some(own) = self.own_origin() else { return Ok(None) };
        let witnesses: Vec<LogOrigin> = witnesses.iter().map(|org| LogOrigin { org: *org, ..own }).collect();
        let size = self.shown.get(org).map_or(size, |shown| size.max(*shown));
        let mirror = self.mirror(org)?;
        let is_whole = mirror.size() >= size && mirror.is_cosigned_by(&witnesses);
        Ok((!is_whole).then(|| mirror.size()))
    }

    /// Takes in what a log gave from a leaf on. True if it says anything new.
    pub fn on_copied(&mut self, from: u64, page: Copied, terms: &CopyTerms) -> Result<bool, NotCopied> {
        let Some(own) = self.own_origin() else { return Ok(false) };
        // Without it nobody could tell who may sign.
        let Some(chain) = self.wake().ok().map(|()| self.chain()).filter(|chain| !chain.is_empty()) else {
            return Ok(false);
        };
        let origin = LogOrigin { org: terms.org, ..own };
        let mirror = self.mirror(&terms.org)?;
        if mirror.size() != from {
            return Ok(false);
        }
        let taken = mirror.take(page, (&origin, terms), &chain);
        match &taken {
            // What is on disk may be ahead of what is in memory.
            Err(NotCopied::Files(_)) => drop(self.mirrors.remove(&terms.org)),
            // By its new keys it begins anew: the copy of what it was stays beside the one of what it is.
            Err(NotCopied::Shrunk { .. } | NotCopied::Other { .. } | NotCopied::Forked(_))
                if !mirror.is_signed_by(&origin, &terms.log_keys)? =>
            {
                let dir = mirror.files.dir().to_owned();
                self.mirrors.remove(&terms.org);
                let kept = set_aside(&dir, FORMER)?;
                tracing::warn!(dir = %kept.display(), "the copy of a log does not go on under its new keys");
            }
            Ok(_) | Err(_) => {}
        }
        taken
    }

    fn mirror(&mut self, org: &OrgId) -> Result<&mut Mirror, LogError> {
        let dir = self.dir.join(MIRROR).join(org.to_string());
        match self.mirrors.entry(*org) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(closed) => {
                make_dirs(&self.dir, &self.dir.join(MIRROR))?;
                let mirror = Mirror::open(&dir).or_else(|error| {
                    // Of what can't be read at this moment nothing is known.
                    if !is_damage(&error) {
                        return Err(error);
                    }
                    let Ok(aside) = set_aside(&dir, DAMAGED) else { return Err(error) };
                    let error = crate::chain::of(&error);
                    tracing::error!(error, dir = %aside.display(), "a copy of a log was damaged, and is put aside");
                    Mirror::open(&dir)
                })?;
                Ok(closed.insert(mirror))
            }
        }
    }
}

/// Takes room for so many bytes and what is written before them; false if it is too little.
fn fits(room: &mut usize, bytes: usize) -> bool {
    let rest = room.checked_sub(bytes + HEAD_LEN);
    *room = rest.unwrap_or(0);
    rest.is_some()
}

/// Believes a checkpoint that the log signed and others cosigned, without what anybody else has signed.
fn believe(bytes: &[u8], origin: &LogOrigin, keys: &CheckpointKeys) -> Option<(TreeHead, Note)> {
    let note = Note::from_bytes(bytes).ok()?;
    let verified = keys.verify(&note, origin).ok().filter(|verified| !verified.cosigned.is_empty())?;
    Some((verified.checkpoint.head, keys.without_strangers(&note, origin)))
}

/// Holds the room that is left on a disk against what has to stay.
fn leave_room(dir: &Path, bytes: u64) -> Result<(), NotCopied> {
    let disk = statvfs(dir)
        .map_err(|error| LogError::File(FileError::new("look at the disk of", dir, error.into())))?;
    let left = disk.f_bavail.saturating_mul(disk.f_frsize);
    if left < bytes { Err(NotCopied::Room { left }) } else { Ok(()) }
}

/// A row with the record that its leaf names. Another one is left out, as one that the log does not have: its leaf counts all
/// the same. Of leaves and records of a newer release nothing is known but how large they may be.
fn with_its_record(mesh: &MeshId, CopiedRow { leaf, mut record }: CopiedRow) -> Row {
    let is_named = |id| {
        let envelope = Envelope::from_bytes(&record);
        envelope.is_ok_and(|envelope| envelope.record_id(mesh).is_none_or(|found| found == id))
    };
    let is_right = record.len() <= RECORD_BYTES_MAX
        && Leaf::from_bytes(&leaf).map_or(true, |leaf| leaf.record.is_some_and(is_named));
    if !is_right {
        record.clear();
    }
    Row { leaf, record }
}

/// Whether an error says that files are not what they were, not that they can't be read now.
fn is_damage(error: &LogError) -> bool {
    let is_damaged = |kind| matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge);
    match error {
        LogError::Damaged { .. }
        | LogError::Headless { .. }
        | LogError::Note { .. }
        | LogError::Entries { .. }
        | LogError::Records { .. }
        | LogError::Checkpoint(_)
        | LogError::Forgotten { .. } => true,
        LogError::File(error) => is_damaged(error.source.kind()),
        LogError::Tile(TileError::Read { source, .. }) => is_damaged(source.kind()),
        LogError::Tile(TileError::Length { .. } | TileError::Size { .. } | TileError::Range { .. }) => true,
    }
}

/// Moves a copy out of the way of another one, and says where to. Of two, the first stays where it is.
fn set_aside(dir: &Path, why: &str) -> Result<PathBuf, LogError> {
    let aside = dir.with_extension(why);
    if aside.exists() {
        let there = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(FileError::new("move a copy to", &aside, there).into());
    }
    fs::rename(dir, &aside).map_err(|source| FileError::new("move a copy to", &aside, source))?;
    Ok(aside)
}
