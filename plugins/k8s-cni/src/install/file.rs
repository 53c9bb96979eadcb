//! Files that appear whole or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::Builder;

use crate::failure::{Code, Failure};

/// Writes a file beside its place and renames it: whoever looks sees the old one or the new one, and a program that
/// runs is not written to.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    write(path, bytes, mode).map_err(|error| {
        Failure::new(Code::Internal, format!("{} can't be written", path.display())).because(&error)
    })
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = Builder::new().prefix(".meshd-").suffix(".new").tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

/// Reads what stands at a place: nothing, or a file's bytes. Anything else that stands there is somebody else's.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let failed = |error: io::Error| {
        Failure::new(Code::Internal, format!("{} can't be read", path.display())).because(&error)
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
        Ok(found) if found.is_file() => fs::read(path).map(Some).map_err(failed),
        Ok(_) => Err(foreign(path)),
    }
}

/// Says that a place is taken.
pub fn foreign(path: &Path) -> Failure {
    Failure::new(Code::Taken, format!("{} is there and not meshd's", path.display()))
        .with("remove it if nobody needs it")
}
