//! Frames on streams: a length, and so many bytes of CBOR.

/// Gives types the bytes that stand behind the length.
macro_rules! frame {
    ($($name:ident),+) => {$(
        impl $name {
            /// Encodes it.
            pub fn to_bytes(&self) -> Vec<u8> {
                crate::cbor::encode(self)
            }

            /// Decodes it, size first.
            pub fn from_bytes(bytes: &[u8]) -> Result<Self, crate::cbor::DecodeError> {
                let (len, max) = (bytes.len(), crate::limits::FRAME_BYTES_MAX);
                if len > max {
                    return Err(crate::cbor::DecodeError::TooLarge { len, max });
                }
                crate::cbor::decode(bytes)
            }
        }
    )+};
}

pub(crate) use frame;
