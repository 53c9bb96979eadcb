//! Deterministic CBOR: arrays, integers, booleans, text, bytes and null, nothing else.

use std::convert::Infallible;

use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use crate::kind::Kind;
use crate::limits::{ARRAY_LEN_MAX, DEPTH_MAX};

/// Reports bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than a limit allows.
    #[error("too large: {len} bytes, at most {max}")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// An array longer, or nested deeper, than a limit allows.
    #[error("an array is too long or nested too deeply")]
    Shape,
    /// A CBOR type that records do not use.
    #[error("a CBOR type that is not allowed at byte {at}")]
    ForbiddenType {
        /// Where it stands.
        at: usize,
    },
    /// Bytes end early, or a field has the wrong type or size.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes follow the value.
    #[error("bytes follow the value")]
    Trailing,
    /// The same value has a shorter or other encoding.
    #[error("not the deterministic encoding")]
    NotCanonical,
    /// A version of a kind that this release does not know.
    #[error("unknown version {version} of {}", kind.name())]
    Version {
        /// The kind.
        kind: Kind,
        /// The version given.
        version: u8,
    },
    /// Another kind than expected.
    #[error("kind {found} where {} was expected", expected.name())]
    WrongKind {
        /// The kind expected.
        expected: Kind,
        /// The number found.
        found: u16,
    },
}

/// Encodes a value; encoding into memory cannot fail.
pub fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    encode_into(Vec::new(), value)
}

/// Encodes a value that may be secret. A buffer that grows leaves copies behind; this one has its length from the
/// beginning, and is wiped.
pub fn encode_secret<T: Encode<()>>(value: &T) -> Zeroizing<Vec<u8>> {
    let mut length = Length(0);
    minicbor::encode(value, &mut length).unwrap_or_else(|error| unreachable!("counting bytes: {error}"));
    encode_secret_within(value, length.0)
}

fn encode_secret_within<T: Encode<()>>(value: &T, len: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(encode_into(Vec::with_capacity(len), value))
}

/// Counts bytes.
struct Length(usize);

impl minicbor::encode::Write for Length {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0 += bytes.len();
        Ok(())
    }
}

fn encode_into<T: Encode<()>>(mut out: Vec<u8>, value: &T) -> Vec<u8> {
    match minicbor::encode(value, &mut out) {
        Ok(()) => out,
        Err(error) => unreachable!("encoding into a Vec: {error}"),
    }
}

/// Decodes a value by rules R2 and R3: shape first, everything consumed, encoding again gives the same.
pub fn decode<T>(bytes: &[u8]) -> Result<T, DecodeError>
where
    T: Encode<()> + for<'b> Decode<'b, ()>,
{
    check_shape(bytes)?;
    let mut decoder = minicbor::Decoder::new(bytes);
    let value: T = decoder.decode().map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if decoder.position() != bytes.len() {
        return Err(DecodeError::Trailing);
    }
    let again = encode_secret_within(&value, bytes.len());
    if *again == bytes { Ok(value) } else { Err(DecodeError::NotCanonical) }
}

/// First field of an array of whatever version: shape first, everything consumed.
pub(crate) fn version(bytes: &[u8]) -> Result<u8, DecodeError> {
    check_shape(bytes)?;
    let malformed = |error: minicbor::decode::Error| DecodeError::Malformed(error.to_string());
    let mut decoder = minicbor::Decoder::new(bytes);
    decoder.skip().map_err(malformed)?;
    if decoder.position() != bytes.len() {
        return Err(DecodeError::Trailing);
    }
    decoder.set_position(0);
    decoder.array().map_err(malformed)?;
    decoder.u8().map_err(malformed)
}

/// Walks the bytes once without allocating: only allowed types, array lengths and depth within limits.
fn check_shape(bytes: &[u8]) -> Result<(), DecodeError> {
    use minicbor::data::Type;

    let malformed = |error: minicbor::decode::Error| DecodeError::Malformed(error.to_string());
    let mut decoder = minicbor::Decoder::new(bytes);
    // Elements still to come at each open level; level 0 is the one value itself.
    let mut open = [0u64; DEPTH_MAX + 1];
    open[0] = 1;
    let mut depth = 0usize;
    loop {
        while depth > 0 && open[depth] == 0 {
            depth -= 1;
        }
        if open[depth] == 0 {
            return Ok(());
        }
        open[depth] -= 1;
        let at = decoder.position();
        match decoder.datatype().map_err(malformed)? {
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::Bool
            | Type::Null
            | Type::Bytes
            | Type::String => {
                decoder.skip().map_err(malformed)?;
            }
            Type::Array => {
                let len = decoder.array().map_err(malformed)?.ok_or(DecodeError::ForbiddenType { at })?;
                if len > ARRAY_LEN_MAX as u64 || depth == DEPTH_MAX {
                    return Err(DecodeError::Shape);
                }
                depth += 1;
                open[depth] = len;
            }
            _ => return Err(DecodeError::ForbiddenType { at }),
        }
    }
}
