//! The file of a bundle, as an audit reads it.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use meshd_audit::{BUNDLE_BYTES_MAX, FilesError, ReadAt};

use crate::log_dir;

/// A file, read piece by piece.
#[derive(Debug)]
struct BundleFile {
    path: PathBuf,
    file: File,
    size: u64,
}

/// Opens a bundle; what has no places to read from, such as a pipe, is read into memory.
pub fn open(path: &Path) -> io::Result<Box<dyn ReadAt>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(Box::new(BundleFile { path: path.to_owned(), file, size: metadata.len() }));
    }
    Ok(Box::new(log_dir::bounded(path, BUNDLE_BYTES_MAX)?))
}

impl ReadAt for BundleFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, len: usize) -> Result<Cow<'_, [u8]>, FilesError> {
        let mut bytes = vec![0; len];
        let read = self.file.read_exact_at(&mut bytes, at);
        let failed =
            |error: io::Error| FilesError { path: self.path.display().to_string(), source: error.into() };
        read.map(|()| Cow::Owned(bytes)).map_err(failed)
    }
}
