//! Files that are whole or absent: written beside their place, synced, then moved there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use meshd_api::Exit;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::failure::Failure;
use crate::output;

/// Largest file read: a draft of many organisations is far smaller.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// The owner alone: secrets.
    Owner,
    /// Everybody: public records.
    All,
}

impl Readers {
    const fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::All => 0o644,
        }
    }
}

/// Fails early where a new file is to be written; the writing itself is what never overwrites.
pub fn absent(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() { Err(exists(path)) } else { Ok(()) }
}

/// Removes a file that this command has just written and that turned out to be of no use.
pub fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        output::talk(&format!("warning: can't remove {}: {error}", path.display()));
    }
}

/// Writes a file that must not exist yet.
pub fn write_new(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), Failure> {
    write_new_by(path, readers, |out| out.write_all(bytes))
}

/// Writes a file that must not exist yet, piece by piece.
pub fn write_new_by(
    path: &Path,
    readers: Readers,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    absent(path)?;
    let written = in_place(path, write, readers, |temporary| {
        match rustix::fs::renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
            // Not every file system can; a hard link refuses an existing name as well.
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::hard_link(temporary, path)?;
                fs::remove_file(temporary)
            }
            done => done.map_err(io::Error::from),
        }
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => failed(path, &error),
    })
}

/// Writes a file, in place of the one that may be there.
pub fn write_over(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), Failure> {
    in_place(path, |out| out.write_all(bytes), readers, |temporary| fs::rename(temporary, path))
        .map_err(|error| failed(path, &error))
}

/// Reads a text file, or standard input for `-`.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let unreadable = |error: &io::Error| {
        Failure::new(Exit::Usage, format!("can't read {}", path.display())).because(error)
    };
    let mut text = String::new();
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(|error| unreadable(&error))?)
    };
    source.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} is larger than {TEXT_BYTES_MAX} bytes", path.display()),
        ));
    }
    Ok(text)
}

fn exists(path: &Path) -> Failure {
    Failure::new(Exit::Conflict, format!("{} exists, and it is never overwritten", path.display()))
        .with_hint("name another file, or move this one to a safe place")
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("can't write {}", path.display())).because(error)
}

/// Writes and syncs a temporary file, lets `put` give it its name, and syncs the directory.
fn in_place(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    readers: Readers,
    put: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    let temporary = directory.join(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let done = write_synced(&temporary, write, readers).and_then(|()| put(&temporary));
    if done.is_err() {
        // It may not have come into being; what counts is the error before.
        let _ = fs::remove_file(&temporary);
    }
    done?;
    File::open(&directory)?.sync_all()
}

fn write_synced(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    readers: Readers,
) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(readers.mode()).open(path)?;
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.into_inner()?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_file_never_replaces_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        write_new(&path, b"first", Readers::Owner).expect("the first is written");
        assert!(write_new(&path, b"second", Readers::Owner).is_err());
        assert_eq!(fs::read_to_string(&path).expect("a file"), "first");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("draft");
        write_over(&path, b"first", Readers::All).expect("written");
        write_over(&path, b"second", Readers::All).expect("written again");
        assert_eq!(read_text(&path).expect("a file"), "second");
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("huge");
        File::create(&path).and_then(|file| file.set_len(TEXT_BYTES_MAX + 1)).expect("a sparse file");
        assert!(read_text(&path).is_err());
    }
}
