//! The tunnel's port as QUIC sees it: datagrams in from the engine's thread, out by the socket for control messages.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::mpsc;

use crate::dataplane::{QuicDatagram, QuicPort, QuicSender};

/// A socket of both address families: IPv4 addresses are mapped (RFC 4291, section 2.5.5.2).
#[derive(Debug)]
pub(super) struct TunnelSocket {
    port: u16,
    sender: QuicSender,
    inbox: Mutex<mpsc::Receiver<QuicDatagram>>,
}

impl TunnelSocket {
    pub(super) fn new(port: QuicPort) -> Self {
        let number = port.number();
        let (sender, inbox) = port.split();
        Self { port: number, sender, inbox: Mutex::new(inbox) }
    }
}

impl AsyncUdpSocket for TunnelSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let to = SocketAddr::new(transmit.destination.ip().to_canonical(), transmit.destination.port());
        self.sender.send(transmit.contents, to);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let mut received = 0;
        for (buffer, meta) in buffers.iter_mut().zip(metas) {
            let datagram = match inbox.poll_recv(context) {
                Poll::Ready(Some(datagram)) => datagram,
                Poll::Ready(None) if received == 0 => {
                    return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                }
                Poll::Pending if received == 0 => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            };
            // One that is longer than the buffer does not verify when it is cut.
            let len = datagram.bytes.len().min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(&datagram.bytes) {
                *to = *from;
            }
            *meta = RecvMeta { addr: mapped(datagram.source), len, stride: len, ecn: None, dst_ip: None };
            received += 1;
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok((Ipv6Addr::UNSPECIFIED, self.port).into())
    }
}

/// A full socket loses the datagram, as any router may: nobody waits for it.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port()),
        SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
    }
}
