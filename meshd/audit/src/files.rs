//! Where the files of a log are read from.

use std::borrow::Cow;
use std::error::Error;

use meshd_trust::log::TILE_WIDTH;
use meshd_wire::limits::RECORD_BYTES_MAX;

/// Largest file of a log, bytes: the records of a tile, each as large as one may be, and their lengths.
pub const FILE_BYTES_MAX: u64 = TILE_WIDTH * (RECORD_BYTES_MAX as u64 + 4);

/// Gives files by their path, with `/` between its parts: a directory, or what a bundle has of one.
pub trait Files {
    /// Bytes of a file; none if there is no such file.
    fn read(&self, path: &str) -> Result<Option<Cow<'_, [u8]>>, FilesError>;

    /// Names of the files directly in a directory, in any order; none if there is no such directory.
    fn list(&self, dir: &str) -> Result<Vec<String>, FilesError>;
}

/// Gives the bytes of one file from any place on, so that a large one need not be in memory.
pub trait ReadAt {
    /// Number of bytes.
    fn size(&self) -> u64;

    /// `len` bytes from `at` on; an error if there are fewer.
    fn read_at(&self, at: u64, len: usize) -> Result<Cow<'_, [u8]>, FilesError>;
}

impl<B: AsRef<[u8]>> ReadAt for B {
    fn size(&self) -> u64 {
        self.as_ref().len() as u64
    }

    fn read_at(&self, at: u64, len: usize) -> Result<Cow<'_, [u8]>, FilesError> {
        let found = usize::try_from(at).ok().and_then(|at| self.as_ref().get(at..)?.get(..len));
        found.map(Cow::Borrowed).ok_or_else(|| FilesError {
            path: format!("{len} bytes at {at}"),
            source: "there are fewer".into(),
        })
    }
}

/// Reports a file that is there and can't be read.
#[derive(Debug, thiserror::Error)]
#[error("read {path}")]
pub struct FilesError {
    /// The file.
    pub path: String,
    /// Why.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}
