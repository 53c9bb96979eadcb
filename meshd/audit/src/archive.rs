//! The ustar archive of a bundle: regular files in the order of their names, every other byte fixed.
//!
//! A header is compared as a whole with the one that its name and size give, so there is one archive of some files.

use std::collections::BTreeMap;
use std::io::{self, Write};

use sha2::{Digest, Sha256};

use crate::files::{FilesError, ReadAt};

const BLOCK: usize = 512;
/// Zero blocks at the end.
const END: usize = 2 * BLOCK;
/// Longest name: the field without its prefix, which no name here needs.
const NAME_MAX: usize = 100;
/// Largest size that 11 octal digits hold.
const SIZE_MAX: u64 = (1 << 33) - 1;

const SIZE_AT: std::ops::Range<usize> = 124..136;
const CHECKSUM_AT: std::ops::Range<usize> = 148..156;

/// Bytes of a file that are in memory at a time while it is hashed.
const PIECE: u64 = 1 << 20;

/// Files of an archive by name.
pub(crate) type Archived = BTreeMap<String, Member>;

/// Where a file of an archive stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) at: u64,
    pub(crate) len: u64,
    pub(crate) sha256: [u8; 32],
}

/// Says why bytes are no archive of a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// They can't be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A header that is not the one for its name and size.
    #[error("byte {at} begins no header of a regular file as a bundle has them")]
    Header {
        /// Where it begins.
        at: u64,
    },
    /// A name that leads out of the archive, or is none.
    #[error("a file of the name {0:?}")]
    Name(String),
    /// Names out of order, or one twice.
    #[error("{0} stands in the wrong place, or twice")]
    Order(String),
    /// The bytes end before the archive does.
    #[error("it is cut off within {0}")]
    End(String),
    /// Something behind a file that is not zero.
    #[error("there is something behind {0}")]
    Padding(String),
    /// A file that the format has no room for.
    #[error("{0} is too large")]
    TooLarge(String),
}

/// Writes what stands before a file.
pub(crate) fn write_header(out: &mut dyn Write, name: &str, len: u64) -> Result<(), WriteError> {
    if !is_name(name) {
        return Err(ArchiveError::Name(name.to_owned()).into());
    }
    if len > SIZE_MAX {
        return Err(ArchiveError::TooLarge(name.to_owned()).into());
    }
    Ok(out.write_all(&header(name, len))?)
}

/// Fills the last block of a file.
pub(crate) fn write_padding(out: &mut dyn Write, len: u64) -> Result<(), WriteError> {
    let used = usize::try_from(len % BLOCK as u64).unwrap_or_else(|_| unreachable!("less than a block"));
    Ok(out.write_all(&[0; BLOCK][..used.next_multiple_of(BLOCK) - used])?)
}

/// Writes what stands behind the last file.
pub(crate) fn write_end(out: &mut dyn Write) -> Result<(), WriteError> {
    Ok(out.write_all(&[0; END])?)
}

/// Says why an archive can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It has no room for a file.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// What it is written to takes no more.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads where the files of an archive stand, and hashes them; anything but what is written here is refused.
pub(crate) fn read(bytes: &dyn ReadAt) -> Result<Archived, ArchiveError> {
    let block_len = BLOCK as u64;
    let mut files = Archived::new();
    let mut last = String::new();
    let mut at = 0;
    loop {
        let rest = bytes.size().saturating_sub(at);
        if rest < block_len {
            return Err(ArchiveError::End(last));
        }
        let block = bytes.read_at(at, BLOCK)?;
        if block.iter().all(|byte| *byte == 0) {
            let is_end = rest == END as u64 && is_zero(bytes, at, rest)?;
            return if is_end { Ok(files) } else { Err(ArchiveError::Padding(last)) };
        }
        let (name, len) = parts(&block).ok_or(ArchiveError::Header { at })?;
        if !is_name(name) {
            return Err(ArchiveError::Name(name.to_owned()));
        }
        if header(name, len) != *block {
            return Err(ArchiveError::Header { at });
        }
        if !files.is_empty() && name <= last.as_str() {
            return Err(ArchiveError::Order(name.to_owned()));
        }
        let filled = len.next_multiple_of(block_len);
        if filled > rest - block_len {
            return Err(ArchiveError::End(name.to_owned()));
        }
        let content = at + block_len;
        if !is_zero(bytes, content + len, filled - len)? {
            return Err(ArchiveError::Padding(name.to_owned()));
        }
        let member = Member { at: content, len, sha256: hash(bytes, content, len)? };
        last = name.to_owned();
        files.insert(last.clone(), member);
        at = content + filled;
    }
}

fn is_zero(bytes: &dyn ReadAt, at: u64, len: u64) -> Result<bool, FilesError> {
    let len = usize::try_from(len).unwrap_or_else(|_| unreachable!("two blocks at most"));
    Ok(bytes.read_at(at, len)?.iter().all(|byte| *byte == 0))
}

fn hash(bytes: &dyn ReadAt, at: u64, len: u64) -> Result<[u8; 32], FilesError> {
    let mut hash = Sha256::new();
    let mut read = 0;
    while read < len {
        let piece = PIECE.min(len - read);
        let piece_len = usize::try_from(piece).unwrap_or_else(|_| unreachable!("it fits into memory"));
        hash.update(bytes.read_at(at + read, piece_len)?);
        read += piece;
    }
    Ok(hash.finalize().into())
}

/// Name and size of a header, whatever else is in it.
fn parts(block: &[u8]) -> Option<(&str, u64)> {
    let name = block.get(..NAME_MAX)?;
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_MAX);
    let name = str::from_utf8(name.get(..end)?).ok()?;
    let digits = str::from_utf8(block.get(SIZE_AT.start..SIZE_AT.end - 1)?).ok()?;
    Some((name, u64::from_str_radix(digits, 8).ok()?))
}

/// The one header of a name and a size.
fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(SIZE_AT.start, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(CHECKSUM_AT.start, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM_AT].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Whether a name stays in the archive and fits into its field.
fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && name.split('/').all(|part| !["", ".", ".."].contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_read_as_it_was_written_and_in_no_other_way() {
        let files = BTreeMap::from([
            ("MANIFEST".to_owned(), b"x".to_vec()),
            ("log/a/b".to_owned(), vec![7; 512]),
            ("log/c".to_owned(), Vec::new()),
        ]);
        let bytes = write(&files).expect("names fit");
        assert_eq!(contents(&bytes).expect("an archive"), files);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(contents(&other).is_none_or(|other| other != files), "byte {at}");
            assert!(read(&&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(read(&[&bytes[..], &[0; 512]].concat()).is_err(), "more zeros");
    }

    #[test]
    fn a_file_of_several_pieces_has_its_hash() {
        let content: Vec<u8> = (0..PIECE + 700).map(|at| at.to_le_bytes()[0]).collect();
        let bytes = write(&BTreeMap::from([("a".to_owned(), content.clone())])).expect("it fits");
        let files = read(&bytes).expect("an archive");
        assert_eq!(files["a"].sha256, <[u8; 32]>::from(Sha256::digest(&content)));
    }

    /// The bytes of docs/audit.md.
    #[test]
    fn the_header_of_the_example_has_its_checksum() {
        let header = header("about", 89);
        assert_eq!(&header[CHECKSUM_AT], b"006775\0 ");
        assert_eq!(&header[SIZE_AT], b"00000000131\0");
        assert_eq!(parts(&header), Some(("about", 89)));
    }

    #[test]
    fn names_do_not_leave_the_archive() {
        for wrong in ["", "/a", "a/", "../a", "a/../b", "a/./b", "a b", "a//b", &"x".repeat(101)] {
            assert!(write(&BTreeMap::from([(wrong.to_owned(), Vec::new())])).is_err(), "{wrong}");
        }
    }

    fn write(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, WriteError> {
        let mut bytes = Vec::new();
        for (name, content) in files {
            write_header(&mut bytes, name, content.len() as u64)?;
            bytes.extend(content);
            write_padding(&mut bytes, content.len() as u64)?;
        }
        write_end(&mut bytes)?;
        Ok(bytes)
    }

    fn contents(bytes: &Vec<u8>) -> Option<BTreeMap<String, Vec<u8>>> {
        let files = read(bytes).ok()?;
        let content = |member: &Member| {
            let at = usize::try_from(member.at).expect("small");
            bytes[at..at + usize::try_from(member.len).expect("small")].to_vec()
        };
        Some(files.iter().map(|(name, member)| (name.clone(), content(member))).collect())
    }
}
