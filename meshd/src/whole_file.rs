//! Small files that are replaced as a whole, to the disk itself, in directories that nobody else may read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Reports a file or directory that can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}", path.display())]
pub struct FileError {
    /// Verb of the operation.
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// An operation on a file that failed.
    pub fn new(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self { what, path: path.to_owned(), source }
    }
}

/// Reads a file that has no more bytes than this.
pub fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Writes a file to the disk itself.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().map_err(|source| FileError::new("write", path, source))
}

/// Replaces a file, and makes its directory if need be.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let (Some(dir), beside) = (path.parent(), path.with_extension("new")) else { return Ok(()) };
    make_dirs(dir.parent().unwrap_or(dir), dir)?;
    let replaced = write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, path).map_err(|source| FileError::new("replace", path, source)));
    if replaced.is_err() {
        // On a full disk every page counts.
        let _left = fs::remove_file(&beside);
    }
    replaced?;
    sync_dir(dir)
}

/// Makes a directory below another one, and what is between them.
pub fn make_dirs(top: &Path, dir: &Path) -> Result<(), FileError> {
    if dir.exists() {
        return Ok(());
    }
    let Some(above) = dir.parent().filter(|_| dir != top) else { return Ok(()) };
    make_dirs(top, above)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => sync_dir(above),
        Err(source) => Err(FileError::new("make", dir, source)),
    }
}

/// Brings the names in a directory to the disk itself.
pub fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| FileError::new("sync", dir, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_not_be_replaced_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("makes a directory");
        let path = dir.path().join("kept");
        fs::create_dir_all(path.join("in the way")).expect("makes an obstacle");
        replace(&path, b"new").expect_err("a directory is no file");
        let names: Vec<_> =
            fs::read_dir(dir.path()).expect("lists").flatten().map(|file| file.file_name()).collect();
        assert_eq!(names, ["kept"]);
    }
}
