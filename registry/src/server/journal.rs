//! The registry on disk.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcd_client::proto::{PbEvent, PbKeyValue};
use prost::Message;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use crate::backoff::dice;
use crate::server::authorise::ClientKey;
use crate::server::state::{Batch, Change, Key, KeyEvent, LeaseTerms, Record};

/// redb's page cache. Everything is served from memory, so that only commits use it.
const CACHE_BYTES: usize = 1 << 20;
/// Only the daemon reads the registry's file.
const FILE_MODE: u32 = 0o600;
/// Layout of the tables below.
const FORMAT: u64 = 1;

/// Key → owner (empty: none), etcd `KeyValue`.
const KV: TableDefinition<'_, &[u8], (&[u8], &[u8])> = TableDefinition::new("kv");
/// Revision and index within it → etcd `Event` with the previous value.
const LOG: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("log");
/// Lease → time to live in seconds, owner.
const LEASES: TableDefinition<'_, i64, (u64, &[u8])> = TableDefinition::new("leases");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_HISTORY: &str = "history";
const META_REVISION: &str = "revision";
const META_COMPACTED: &str = "compacted";

/// `type` of a deletion on the wire.
const WIRE_DELETE: i32 = 1;

/// Why a registry file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file cannot be read or written.
    #[error("registry file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("registry file {} is in use by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The contents are damaged.
    #[error("registry file {} is corrupt: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// It was written by a newer version.
    #[error("registry file {} has format {format}, this version knows {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// The writer thread could not be started.
    #[error("registry {}: writer thread could not be started: {source}", path.display())]
    Thread {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The runtime was shut down meanwhile.
    #[error("opening registry file {} was interrupted: {reason}", path.display())]
    Interrupted {
        /// The file.
        path: PathBuf,
        /// The runtime's words.
        reason: String,
    },
}

/// Everything a journal holds.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) history: u64,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) kv: Vec<(Key, Arc<Record>)>,
    pub(super) log: Vec<Change>,
    pub(super) leases: BTreeMap<i64, LeaseTerms>,
}

/// Opens the database; a seam for tests of failing disks.
type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// The redb file; after a failed write it is opened anew before the next one, as redb demands.
pub(super) struct Journal {
    path: PathBuf,
    opener: Opener,
    db: Option<Database>,
}

/// A commit did not happen, or only perhaps.
#[derive(Debug, thiserror::Error)]
#[error("registry storage failed: {source}")]
pub(super) struct CommitFailed {
    #[from]
    source: redb::Error,
}

impl CommitFailed {
    pub(super) fn is_out_of_space(&self) -> bool {
        matches!(&self.source, redb::Error::Io(error)
            if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge))
    }
}

impl Journal {
    pub(super) fn open(path: PathBuf) -> Result<(Self, Loaded), OpenError> {
        let file = path.clone();
        Self::open_with(path, Box::new(move || open_file(&file)))
    }

    pub(super) fn open_with(path: PathBuf, opener: Opener) -> Result<(Self, Loaded), OpenError> {
        let mut journal = Self { path, opener, db: None };
        let loaded = journal.reopen()?;
        Ok((journal, loaded))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last write failed, so that memory and disk may differ.
    pub(super) fn is_broken(&self) -> bool {
        self.db.is_none()
    }

    /// Opens the file (again) and reads it.
    pub(super) fn reopen(&mut self) -> Result<Loaded, OpenError> {
        self.db = None;
        // redb asserts on some damage instead of reporting it; a damaged file must not end the daemon.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let db = (self.opener)().map_err(|error| self.open_error(error))?;
            let loaded = self.prepare(&db)?;
            Ok((db, loaded))
        }));
        let (db, loaded) = outcome.unwrap_or_else(|_| Err(self.corrupt("unreadable pages")))?;
        self.db = Some(db);
        Ok(loaded)
    }

    /// Makes a batch durable, all or nothing.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), CommitFailed> {
        let Some(db) = &self.db else {
            return Err(redb::Error::PreviousIo.into());
        };
        // As at opening: redb asserts on some damage, and the writer must outlive that.
        let outcome = catch_unwind(AssertUnwindSafe(|| write(db, batch)))
            .unwrap_or_else(|_| Err(redb::Error::Corrupted(String::from("unreadable pages"))));
        if outcome.is_err() {
            self.db = None;
        }
        outcome.map_err(CommitFailed::from)
    }

    fn prepare(&self, db: &Database) -> Result<Loaded, OpenError> {
        let failed = |error: redb::Error| self.open_error(error);
        initialise(db).map_err(failed)?;
        let format = format_of(db).map_err(failed)?;
        if format != FORMAT {
            return Err(OpenError::Format { path: self.path.clone(), format });
        }
        match read(db) {
            Ok(Ok(loaded)) => Ok(loaded),
            Ok(Err(reason)) => Err(self.corrupt(reason)),
            Err(error) => Err(self.open_error(error)),
        }
    }

    fn corrupt(&self, reason: &str) -> OpenError {
        OpenError::Corrupt { path: self.path.clone(), reason: reason.to_owned() }
    }

    fn open_error(&self, error: impl Into<redb::Error>) -> OpenError {
        let path = self.path.clone();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse { path },
            // redb says so of a file that is not one of its own.
            redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                OpenError::Corrupt { path, reason: source.to_string() }
            }
            redb::Error::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                OpenError::Corrupt { path, reason: String::from("file is cut short") }
            }
            redb::Error::Io(source) => OpenError::Io { path, source },
            other => OpenError::Corrupt { path, reason: other.to_string() },
        }
    }
}

fn open_file(path: &Path) -> Result<Database, DatabaseError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
        .map_err(StorageError::Io)?;
    let new = file.metadata().map_err(StorageError::Io)?.len() == 0;
    let db = Database::builder().set_cache_size(CACHE_BYTES).create_file(file)?;
    if let (true, Some(folder)) = (new, path.parent()) {
        // The name of a new file is durable only with its folder.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(StorageError::Io)?;
    }
    Ok(db)
}

fn initialise(db: &Database) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    {
        txn.open_table(KV)?;
        txn.open_table(LOG)?;
        txn.open_table(LEASES)?;
        let mut meta = txn.open_table(META)?;
        if meta.get(META_FORMAT)?.is_some() {
            drop(meta);
            return Ok(txn.abort()?);
        }
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_HISTORY, dice() | 1)?;
        // Like etcd, the empty registry is at revision one.
        meta.insert(META_REVISION, 1)?;
        meta.insert(META_COMPACTED, 0)?;
    }
    Ok(txn.commit()?)
}

fn format_of(db: &Database) -> Result<u64, redb::Error> {
    let txn = db.begin_read()?;
    let meta = txn.open_table(META)?;
    Ok(meta.get(META_FORMAT)?.map_or(0, |format| format.value()))
}

/// Reads everything; the inner error says what contradicts itself.
fn read(db: &Database) -> Result<Result<Loaded, &'static str>, redb::Error> {
    let txn = db.begin_read()?;
    let meta = txn.open_table(META)?;
    let number = |name| -> Result<Option<i64>, redb::Error> {
        Ok(meta.get(name)?.and_then(|value| i64::try_from(value.value()).ok()))
    };
    let (Some(revision), Some(compacted)) = (number(META_REVISION)?, number(META_COMPACTED)?) else {
        return Ok(Err("revision is missing"));
    };
    let Some(history) = meta.get(META_HISTORY)?.map(|value| value.value()) else {
        return Ok(Err("history number is missing"));
    };
    let mut kv = Vec::new();
    for row in txn.open_table(KV)?.iter()? {
        let (key, value) = row?;
        let (owner, bytes) = value.value();
        let (Some(owner), Ok(wire)) = (owner_from(owner), PbKeyValue::decode(bytes)) else {
            return Ok(Err("a value does not decode"));
        };
        let (name, record) = Record::from_wire(wire, owner);
        if *name != *key.value() || record.modified > revision {
            return Ok(Err("a value contradicts its key or revision"));
        }
        kv.push((name, Arc::new(record)));
    }
    let mut log: Vec<Change> = Vec::new();
    for row in txn.open_table(LOG)?.iter()? {
        let (place, bytes) = row?;
        let (Ok(rev), Ok(wire)) = (i64::try_from(place.value().0), PbEvent::decode(bytes.value())) else {
            return Ok(Err("an event does not decode"));
        };
        let Some(event) = event_from(wire) else {
            return Ok(Err("an event has no key"));
        };
        if rev > revision {
            return Ok(Err("an event is newer than the revision"));
        }
        match log.last_mut() {
            Some(change) if change.rev == rev => change.events.push(event),
            Some(_) | None => log.push(Change { rev, events: vec![event] }),
        }
    }
    let mut leases = BTreeMap::new();
    for row in txn.open_table(LEASES)?.iter()? {
        let (id, value) = row?;
        let (ttl_s, owner) = value.value();
        let Some(owner) = owner_from(owner) else {
            return Ok(Err("a lease has a malformed owner"));
        };
        leases.insert(id.value(), LeaseTerms { ttl_s, owner });
    }
    Ok(Ok(Loaded { history, revision, compacted, kv, log, leases }))
}

fn write(db: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let Batch { changes, leases, compact_to } = batch;
    let txn = db.begin_write()?;
    {
        let mut kv = txn.open_table(KV)?;
        let mut log = txn.open_table(LOG)?;
        let mut meta = txn.open_table(META)?;
        for change in changes {
            for (index, event) in (0u32..).zip(&change.events) {
                match &event.new {
                    Some(record) => {
                        let bytes = record.to_wire(&event.key).encode_to_vec();
                        kv.insert(&*event.key, (owner_bytes(&record.owner), bytes.as_slice()))?;
                    }
                    None => {
                        kv.remove(&*event.key)?;
                    }
                }
                let bytes = event.to_wire(change.rev).encode_to_vec();
                log.insert((change.rev.unsigned_abs(), index), bytes.as_slice())?;
            }
            meta.insert(META_REVISION, change.rev.unsigned_abs())?;
        }
        let mut table = txn.open_table(LEASES)?;
        for (id, terms) in leases {
            match terms {
                Some(terms) => table.insert(id, (terms.ttl_s, owner_bytes(&terms.owner)))?,
                None => table.remove(id)?,
            };
        }
        if let Some(rev) = compact_to {
            let rev = rev.unsigned_abs();
            log.retain_in((0, 0)..(rev, 0), |_, _| false)?;
            meta.insert(META_COMPACTED, rev)?;
        }
    }
    Ok(txn.commit()?)
}

impl KeyEvent {
    /// The event as watchers see it.
    pub(super) fn to_wire(&self, rev: i64) -> PbEvent {
        let prev_kv = self.prev.as_ref().map(|record| record.to_wire(&self.key));
        match &self.new {
            Some(record) => PbEvent { r#type: 0, kv: Some(record.to_wire(&self.key)), prev_kv },
            None => {
                let kv = PbKeyValue { key: self.key.to_vec(), mod_revision: rev, ..PbKeyValue::default() };
                PbEvent { r#type: WIRE_DELETE, kv: Some(kv), prev_kv }
            }
        }
    }
}

/// Owners are not kept in the log: only live keys count against a quota.
fn event_from(wire: PbEvent) -> Option<KeyEvent> {
    let deleted = wire.r#type == WIRE_DELETE;
    let (key, record) = Record::from_wire(wire.kv?, ClientKey::NONE);
    let prev = wire.prev_kv.map(|prev| Arc::new(Record::from_wire(prev, ClientKey::NONE).1));
    Some(KeyEvent { key, new: (!deleted).then(|| Arc::new(record)), prev })
}

fn owner_bytes(owner: &ClientKey) -> &[u8] {
    owner.0.as_ref().map_or(&[], |key| key.as_slice())
}

fn owner_from(bytes: &[u8]) -> Option<ClientKey> {
    if bytes.is_empty() {
        return Some(ClientKey::NONE);
    }
    bytes.try_into().ok().map(|key| ClientKey(Some(key)))
}
