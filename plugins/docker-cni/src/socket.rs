//! The socket that Docker asks at.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::failure::Failure;

/// Only root: who asks here can attach and detach any container.
const MODE: u32 = 0o600;

/// Listens at a path.
///
/// The socket appears whole, in the place of one that a plugin before this one left, and it stays when this one ends:
/// while a socket refuses, Docker asks again for 15 s; where there is none, it fails at once.
pub fn listen(path: &Path) -> Result<UnixListener, Failure> {
    let failed =
        |what: &str, error: &io::Error| Failure::new(format!("{what} {}", path.display())).because(error);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|error| failed("can't create the directory of", &error))?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(failed("can't listen at", &io::ErrorKind::AddrInUse.into())
            .with("another meshd-docker answers there"));
    }
    let new = beside(path);
    let listener = bind(&new).map_err(|error| failed("can't listen at", &error))?;
    fs::rename(&new, path).map_err(|error| {
        let _ = fs::remove_file(&new);
        failed("can't listen at", &error)
    })?;
    Ok(listener)
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// Another name in the same directory, which Docker does not take for a plugin.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}
