//! Envelopes one behind the other, each after its length.

use meshd_wire::limits::RECORD_BYTES_MAX;

/// Bytes of a length.
const LENGTH_LEN: usize = 4;

/// Says why bytes are no row of envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The last one is cut off.
    #[error("it ends within a record")]
    End,
    /// Longer than any envelope.
    #[error("a record of {0} bytes, at most {RECORD_BYTES_MAX}")]
    TooLarge(u32),
}

/// Reads envelopes as they stand one behind the other; an empty one stands for none.
pub fn read_frames(bytes: &[u8]) -> Result<Vec<&[u8]>, FrameError> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<LENGTH_LEN>().ok_or(FrameError::End)?;
        let length = u32::from_be_bytes(*length);
        let len = usize::try_from(length).map_err(|_| FrameError::TooLarge(length))?;
        if len > RECORD_BYTES_MAX {
            return Err(FrameError::TooLarge(length));
        }
        let (frame, after) = after.split_at_checked(len).ok_or(FrameError::End)?;
        frames.push(frame);
        rest = after;
    }
    Ok(frames)
}

/// Writes envelopes one behind the other.
pub fn write_frames<'f>(frames: impl IntoIterator<Item = &'f [u8]>) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::new();
    for frame in frames {
        let length = u32::try_from(frame.len()).map_err(|_| FrameError::TooLarge(u32::MAX))?;
        if frame.len() > RECORD_BYTES_MAX {
            return Err(FrameError::TooLarge(length));
        }
        bytes.extend(length.to_be_bytes());
        bytes.extend(frame);
    }
    Ok(bytes)
}
