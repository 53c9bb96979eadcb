//! Values that are kept in a pair of files each, with their format at the front.

use std::path::Path;

use meshd_wire::{DecodeError, cbor};
use minicbor::{Decode, Encode};

use crate::generations::{Generations, GenerationsError};

/// What a pair of files holds.
pub trait Stored: Encode<()> + for<'b> Decode<'b, ()> {
    /// Name of the pair.
    const NAME: &'static str;
    /// The format that this release reads and writes.
    const FORMAT: u8;

    /// The format it was written in.
    fn format(&self) -> u8;
}

/// Reports a value that can't be read or stored.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// A file failed.
    #[error(transparent)]
    File(#[from] GenerationsError),
    /// The files are sound but hold something else.
    #[error("decode the {name}")]
    Decode {
        /// Name of the pair.
        name: &'static str,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

/// Opens the files of a value and reads it, if they exist.
pub fn open<T: Stored>(dir: &Path) -> Result<(Generations, Option<T>), StoredError> {
    let (file, bytes) = Generations::open(dir, T::NAME)?;
    let failed = |source| StoredError::Decode { name: T::NAME, source };
    let value: Option<T> = bytes.map(|bytes| cbor::decode(&bytes)).transpose().map_err(failed)?;
    match value {
        Some(value) if value.format() != T::FORMAT => {
            Err(failed(DecodeError::Malformed(format!("format {}", value.format()))))
        }
        value => Ok((file, value)),
    }
}

/// Replaces the value; when this returns, it is on disk.
pub fn write<T: Stored>(file: &mut Generations, value: &T) -> Result<(), GenerationsError> {
    file.write(&cbor::encode_secret(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Encode, Decode)]
    #[cbor(array)]
    struct Number {
        #[n(0)]
        format: u8,
        #[n(1)]
        number: u64,
    }

    impl Stored for Number {
        const NAME: &'static str = "number";
        const FORMAT: u8 = 3;

        fn format(&self) -> u8 {
            self.format
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().expect("directory");
        let (mut file, none) = open::<Number>(dir.path()).expect("opens");
        assert!(none.is_none());
        write(&mut file, &Number { format: 3, number: 7 }).expect("writes");
        let (_, read) = open::<Number>(dir.path()).expect("opens");
        assert_eq!(read.expect("a value").number, 7);
    }

    #[test]
    fn another_format_and_other_bytes_are_refused() {
        for bytes in [cbor::encode(&Number { format: 2, number: 7 }), b"no cbor".to_vec(), Vec::new()] {
            let dir = tempfile::tempdir().expect("directory");
            let (mut file, _) = Generations::open(dir.path(), Number::NAME).expect("opens");
            file.write(&bytes).expect("writes");
            let refused = open::<Number>(dir.path());
            assert!(matches!(refused, Err(StoredError::Decode { name: "number", .. })), "{bytes:?}");
        }
    }
}
