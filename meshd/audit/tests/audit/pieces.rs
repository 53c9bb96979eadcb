//! Bundles that are read and written piece by piece.

use std::borrow::Cow;
use std::cell::Cell;

use meshd_audit::{
    Bundle, BundleError, BundleLog, Chain, FILE_BYTES_MAX, Files, FilesError, LogSource, ReadAt, audit,
    write_bundle,
};
use meshd_wire::Timestamp;

use crate::faults::verdict;
use crate::made::{Dir, Mesh, codes, terms};
use crate::packed::{seal, unpack};

/// A bundle's file that is another one as soon as it was opened.
struct Replaced {
    bytes: Vec<u8>,
    then: Vec<u8>,
    is_opened: Cell<bool>,
}

impl ReadAt for Replaced {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_at(&self, at: u64, len: usize) -> Result<Cow<'_, [u8]>, FilesError> {
        if self.is_opened.get() { self.then.read_at(at, len) } else { self.bytes.read_at(at, len) }
    }
}

/// A bundle's file that knows how much of it was asked for at once.
struct Measured {
    bytes: Vec<u8>,
    len_max: Cell<usize>,
}

impl ReadAt for Measured {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_at(&self, at: u64, len: usize) -> Result<Cow<'_, [u8]>, FilesError> {
        self.len_max.set(self.len_max.get().max(len));
        self.bytes.read_at(at, len)
    }
}

#[test]
fn a_bundle_that_changes_while_it_is_audited_is_not_believed() {
    let mesh = Mesh::lived(1, 1);
    let mut files = unpack(&mesh.bundle());
    let (_, tile) = files.iter_mut().find(|(name, _)| name.contains("/tile/0/")).expect("a tile");
    tile[0] ^= 1;
    for (then, is_believed) in [(mesh.bundle(), true), (seal(&files), false)] {
        let replaced = Replaced { bytes: mesh.bundle(), then, is_opened: Cell::new(false) };
        let bundle = Bundle::read(&replaced).expect("a bundle");
        replaced.is_opened.set(true);
        let chain = bundle.chain(Some(mesh.id)).expect("a chain");
        let logs = bundle.logs();
        let sources: Vec<LogSource<'_>> = logs.iter().map(BundleLog::source).collect();
        let report = audit(chain, &sources, &terms(bundle.made().0), &mut |_, _| {});
        assert_eq!(report.is_ok(), is_believed);
    }
}

#[test]
fn a_file_larger_than_any_of_a_log_is_tampering_and_takes_no_memory() {
    let mesh = Mesh::lived(1, 1);
    let len_max = usize::try_from(FILE_BYTES_MAX).expect("it fits") + 1;
    for part in ["/tile/0/", "/tile/entries/", "/record/", "/checkpoint"] {
        let mut files = unpack(&mesh.bundle());
        let (_, file) = files.iter_mut().find(|(name, _)| name.contains(part)).expect(part);
        file.resize(len_max * 2, 0);
        let measured = Measured { bytes: seal(&files), len_max: Cell::new(0) };
        let bundle = Bundle::read(&measured).expect("a bundle");
        let chain = bundle.chain(Some(mesh.id)).expect("a chain");
        let logs = bundle.logs();
        let sources: Vec<LogSource<'_>> = logs.iter().map(BundleLog::source).collect();
        let report = audit(chain, &sources, &terms(bundle.made().0), &mut |_, _| {}).expect("in memory");
        let said = (report.verdict.code(), codes(&report));
        assert_eq!(said, verdict(&measured.bytes, mesh.id));
        assert_eq!(said.0, 3, "{part}: {:?}", said.1);
        assert_eq!(measured.len_max.get(), len_max, "{part}");
    }
}

/// A log of which one file is another one whenever it is read.
struct Restless {
    dir: Dir,
    reads: Cell<u8>,
}

impl Files for Restless {
    fn read(&self, path: &str) -> Result<Option<Cow<'_, [u8]>>, FilesError> {
        let Some(bytes) = self.dir.read(path)? else { return Ok(None) };
        if !path.starts_with("record/") {
            return Ok(Some(bytes));
        }
        self.reads.set(self.reads.get() + 1);
        Ok(Some(Cow::Owned([&bytes[..], &[self.reads.get()]].concat())))
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, FilesError> {
        self.dir.list(dir)
    }
}

#[test]
fn no_bundle_is_made_of_a_log_that_changes_meanwhile() {
    let mesh = Mesh::lived(1, 1);
    let files = Restless { dir: mesh.orgs[0].dir(), reads: Cell::new(0) };
    let chain = Chain::read(&mesh.chain(), Some(mesh.id)).expect("a chain");
    let log = LogSource { org: mesh.orgs[0].id, files: &files, sealed: None };
    let made = write_bundle(chain, &[log], Timestamp(mesh.now), &mut Vec::new());
    assert!(matches!(made, Err(BundleError::Unstable(name)) if name.contains("/record/")));
}
