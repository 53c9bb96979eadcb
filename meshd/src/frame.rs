//! Length-prefixed frames on a stream.

use std::io;

use meshd_wire::limits::FRAME_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reports a frame that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed or ended inside a frame.
    #[error("read a frame")]
    Io(#[from] io::Error),
    /// The length says more than is allowed.
    #[error("a frame of {len} bytes, at most {max} are allowed")]
    TooLarge {
        /// Length given.
        len: usize,
        /// Length allowed.
        max: usize,
    },
}

/// Reads one frame; None if the stream ends before it.
pub(crate) async fn read_frame<S>(stream: &mut S, bytes_max: usize) -> Result<Option<Vec<u8>>, FrameError>
where
    S: AsyncRead + Unpin,
{
    let mut head = [0; 4];
    // An end before the first byte is an orderly end; one inside the head is not.
    if stream.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..]).await?;
    let len = u32::from_be_bytes(head);
    let too_large = FrameError::TooLarge { len: len as usize, max: bytes_max };
    if len as usize > bytes_max {
        return Err(too_large);
    }
    // The buffer grows with the bytes that arrive, not with the length that is claimed.
    let mut frame = Vec::new();
    let got = stream.take(u64::from(len)).read_to_end(&mut frame).await?;
    if got < len as usize {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(frame))
}

/// Writes one frame and flushes it.
pub(crate) async fn write_frame<S>(stream: &mut S, frame: &[u8]) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let len = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= FRAME_BYTES_MAX);
    let len = len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the frame is too large"))?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(frame).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_back_as_written() {
        let (mut one, mut two) = tokio::io::duplex(64);
        let writer = tokio::spawn(async move {
            write_frame(&mut one, b"").await.expect("writes");
            write_frame(&mut one, &[9; 500]).await.expect("writes");
        });
        assert_eq!(read_frame(&mut two, 500).await.expect("reads"), Some(Vec::new()));
        assert_eq!(read_frame(&mut two, 500).await.expect("reads"), Some(vec![9; 500]));
        writer.await.expect("writer");
        assert_eq!(read_frame(&mut two, 500).await.expect("reads"), None);
    }

    #[tokio::test]
    async fn a_cut_frame_is_an_error_and_never_a_short_frame() {
        let whole = [&7u32.to_be_bytes()[..], b"1234567"].concat();
        for len in 1..whole.len() {
            let error = read_frame(&mut &whole[..len], 500).await.expect_err("is cut");
            assert!(matches!(error, FrameError::Io(_)), "{error}");
        }
    }

    #[tokio::test]
    async fn a_length_beyond_the_limit_is_refused_before_its_bytes() {
        let error = read_frame(&mut &501u32.to_be_bytes()[..], 500).await.expect_err("is too large");
        assert!(matches!(error, FrameError::TooLarge { len: 501, max: 500 }), "{error}");
    }
}
