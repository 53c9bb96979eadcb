//! A small file that survives crashes and flipped bytes: two equal copies, each checked and replaced whole.
//!
//! A write puts both copies beside the old ones and syncs them, and then replaces copy `a` and copy `b` by rename. What
//! fails, such as a full disk, fails before the first rename: what is said to have failed is not in force after the next
//! start. A crash between the renames leaves a newer and an older valid copy, and the newer one counts. A damaged copy is
//! ignored as long as the other is sound, so a flipped bit never brings an older state back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// First bytes of each copy.
const MAGIC: &[u8; 8] = b"meshd-g1";
/// Magic, generation and checksum.
const HEADER_LEN: usize = 8 + 8 + 32;
/// Largest file: a roster of 384 MiB, with every table full of the largest records, and what is around it.
const FILE_BYTES_MAX: u64 = 385 * 1024 * 1024;

/// Reports a state file that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GenerationsError {
    /// An operation on a file failed.
    #[error("{what} {}", path.display())]
    Io {
        /// Verb of the operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than would be read again.
    #[error("{} would be too large: {len} bytes", path.display())]
    TooLarge {
        /// Path without the copy's suffix.
        path: PathBuf,
        /// Bytes of the content.
        len: usize,
    },
    /// A list longer than would be read again.
    #[error("{} would have a list of {len}", path.display())]
    TooMany {
        /// Path without the copy's suffix.
        path: PathBuf,
        /// Its elements.
        len: usize,
    },
    /// Files exist, but no copy is sound.
    #[error("both copies of {} are damaged", path.display())]
    Damaged {
        /// Path without the copy's suffix.
        path: PathBuf,
    },
}

/// What a state file holds; it may be secret.
pub type Content = Zeroizing<Vec<u8>>;

/// The pair of files `NAME.a` and `NAME.b` in one directory.
#[derive(Debug)]
pub struct Generations {
    dir: PathBuf,
    name: &'static str,
    generation: u64,
}

impl Generations {
    /// Removes a pair, whatever is in it.
    pub fn forget(dir: &Path, name: &'static str) -> Result<(), GenerationsError> {
        Self { dir: dir.to_owned(), name, generation: 0 }.remove()
    }

    /// Moves the pair out of the way, in the place of one that was moved before.
    pub fn set_aside(dir: &Path, name: &'static str) -> Result<(), GenerationsError> {
        for path in (Self { dir: dir.to_owned(), name, generation: 0 }).copies() {
            match fs::rename(&path, with_suffix(&path, ".damaged")) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(GenerationsError::Io { what: "rename", path, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Opens the pair and reads the newest sound copy, if any copy exists.
    pub fn open(dir: &Path, name: &'static str) -> Result<(Self, Option<Content>), GenerationsError> {
        let mut this = Self { dir: dir.to_owned(), name, generation: 0 };
        let mut newest: Option<Zeroizing<Vec<u8>>> = None;
        let mut damaged = false;
        for path in this.copies() {
            let Some(bytes) = read_if_exists(&path)? else { continue };
            match parse(&bytes) {
                Some((generation, payload)) if newest.is_none() || generation > this.generation => {
                    this.generation = generation;
                    newest = Some(Zeroizing::new(payload.to_vec()));
                }
                Some(_) => {}
                None => {
                    tracing::warn!(file = %path.display(), "state file is damaged, using its other copy");
                    damaged = true;
                }
            }
        }
        if newest.is_none() && damaged {
            return Err(GenerationsError::Damaged { path: dir.join(name) });
        }
        Ok((this, newest))
    }

    /// Replaces the content: when this returns, it is on disk, or the old one still is.
    pub fn write(&mut self, payload: &[u8]) -> Result<(), GenerationsError> {
        let generation = self.generation + 1;
        let len = HEADER_LEN + payload.len();
        if len as u64 > FILE_BYTES_MAX {
            return Err(GenerationsError::TooLarge { path: self.dir.join(self.name), len });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(len));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&generation.to_be_bytes());
        bytes.extend_from_slice(&checksum(generation, payload));
        bytes.extend_from_slice(payload);
        let copies = self.copies();
        let beside = copies.each_ref().map(|path| beside(path));
        let replaced = beside
            .iter()
            .try_for_each(|path| create(path, &bytes))
            .and_then(|()| self.replace(&copies, &beside));
        if replaced.is_err() {
            // On a full disk every page counts, and the reason of the failure more than that of what is left.
            beside.iter().for_each(|path| drop(fs::remove_file(path)));
        }
        replaced?;
        self.generation = generation;
        Ok(())
    }

    /// Puts whole copies in the place of the old ones.
    fn replace(&self, [a, b]: &[PathBuf; 2], [new_a, new_b]: &[PathBuf; 2]) -> Result<(), GenerationsError> {
        fs::rename(new_a, a).map_err(failed("rename", new_a))?;
        // From here on the new content counts: one copy is whole, and the next write makes it two again.
        if let Err(error) = fs::rename(new_b, b) {
            tracing::warn!(file = %b.display(), %error, "state file has only one new copy");
            let _left = fs::remove_file(new_b);
            // An old one may hold what was destroyed.
            let _old = fs::remove_file(b);
        }
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(failed("sync", &self.dir))
    }

    /// The error for a content with a list that is too long to be read again.
    pub fn refuse_list(&self, len: usize) -> GenerationsError {
        GenerationsError::TooMany { path: self.dir.join(self.name), len }
    }

    /// Removes both copies, and what a crash left beside them.
    pub fn remove(self) -> Result<(), GenerationsError> {
        let copies = self.copies();
        let beside = copies.each_ref().map(|path| beside(path));
        for path in copies.into_iter().chain(beside) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(GenerationsError::Io { what: "remove", path, source: error });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn copies(&self) -> [PathBuf; 2] {
        ["a", "b"].map(|copy| self.dir.join(format!("{}.{copy}", self.name)))
    }
}

fn checksum(generation: u64, payload: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(MAGIC);
    hash.update(generation.to_be_bytes());
    hash.update(payload);
    hash.finalize().into()
}

fn parse(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (header, payload) = bytes.split_at_checked(HEADER_LEN)?;
    let (magic, rest) = header.split_at_checked(MAGIC.len())?;
    let (generation, sum) = rest.split_at_checked(8)?;
    let generation = u64::from_be_bytes(generation.try_into().ok()?);
    (magic == MAGIC && sum == checksum(generation, payload)).then_some((generation, payload))
}

fn read_if_exists(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, GenerationsError> {
    let io = |source| GenerationsError::Io { what: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let len = file.metadata().map_err(io)?.len().min(FILE_BYTES_MAX);
    // Allocated once: a vector that grows leaves copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len).unwrap_or(0)));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
    Ok(Some(bytes))
}

/// Where the next content of a copy is written.
fn beside(copy: &Path) -> PathBuf {
    with_suffix(copy, ".new")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Writes a whole file.
fn create(path: &Path, bytes: &[u8]) -> Result<(), GenerationsError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("create", path))?;
    file.write_all(bytes).map_err(failed("write", path))?;
    file.sync_all().map_err(failed("sync", path))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GenerationsError {
    let path = path.to_owned();
    move |source| GenerationsError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, GenerationsError> {
        Generations::open(dir, "state").map(|(_, bytes)| bytes)
    }

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().expect("directory");
        assert!(open(dir.path()).expect("empty").is_none());
        let (mut file, _) = Generations::open(dir.path(), "state").expect("opens");
        file.write(b"one").expect("writes");
        file.write(b"two").expect("writes");
        assert_eq!(open(dir.path()).expect("reads").as_deref().map(Vec::as_slice), Some(&b"two"[..]));
    }

    #[test]
    fn any_flipped_byte_of_one_copy_brings_back_the_same_state() {
        let dir = tempfile::tempdir().expect("directory");
        let (mut file, _) = Generations::open(dir.path(), "state").expect("opens");
        file.write(b"old").expect("writes");
        file.write(b"new").expect("writes");
        for copy in ["state.a", "state.b"] {
            let path = dir.path().join(copy);
            let sound = fs::read(&path).expect("reads");
            for at in 0..sound.len() {
                let mut bytes = sound.clone();
                bytes[at] ^= 0x40;
                fs::write(&path, &bytes).expect("writes");
                assert_eq!(open(dir.path()).expect("reads").as_deref().map(Vec::as_slice), Some(&b"new"[..]));
            }
            fs::write(&path, &sound).expect("writes");
        }
    }

    #[test]
    fn two_damaged_copies_are_an_error_and_not_a_fresh_start() {
        let dir = tempfile::tempdir().expect("directory");
        let (mut file, _) = Generations::open(dir.path(), "state").expect("opens");
        file.write(b"new").expect("writes");
        for copy in ["state.a", "state.b"] {
            fs::write(dir.path().join(copy), b"meshd-g1 torn").expect("writes");
        }
        assert!(matches!(open(dir.path()), Err(GenerationsError::Damaged { .. })));
    }

    #[test]
    fn what_is_said_to_have_failed_is_not_in_force_after_a_restart() {
        // A directory in the way of any step.
        for obstacle in ["state.a", "state.b", "state.new", "state.a.new", "state.b.new"] {
            let dir = tempfile::tempdir().expect("directory");
            let (mut file, _) = Generations::open(dir.path(), "state").expect("opens");
            file.write(b"old").expect("writes");
            let path = dir.path().join(obstacle);
            let _copy = fs::remove_file(&path);
            fs::create_dir(&path).expect("creates");
            fs::write(path.join("full"), b"").expect("writes");
            let expected: &[u8] = if file.write(b"new").is_ok() { b"new" } else { b"old" };
            fs::remove_dir_all(&path).expect("removes");
            let read = open(dir.path()).expect("reads");
            assert_eq!(read.as_deref().map(Vec::as_slice), Some(expected), "{obstacle}");
            let left =
                fs::read_dir(dir.path()).expect("lists").map(|entry| entry.expect("an entry").file_name());
            assert!(left.into_iter().all(|name| name == "state.a" || name == "state.b"), "{obstacle}");
            file.write(b"newer").expect("writes again");
            for copy in ["state.a", "state.b"] {
                let bytes = fs::read(dir.path().join(copy)).expect("there are both");
                assert!(bytes.ends_with(b"newer"), "{obstacle}");
            }
        }
    }

    #[test]
    fn whatever_can_be_written_can_be_read() {
        let dir = tempfile::tempdir().expect("directory");
        let (mut file, _) = Generations::open(dir.path(), "state").expect("opens");
        let large = vec![7; 65 * 1024 * 1024];
        file.write(&large).expect("writes");
        assert!(open(dir.path()).expect("reads").is_some_and(|bytes| *bytes == large));
        let too_large = vec![0; usize::try_from(FILE_BYTES_MAX).expect("fits") - HEADER_LEN + 1];
        assert!(matches!(file.write(&too_large), Err(GenerationsError::TooLarge { .. })));
        assert!(open(dir.path()).expect("reads").is_some_and(|bytes| *bytes == large));
    }

    #[test]
    fn one_damaged_copy_and_one_missing_are_an_error_at_any_byte_and_length() {
        let dir = tempfile::tempdir().expect("directory");
        let (mut file, _) = Generations::open(dir.path(), "state").expect("opens");
        file.write(b"new").expect("writes");
        fs::remove_file(dir.path().join("state.b")).expect("removes");
        let path = dir.path().join("state.a");
        let sound = fs::read(&path).expect("reads");
        let flipped = (0..sound.len()).map(|at| {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x01;
            bytes
        });
        for bytes in flipped.chain((0..sound.len()).map(|len| sound[..len].to_vec())) {
            fs::write(&path, &bytes).expect("writes");
            assert!(matches!(open(dir.path()), Err(GenerationsError::Damaged { .. })), "{bytes:?}");
        }
    }
}
