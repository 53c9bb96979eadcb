//! The directory of a log, as an audit reads it.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use meshd_audit::{FILE_BYTES_MAX, Files, FilesError};

/// A directory.
#[derive(Debug)]
pub struct LogDir(PathBuf);

impl LogDir {
    /// Takes a directory, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

impl Files for LogDir {
    fn read(&self, path: &str) -> Result<Option<Cow<'_, [u8]>>, FilesError> {
        let read = bounded(&self.0.join(path), FILE_BYTES_MAX);
        absent(path, read.map(Cow::Owned))
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, FilesError> {
        let list = fs::read_dir(self.0.join(dir)).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
        });
        absent(dir, list).map(Option::unwrap_or_default)
    }
}

/// Reads a whole file, unless it is larger than it may be.
pub fn bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// What is not there is no error.
fn absent<T>(path: &str, result: io::Result<T>) -> Result<Option<T>, FilesError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(FilesError { path: path.to_owned(), source: error.into() }),
    }
}
