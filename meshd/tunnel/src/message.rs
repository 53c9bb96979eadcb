//! Handshake messages as they travel.

use std::fmt;

/// Bytes of a handshake initiation.
pub(crate) const INITIATION_LEN: usize = 148;
/// Bytes of a handshake response.
pub(crate) const RESPONSE_LEN: usize = 92;
/// Bytes of a cookie reply.
pub(crate) const COOKIE_REPLY_LEN: usize = 64;
/// Bytes of the Noise message in an initiation.
pub(crate) const NOISE_INITIATION_LEN: usize = 108;
/// Bytes of the Noise message in a response.
pub(crate) const NOISE_RESPONSE_LEN: usize = 48;
/// Bytes of each of the two MACs.
pub(crate) const MAC_LEN: usize = 16;
/// Bytes of the nonce of a cookie reply.
pub(crate) const COOKIE_NONCE_LEN: usize = 24;
/// Bytes of a sealed cookie.
pub(crate) const SEALED_COOKIE_LEN: usize = 32;

const INITIATION: u32 = 1;
const RESPONSE: u32 = 2;
const COOKIE_REPLY: u32 = 3;

/// A message the engine sends: a handshake message, a cookie reply or a keepalive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Message {
    bytes: [u8; INITIATION_LEN],
    len: u8,
}

/// A handshake message by its type, its fields borrowed from the datagram.
pub(crate) enum Incoming<'a> {
    Initiation(Initiation<'a>),
    Response(Response<'a>),
    CookieReply(CookieReply<'a>),
}

pub(crate) struct Initiation<'a> {
    pub(crate) sender: u32,
    pub(crate) noise: &'a [u8; NOISE_INITIATION_LEN],
    pub(crate) macs: Macs<'a>,
}

pub(crate) struct Response<'a> {
    pub(crate) sender: u32,
    pub(crate) receiver: u32,
    pub(crate) noise: &'a [u8; NOISE_RESPONSE_LEN],
    pub(crate) macs: Macs<'a>,
}

pub(crate) struct CookieReply<'a> {
    pub(crate) receiver: u32,
    pub(crate) nonce: &'a [u8; COOKIE_NONCE_LEN],
    pub(crate) sealed: &'a [u8; SEALED_COOKIE_LEN],
}

/// The two MACs at the end of a message, and what each of them covers.
pub(crate) struct Macs<'a> {
    pub(crate) covered_by_mac1: &'a [u8],
    pub(crate) mac1: &'a [u8; MAC_LEN],
    pub(crate) covered_by_mac2: &'a [u8],
    pub(crate) mac2: &'a [u8; MAC_LEN],
}

impl<'a> Incoming<'a> {
    /// Reads a message of exactly the length its type has. The three reserved bytes must be zero.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first_chunk()?;
        match (u32::from_le_bytes(*kind), bytes.len()) {
            (INITIATION, INITIATION_LEN) => {
                let (sender, rest) = rest.split_first_chunk()?;
                let (noise, _) = rest.split_first_chunk()?;
                let sender = u32::from_le_bytes(*sender);
                Some(Self::Initiation(Initiation { sender, noise, macs: Macs::parse(bytes)? }))
            }
            (RESPONSE, RESPONSE_LEN) => {
                let (sender, rest) = rest.split_first_chunk()?;
                let (receiver, rest) = rest.split_first_chunk()?;
                let (noise, _) = rest.split_first_chunk()?;
                let (sender, receiver) = (u32::from_le_bytes(*sender), u32::from_le_bytes(*receiver));
                Some(Self::Response(Response { sender, receiver, noise, macs: Macs::parse(bytes)? }))
            }
            (COOKIE_REPLY, COOKIE_REPLY_LEN) => {
                let (receiver, rest) = rest.split_first_chunk()?;
                let (nonce, rest) = rest.split_first_chunk()?;
                let (sealed, _) = rest.split_first_chunk()?;
                let receiver = u32::from_le_bytes(*receiver);
                Some(Self::CookieReply(CookieReply { receiver, nonce, sealed }))
            }
            _ => None,
        }
    }
}

impl<'a> Macs<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (covered_by_mac2, mac2) = bytes.split_last_chunk()?;
        let (covered_by_mac1, mac1) = covered_by_mac2.split_last_chunk()?;
        Some(Self { covered_by_mac1, mac1, covered_by_mac2, mac2 })
    }
}

impl Message {
    /// An initiation without its MACs: they are zero.
    pub(crate) fn initiation(sender: u32, noise: &[u8; NOISE_INITIATION_LEN]) -> Self {
        let indices = sender.to_le_bytes();
        Self::of(INITIATION, &[&indices, noise, &[0; 2 * MAC_LEN]])
    }

    /// A response without its MACs: they are zero.
    pub(crate) fn response(sender: u32, receiver: u32, noise: &[u8; NOISE_RESPONSE_LEN]) -> Self {
        Self::of(RESPONSE, &[&sender.to_le_bytes(), &receiver.to_le_bytes(), noise, &[0; 2 * MAC_LEN]])
    }

    pub(crate) fn cookie_reply(
        receiver: u32,
        nonce: &[u8; COOKIE_NONCE_LEN],
        sealed: &[u8; SEALED_COOKIE_LEN],
    ) -> Self {
        Self::of(COOKIE_REPLY, &[&receiver.to_le_bytes(), nonce, sealed])
    }

    /// An empty message for `fill` to write, of which the first `len` bytes are sent.
    pub(crate) fn filled_by<E>(fill: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<Self, E> {
        let mut message = Self { bytes: [0; INITIATION_LEN], len: 0 };
        let len = fill(&mut message.bytes)?;
        message.len = len.min(INITIATION_LEN) as u8;
        Ok(message)
    }

    /// Writes both MACs of a handshake message, the second over the first.
    pub(crate) fn set_macs(
        &mut self,
        mac1: impl FnOnce(&[u8]) -> [u8; MAC_LEN],
        mac2: impl FnOnce(&[u8]) -> [u8; MAC_LEN],
    ) -> [u8; MAC_LEN] {
        let len = usize::from(self.len);
        let (at_mac1, at_mac2) = (len.saturating_sub(2 * MAC_LEN), len.saturating_sub(MAC_LEN));
        let first = mac1(&self.bytes[..at_mac1]);
        self.bytes[at_mac1..at_mac2].copy_from_slice(&first);
        let second = mac2(&self.bytes[..at_mac2]);
        self.bytes[at_mac2..len].copy_from_slice(&second);
        first
    }

    fn of(kind: u32, parts: &[&[u8]]) -> Self {
        let mut bytes = [0; INITIATION_LEN];
        let mut len = 0;
        for part in [&[&kind.to_le_bytes()[..]], parts].concat() {
            bytes[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        Self { bytes, len: len as u8 }
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("kind", &self.bytes[0]).field("len", &self.len).finish()
    }
}
