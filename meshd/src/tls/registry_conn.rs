//! A member's connection to the embedded registry.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use meshd_registry::server::ClientKey;
use meshd_wire::PublicKey;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::admission::{Admission, Seat};

/// A TLS stream whose client key is in the admission set, now and at each read and write.
#[derive(Debug)]
pub struct RegistryConn {
    stream: Box<TlsStream<TcpStream>>,
    client: PublicKey,
    admission: Admission,
    _seat: Seat,
}

impl RegistryConn {
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        admission: Admission,
        client: PublicKey,
        seat: Seat,
    ) -> Self {
        Self { stream: Box::new(stream), client, admission, _seat: seat }
    }

    /// Transport key of the member.
    pub fn client(&self) -> PublicKey {
        self.client
    }

    fn admitted(&self) -> io::Result<()> {
        if self.admission.admits(&self.client) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the client is no member any more"))
    }
}

impl Connected for RegistryConn {
    type ConnectInfo = ClientKey;

    fn connect_info(&self) -> Self::ConnectInfo {
        ClientKey(Some(self.client.0))
    }
}

impl AsyncRead for RegistryConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.admitted()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for RegistryConn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.admitted()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.admitted()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
