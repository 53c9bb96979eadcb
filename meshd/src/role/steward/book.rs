//! The steward's store: one redb file, one transaction for each decision.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use meshd_wire::{DecodeError, NodeId, TokenId, cbor};
use minicbor::{Decode, Encode};
use redb::{
    Builder, Database, Key, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};

use super::entry::{Admitted, Hold, Signed, Station, Token};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const TOKENS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tokens");
const NODES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("nodes");
const NAMES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("names");
const ADDRESSES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("addresses");
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
    /// The file can't be opened.
    #[error("open the steward's book")]
    Open(#[source] std::io::Error),
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
pub(super) struct Book(Database);

impl Book {
    /// Opens the book, or starts one; nobody else may read it.
    pub(super) fn open(path: &Path) -> Result<Self, BookError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(BookError::Open)?;
        let database = Builder::new().set_cache_size(CACHE_BYTES).create_file(file).map_err(store)?;
        let book = Self(database);
        // All tables exist from the first transaction on, so that reading never meets a missing one.
        book.write(|page| page.create_tables())?;
        Ok(book)
    }

    /// Runs one transaction: what the closure wrote is on disk when this returns, or nothing of it.
    pub(super) fn write<T, E>(&self, act: impl FnOnce(&Page) -> Result<T, E>) -> Result<T, E>
    where
        E: From<BookError>,
    {
        let page = Page(self.0.begin_write().map_err(store)?);
        match act(&page) {
            Ok(value) => {
                page.0.commit().map_err(store)?;
                Ok(value)
            }
            Err(error) => {
                page.0.abort().map_err(store)?;
                Err(error)
            }
        }
    }

    /// What the root has made of this steward.
    pub(super) fn station(&self) -> Result<Option<Station>, BookError> {
        let read = self.0.begin_read().map_err(store)?;
        value_of(&read.open_table(META).map_err(store)?, STATION)
    }

    /// Newest state that was signed.
    pub(super) fn state(&self) -> Result<Option<Signed>, BookError> {
        let read = self.0.begin_read().map_err(store)?;
        value_of(&read.open_table(META).map_err(store)?, STATE)
    }

    /// Envelopes of the chain of trust, the steward's own included.
    pub(super) fn chain(&self) -> Result<Vec<Vec<u8>>, BookError> {
        let read = self.0.begin_read().map_err(store)?;
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

/// One transaction.
pub(super) struct Page(WriteTransaction);

impl Page {
    fn create_tables(&self) -> Result<(), BookError> {
        self.0.open_table(META).map_err(store)?;
        self.0.open_table(TOKENS).map_err(store)?;
        self.0.open_table(NODES).map_err(store)?;
        self.0.open_table(NAMES).map_err(store)?;
        self.0.open_table(ADDRESSES).map_err(store)?;
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
