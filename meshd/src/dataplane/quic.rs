//! QUIC on the tunnel's port: its datagrams are told from the tunnel's by one bit (RFC 9443), and are handed on unread.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::counters::Reason;
use super::shared::Shared;

/// Set in the first byte of each datagram of QUIC (RFC 9000, section 17), and of none of the tunnel.
const QUIC_BIT: u8 = 0x40;
/// Datagrams that wait to be read. A flood costs no more memory than this: a megabyte and a half.
const INBOX_LEN_MAX: usize = 1024;

/// A datagram as it came.
#[derive(Debug)]
pub struct QuicDatagram {
    /// Its sender, in canonical form.
    pub source: SocketAddr,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The end that the threads hold which receive.
#[derive(Debug, Default)]
pub(super) struct QuicInlet {
    reader: Mutex<Option<mpsc::Sender<QuicDatagram>>>,
}

impl QuicInlet {
    /// Hands a datagram of QUIC to the reader; gives the reason why one is dropped, also for not being of QUIC.
    pub(super) fn hand_on(&self, bytes: &[u8], source: SocketAddr) -> Result<(), Reason> {
        if bytes.first().is_none_or(|first| first & QUIC_BIT == 0) {
            return Err(Reason::NotTunnel);
        }
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = reader.as_ref().ok_or(Reason::NotTunnel)?;
        // A flood that finds no room costs no copy.
        let room = reader.try_reserve().map_err(|error| match error {
            TrySendError::Full(()) => Reason::ChannelQueueFull,
            TrySendError::Closed(()) => Reason::NotTunnel,
        })?;
        room.send(QuicDatagram { source, bytes: bytes.to_vec() });
        Ok(())
    }
}

/// One reader and any number of senders of the datagrams of QUIC.
pub struct QuicPort {
    shared: Arc<Shared>,
    port: u16,
    inbox: mpsc::Receiver<QuicDatagram>,
}

impl QuicPort {
    pub(super) fn open(shared: &Arc<Shared>, port: u16) -> Self {
        let (reader, inbox) = mpsc::channel(INBOX_LEN_MAX);
        *shared.quic.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
        Self { shared: Arc::clone(shared), port, inbox }
    }

    /// The UDP port.
    pub fn number(&self) -> u16 {
        self.port
    }

    /// Parts the sending side from what is received.
    pub fn split(self) -> (QuicSender, mpsc::Receiver<QuicDatagram>) {
        (QuicSender { shared: self.shared }, self.inbox)
    }
}

/// Sends datagrams of QUIC from the tunnel's port.
pub struct QuicSender {
    shared: Arc<Shared>,
}

impl QuicSender {
    /// Sends one datagram. One that the system does not take is lost like one on the way, and counted.
    pub fn send(&self, datagram: &[u8], to: SocketAddr) {
        self.shared.send_control(datagram, to);
    }
}

impl fmt::Debug for QuicPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicPort").field("port", &self.port).finish_non_exhaustive()
    }
}

impl fmt::Debug for QuicSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicSender").finish_non_exhaustive()
    }
}
