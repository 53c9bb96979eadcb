//! The ustar archive of a bundle: regular files in the order of their names, every other byte fixed.
//!
//! A header is compared as a whole with the one that its name and size give, so there is one archive of some files.

use std::collections::BTreeMap;

const BLOCK: usize = 512;
/// Zero blocks at the end.
const END: usize = 2 * BLOCK;
/// Longest name: the field without its prefix, which no name here needs.
const NAME_MAX: usize = 100;
/// Largest size that 11 octal digits hold.
const SIZE_MAX: u64 = (1 << 33) - 1;

const SIZE_AT: std::ops::Range<usize> = 124..136;
const CHECKSUM_AT: std::ops::Range<usize> = 148..156;

/// Files of an archive by name.
pub(crate) type Archived<'a> = BTreeMap<&'a str, &'a [u8]>;

/// Says why bytes are no archive of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// A header that is not the one for its name and size.
    #[error("byte {at} begins no header of a regular file as a bundle has them")]
    Header {
        /// Where it begins.
        at: usize,
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

/// Writes files in the order of their names.
pub(crate) fn write(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        if !is_name(name) {
            return Err(ArchiveError::Name(name.clone()));
        }
        let size = u64::try_from(content.len()).ok().filter(|size| *size <= SIZE_MAX);
        bytes.extend(header(name, size.ok_or_else(|| ArchiveError::TooLarge(name.clone()))?));
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.resize(bytes.len() + END, 0);
    Ok(bytes)
}

/// Reads what [`write`] writes, and nothing else.
pub(crate) fn read(bytes: &[u8]) -> Result<Archived<'_>, ArchiveError> {
    let mut files = Archived::new();
    let mut last = "";
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((block, content)) = rest.split_at_checked(BLOCK) else {
            return Err(ArchiveError::End(last.to_owned()));
        };
        if block.iter().all(|byte| *byte == 0) {
            let is_end = rest.len() == END && rest.iter().all(|byte| *byte == 0);
            return if is_end { Ok(files) } else { Err(ArchiveError::Padding(last.to_owned())) };
        }
        let (name, size) = parts(block).ok_or(ArchiveError::Header { at })?;
        if !is_name(name) {
            return Err(ArchiveError::Name(name.to_owned()));
        }
        if header(name, size) != *block {
            return Err(ArchiveError::Header { at });
        }
        if !files.is_empty() && name <= last {
            return Err(ArchiveError::Order(name.to_owned()));
        }
        let end = || ArchiveError::End(name.to_owned());
        let len = usize::try_from(size).map_err(|_| end())?;
        let (content, _) = content.split_at_checked(len).ok_or_else(end)?;
        let next = at + BLOCK + len.next_multiple_of(BLOCK);
        let padding = bytes.get(at + BLOCK + len..next).ok_or_else(end)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(ArchiveError::Padding(name.to_owned()));
        }
        files.insert(name, content);
        (last, at) = (name, next);
    }
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
        let read_back = read(&bytes).expect("an archive");
        assert!(
            read_back
                .iter()
                .map(|(name, content)| (*name, *content))
                .eq(files.iter().map(|(name, content)| (name.as_str(), content.as_slice())))
        );
        let whole: BTreeMap<String, Vec<u8>> =
            read_back.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec())).collect();
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            let same = read(&other).is_ok_and(|files| {
                files
                    .iter()
                    .map(|(name, content)| ((*name).to_owned(), content.to_vec()))
                    .collect::<BTreeMap<_, _>>()
                    == whole
            });
            assert!(!same, "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(read(&[&bytes[..], &[0; 512]].concat()).is_err(), "more zeros");
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
}
