//! The steward's store: one redb file, one transaction for each decision.
//!
//! A token that was used must stay used. So each commit has two phases, which forbids redb to fall back to an older
//! state when the newest is damaged, and every page is checked when the file is opened. A file comes to be under
//! another name, so that a crash or a full disk leaves a whole one or none.
//!
//! One byte is beyond that: after a crash, redb has nothing but a bit to tell the last commit from the one before.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use meshd_wire::{DecodeError, NodeId, TokenId, cbor};
use minicbor::{Decode, Encode};
use redb::{
    Builder, Database, DatabaseError, Key, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};

use super::entry::{Admitted, Externals, Hold, Signed, Station, Token};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const TOKENS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tokens");
const NODES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("nodes");
const NAMES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("names");
const ADDRESSES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("addresses");
const EXTERNALS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("externals");
const CHAIN: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("chain");

const STATION: &str = "station";
const SERIAL: &str = "serial";
const STATE: &str = "state";
const REVOCATIONS: &str = "revocations";

/// Memory of the store's cache: the book of a thousand nodes fits into it.
const CACHE_BYTES: usize = 1024 * 1024;

/// Reports a book that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The file can't be opened or made.
    #[error("open the steward's book")]
    Open(#[source] io::Error),
    /// The file is no book, or not the one that was written.
    #[error("the steward's book {} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The store failed: a full disk, or a damaged file.
    #[error("use the steward's book")]
    Store(#[source] Box<redb::Error>),
    /// An entry can't be read.
    #[error("read the steward's book")]
    Entry(#[from] DecodeError),
}

/// Turns every error of the store into ours.
fn store<E: Into<redb::Error>>(error: E) -> BookError {
    BookError::Store(Box::new(error.into()))
}

/// The open book.
#[derive(Debug)]
pub(super) struct Book {
    path: PathBuf,
    /// None after a failed write: redb demands that the file is opened anew.
    database: RefCell<Option<Database>>,
}

impl Book {
    /// Opens the book, or starts one; nobody else may read it.
    pub(super) fn open(path: &Path) -> Result<Self, BookError> {
        if !path.exists() {
            start(path)?;
        }
        Ok(Self { path: path.to_owned(), database: RefCell::new(Some(open_checked(path)?)) })
    }

    /// Runs one transaction: what the closure wrote is on disk when this returns, or nothing of it.
    pub(super) fn write<T, E>(&self, act: impl FnOnce(&Page) -> Result<T, E>) -> Result<T, E>
    where
        E: From<BookError>,
    {
        let page = Page(self.begin(begin_write)?);
        match act(&page) {
            Ok(value) => {
                page.0.commit().map_err(|error| {
                    self.database.replace(None);
                    store(error)
                })?;
                Ok(value)
            }
            Err(error) => {
                // The closure's error says what was wrong first; a store that failed is opened anew next time.
                if page.0.abort().is_err() {
                    self.database.replace(None);
                }
                Err(error)
            }
        }
    }

    /// Begins a transaction; a store that has failed before is opened anew.
    fn begin<T>(&self, begin: impl Fn(&Database) -> Result<T, BookError>) -> Result<T, BookError> {
        let mut slot = self.database.borrow_mut();
        if let Some(begun) = slot.as_ref().and_then(|database| begin(database).ok()) {
            return Ok(begun);
        }
        // The old one first: a file is open once.
        *slot = None;
        begin(slot.insert(open_checked(&self.path)?))
    }

    fn begin_read(&self) -> Result<ReadTransaction, BookError> {
        self.begin(|database| database.begin_read().map_err(store))
    }

    /// What the root has made of this steward.
    pub(super) fn station(&self) -> Result<Option<Station>, BookError> {
        let read = self.begin_read()?;
        value_of(&read.open_table(META).map_err(store)?, STATION)
    }

    /// Newest state that was signed.
    pub(super) fn state(&self) -> Result<Option<Signed>, BookError> {
        let read = self.begin_read()?;
        value_of(&read.open_table(META).map_err(store)?, STATE)
    }

    /// Newest revocations that were signed.
    pub(super) fn revocations(&self) -> Result<Option<Signed>, BookError> {
        let read = self.begin_read()?;
        value_of(&read.open_table(META).map_err(store)?, REVOCATIONS)
    }

    /// A node.
    pub(super) fn node(&self, node: &NodeId) -> Result<Option<Admitted>, BookError> {
        let read = self.begin_read()?;
        value_of(&read.open_table(NODES).map_err(store)?, &node.0[..])
    }

    /// All nodes.
    pub(super) fn nodes(&self) -> Result<Vec<Admitted>, BookError> {
        let read = self.begin_read()?;
        let mut nodes = Vec::new();
        for row in read.open_table(NODES).map_err(store)?.iter().map_err(store)? {
            nodes.push(cbor::decode(row.map_err(store)?.1.value())?);
        }
        Ok(nodes)
    }

    /// Envelopes of the chain of trust, the steward's own included.
    pub(super) fn chain(&self) -> Result<Vec<Vec<u8>>, BookError> {
        let read = self.begin_read()?;
        let table = read.open_table(CHAIN).map_err(store)?;
        let mut chain = Vec::new();
        for row in table.iter().map_err(store)? {
            chain.push(row.map_err(store)?.1.value().to_vec());
        }
        let meta = read.open_table(META).map_err(store)?;
        for name in [REVOCATIONS, STATE] {
            chain.extend(value_of::<_, Signed>(&meta, name)?.map(|signed| signed.envelope));
        }
        Ok(chain)
    }
}

#[cfg(test)]
impl Book {
    /// Makes it a book as it was before there were externals.
    pub(super) fn forget_externals_table(&self) {
        let page = self.begin(begin_write).expect("begins");
        page.delete_table(EXTERNALS).expect("deleted");
        page.commit().expect("committed");
    }
}

/// One transaction.
pub(super) struct Page(WriteTransaction);

impl Page {
    fn create_tables(&self) -> Result<(), BookError> {
        self.0.open_table(META).map_err(store)?;
        self.0.open_table(TOKENS).map_err(store)?;
        self.0.open_table(NODES).map_err(store)?;
        self.0.open_table(NAMES).map_err(store)?;
        self.0.open_table(ADDRESSES).map_err(store)?;
        self.0.open_table(EXTERNALS).map_err(store)?;
        self.0.open_table(CHAIN).map_err(store)?;
        Ok(())
    }

    pub(super) fn put_station(&self, station: &Station) -> Result<(), BookError> {
        put(&mut self.0.open_table(META).map_err(store)?, STATION, station)
    }

    pub(super) fn serial(&self) -> Result<u64, BookError> {
        Ok(value_of(&self.0.open_table(META).map_err(store)?, SERIAL)?.unwrap_or(0))
    }

    pub(super) fn put_serial(&self, serial: u64) -> Result<(), BookError> {
        put(&mut self.0.open_table(META).map_err(store)?, SERIAL, &serial)
    }

    pub(super) fn state(&self) -> Result<Option<Signed>, BookError> {
        value_of(&self.0.open_table(META).map_err(store)?, STATE)
    }

    pub(super) fn put_state(&self, state: &Signed) -> Result<(), BookError> {
        put(&mut self.0.open_table(META).map_err(store)?, STATE, state)
    }

    pub(super) fn revocations(&self) -> Result<Option<Signed>, BookError> {
        value_of(&self.0.open_table(META).map_err(store)?, REVOCATIONS)
    }

    pub(super) fn put_revocations(&self, revocations: &Signed) -> Result<(), BookError> {
        put(&mut self.0.open_table(META).map_err(store)?, REVOCATIONS, revocations)
    }

    pub(super) fn token(&self, id: &TokenId) -> Result<Option<Token>, BookError> {
        value_of(&self.0.open_table(TOKENS).map_err(store)?, &id.0[..])
    }

    pub(super) fn put_token(&self, id: &TokenId, token: &Token) -> Result<(), BookError> {
        put(&mut self.0.open_table(TOKENS).map_err(store)?, &id.0[..], token)
    }

    pub(super) fn tokens_len(&self) -> Result<u64, BookError> {
        self.0.open_table(TOKENS).map_err(store)?.len().map_err(store)
    }

    /// Keeps the tokens for which the closure says so, and what can't be read.
    pub(super) fn retain_tokens(&self, keep: impl Fn(&Token) -> bool) -> Result<(), BookError> {
        let mut table = self.0.open_table(TOKENS).map_err(store)?;
        table.retain(|_, bytes| cbor::decode(bytes).map_or(true, |token| keep(&token))).map_err(store)
    }

    pub(super) fn node(&self, node: &NodeId) -> Result<Option<Admitted>, BookError> {
        value_of(&self.0.open_table(NODES).map_err(store)?, &node.0[..])
    }

    pub(super) fn put_node(&self, node: &Admitted) -> Result<(), BookError> {
        put(&mut self.0.open_table(NODES).map_err(store)?, &node.cert.node.0[..], node)
    }

    /// All nodes.
    pub(super) fn nodes(&self) -> Result<Vec<Admitted>, BookError> {
        let table = self.0.open_table(NODES).map_err(store)?;
        let mut nodes = Vec::new();
        for row in table.iter().map_err(store)? {
            nodes.push(cbor::decode(row.map_err(store)?.1.value())?);
        }
        Ok(nodes)
    }

    /// Keeps the nodes for which the closure says so, and what can't be read.
    pub(super) fn retain_nodes(&self, keep: impl Fn(&Admitted) -> bool) -> Result<(), BookError> {
        let mut table = self.0.open_table(NODES).map_err(store)?;
        table.retain(|_, bytes| cbor::decode(bytes).map_or(true, |node| keep(&node))).map_err(store)
    }

    pub(super) fn externals(&self, node: &NodeId) -> Result<Option<Externals>, BookError> {
        value_of(&self.0.open_table(EXTERNALS).map_err(store)?, &node.0[..])
    }

    pub(super) fn put_externals(&self, node: &NodeId, externals: &Externals) -> Result<(), BookError> {
        put(&mut self.0.open_table(EXTERNALS).map_err(store)?, &node.0[..], externals)
    }

    pub(super) fn remove_externals(&self, node: &NodeId) -> Result<(), BookError> {
        self.0.open_table(EXTERNALS).map_err(store)?.remove(&node.0[..]).map_err(store)?;
        Ok(())
    }

    /// Removes the externals of nodes that are not in the book any more.
    pub(super) fn retain_externals_of_nodes(&self) -> Result<(), BookError> {
        let nodes = self.0.open_table(NODES).map_err(store)?;
        let mut externals = self.0.open_table(EXTERNALS).map_err(store)?;
        // What can't be looked up is kept.
        externals.retain(|node, _| nodes.get(node).map_or(true, |node| node.is_some())).map_err(store)
    }

    pub(super) fn name(&self, name: &str) -> Result<Option<Hold>, BookError> {
        value_of(&self.0.open_table(NAMES).map_err(store)?, name)
    }

    pub(super) fn put_name(&self, name: &str, hold: &Hold) -> Result<(), BookError> {
        put(&mut self.0.open_table(NAMES).map_err(store)?, name, hold)
    }

    pub(super) fn remove_name(&self, name: &str) -> Result<(), BookError> {
        self.0.open_table(NAMES).map_err(store)?.remove(name).map_err(store)?;
        Ok(())
    }

    pub(super) fn address(&self, address: u32) -> Result<Option<Hold>, BookError> {
        value_of(&self.0.open_table(ADDRESSES).map_err(store)?, address)
    }

    pub(super) fn put_address(&self, address: u32, hold: &Hold) -> Result<(), BookError> {
        put(&mut self.0.open_table(ADDRESSES).map_err(store)?, address, hold)
    }

    /// All addresses with their holders, sorted.
    pub(super) fn addresses(&self) -> Result<Vec<(u32, Hold)>, BookError> {
        let table = self.0.open_table(ADDRESSES).map_err(store)?;
        let mut addresses = Vec::new();
        for row in table.iter().map_err(store)? {
            let (address, hold) = row.map_err(store)?;
            addresses.push((address.value(), cbor::decode(hold.value())?));
        }
        Ok(addresses)
    }

    /// Removes the names and addresses whose hold is over.
    pub(super) fn retain_holds(&self, keep: impl Fn(&Hold) -> bool) -> Result<(), BookError> {
        let keep = |bytes: &[u8]| cbor::decode(bytes).map_or(true, |hold| keep(&hold));
        let mut names = self.0.open_table(NAMES).map_err(store)?;
        names.retain(|_, bytes| keep(bytes)).map_err(store)?;
        let mut addresses = self.0.open_table(ADDRESSES).map_err(store)?;
        addresses.retain(|_, bytes| keep(bytes)).map_err(store)
    }

    /// Replaces the chain of trust.
    pub(super) fn put_chain(&self, chain: &[Vec<u8>]) -> Result<(), BookError> {
        let mut table = self.0.open_table(CHAIN).map_err(store)?;
        table.retain(|_, _| false).map_err(store)?;
        for (number, envelope) in (0u32..).zip(chain) {
            table.insert(number, envelope.as_slice()).map_err(store)?;
        }
        Ok(())
    }
}

fn begin_write(database: &Database) -> Result<WriteTransaction, BookError> {
    let mut transaction = database.begin_write().map_err(store)?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// Makes an empty book beside its place and moves it there whole.
fn start(path: &Path) -> Result<(), BookError> {
    let beside = path.with_extension("new");
    let started = start_beside(&beside).and_then(|()| {
        fs::rename(&beside, path).map_err(BookError::Open)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(BookError::Open)
    });
    if started.is_err() {
        // The reason of the failure counts more than that of what is left.
        let _left = fs::remove_file(&beside);
    }
    started
}

fn start_beside(beside: &Path) -> Result<(), BookError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(beside)
        .map_err(BookError::Open)?;
    let database = Builder::new().set_cache_size(CACHE_BYTES).create_file(file).map_err(store)?;
    // All tables exist from the first transaction on, so that reading never meets a missing one.
    let page = Page(begin_write(&database)?);
    page.create_tables()?;
    page.0.commit().map_err(store)
}

/// Opens a book and checks every page of it.
fn open_checked(path: &Path) -> Result<Database, BookError> {
    let damaged = || BookError::Damaged { path: path.to_owned() };
    // redb asserts on some damage instead of reporting it; a damaged file must not end the daemon.
    catch_unwind(AssertUnwindSafe(|| {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(BookError::Open)?;
        if file.metadata().map_err(BookError::Open)?.len() == 0 {
            return Err(damaged());
        }
        let opened = Builder::new().set_cache_size(CACHE_BYTES).create_file(file);
        let mut database = opened.map_err(|error| open_error(error, path))?;
        match database.check_integrity().map_err(|error| open_error(error, path))? {
            true => Ok(database),
            false => Err(damaged()),
        }
    }))
    .unwrap_or_else(|_| Err(damaged()))
}

fn open_error(error: DatabaseError, path: &Path) -> BookError {
    let ours =
        |kind: io::ErrorKind| matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
    match redb::Error::from(error) {
        redb::Error::Io(source) if ours(source.kind()) => BookError::Damaged { path: path.to_owned() },
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => {
            BookError::Damaged { path: path.to_owned() }
        }
        other => BookError::Store(Box::new(other)),
    }
}

fn value_of<'k, K, V>(
    table: &impl ReadableTable<K, &'static [u8]>,
    key: K::SelfType<'k>,
) -> Result<Option<V>, BookError>
where
    K: Key + 'static,
    V: Encode<()> + for<'b> Decode<'b, ()>,
{
    let Some(bytes) = table.get(key).map_err(store)? else { return Ok(None) };
    Ok(Some(cbor::decode(bytes.value())?))
}

fn put<'k, K, V>(
    table: &mut Table<'_, K, &'static [u8]>,
    key: K::SelfType<'k>,
    value: &V,
) -> Result<(), BookError>
where
    K: Key + 'static,
    V: Encode<()>,
{
    table.insert(key, cbor::encode(value).as_slice()).map_err(store)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIAL_LAST: u64 = 7;

    /// Everything before the pages, where single bits choose between states.
    const HEAD_LEN: usize = 320;
    /// The byte of redb's head that names the last commit; no checksum covers it.
    const SELECTOR: usize = 9;
    /// A prime, so that all offsets within a page are met.
    const STRIDE: usize = 5003;

    /// A book as a crash leaves it, and as an orderly end does.
    fn written(path: &Path) -> [Vec<u8>; 2] {
        let book = Book::open(path).expect("opens");
        for serial in 0..=SERIAL_LAST {
            book.write(|page| page.put_serial(serial)).expect("writes");
        }
        let crashed = fs::read(path).expect("reads");
        drop(book);
        [crashed, fs::read(path).expect("reads")]
    }

    fn serial(path: &Path) -> Result<u64, BookError> {
        Book::open(path)?.write(|page| page.serial())
    }

    #[test]
    fn a_flipped_byte_is_refused_or_harmless() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("book.redb");
        for (sound, uncovered) in written(&path).into_iter().zip([Some(SELECTOR), None]) {
            for at in (0..HEAD_LEN).chain((HEAD_LEN..sound.len()).step_by(STRIDE)) {
                if uncovered == Some(at) {
                    continue;
                }
                for flip in [0x01, 0x04, 0xff] {
                    let mut bytes = sound.clone();
                    bytes[at] ^= flip;
                    fs::write(&path, &bytes).expect("writes");
                    if let Ok(serial) = serial(&path) {
                        assert_eq!(serial, SERIAL_LAST, "byte {at} ^ {flip:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_empty_or_cut_off_file_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("book.redb");
        let [_, sound] = written(&path);
        for len in [0, 1, 100, sound.len() / 2] {
            fs::write(&path, &sound[..len]).expect("writes");
            assert!(matches!(serial(&path), Err(BookError::Damaged { .. })), "{len} bytes");
            assert_eq!(fs::metadata(&path).expect("is there").len(), len as u64);
        }
    }
}
