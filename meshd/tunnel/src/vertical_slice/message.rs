//! What a datagram claims to be, before any cryptography.

use boringtun::noise::errors::WireGuardError;

/// Highest counter a data message may carry: the engine adds its window to it.
const COUNTER_MAX: u64 = u64::MAX - (1 << 14) - 1;
/// Bits of a receiver index that number the sessions of one tunnel.
const SESSION_BITS: u32 = 8;

/// Names a tunnel in the receiver index of inbound messages: 24 bits, unique in one data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelIndex(u32);

impl TunnelIndex {
    /// Takes the low 24 bits of a random number.
    pub fn from_random(random: u32) -> Self {
        Self(random & (u32::MAX >> SESSION_BITS))
    }

    /// A value below `bound` that differs from tunnel to tunnel; zero if `bound` is.
    pub fn spread(self, bound: u32) -> u32 {
        self.0.checked_rem(bound).unwrap_or(0)
    }

    pub(crate) fn from_receiver(receiver: u32) -> Self {
        Self(receiver >> SESSION_BITS)
    }

    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

/// Says why a datagram or packet was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Shorter than any message.
    #[error("datagram too short")]
    TooShort,
    /// Longer than the caller's buffer can take.
    #[error("datagram too long")]
    TooLong,
    /// No WireGuard message, or one of the wrong size.
    #[error("not a tunnel message")]
    NotTunnel,
    /// A handshake message whose MAC or contents do not verify.
    #[error("handshake does not verify")]
    BadHandshake,
    /// An initiation that was seen before, or is older than one that was.
    #[error("handshake was replayed")]
    HandshakeReplay,
    /// Too many handshake messages from senders that did not prove their address.
    #[error("too many handshakes")]
    RateLimited,
    /// No tunnel or session has this receiver index.
    #[error("unknown receiver index")]
    UnknownIndex,
    /// A counter that was seen before or lies behind the window.
    #[error("message was replayed")]
    Replay,
    /// The authentication tag of a data message does not verify.
    #[error("message does not verify")]
    BadTag,
    /// The plaintext is not an IP packet of its stated length.
    #[error("content is not an IP packet")]
    NotIp,
    /// The engine failed in a way that no datagram should cause.
    #[error("engine failure")]
    Engine,
}

impl Refused {
    /// Short label for counters.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooShort => "too-short",
            Self::TooLong => "too-long",
            Self::NotTunnel => "not-tunnel",
            Self::BadHandshake => "bad-handshake",
            Self::HandshakeReplay => "handshake-replay",
            Self::RateLimited => "handshake-rate-limited",
            Self::UnknownIndex => "unknown-index",
            Self::Replay => "replay",
            Self::BadTag => "bad-tag",
            Self::NotIp => "not-ip",
            Self::Engine => "engine",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Initiation,
    Response,
    Cookie,
    Data,
}

/// Reads type and receiver index, and checks the size that belongs to the type.
///
/// The engine would panic on a counter near the end of its range, so such a message never reaches it.
pub(crate) fn classify(datagram: &[u8]) -> Result<(MessageKind, Option<TunnelIndex>), Refused> {
    let header: &[u8; 16] = datagram.first_chunk().ok_or(Refused::TooShort)?;
    let index_at = |at: usize| {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        Some(TunnelIndex::from_receiver(u32::from_le_bytes(bytes)))
    };
    let kind = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    match (kind, datagram.len()) {
        (1, 148) => Ok((MessageKind::Initiation, None)),
        (2, 92) => Ok((MessageKind::Response, index_at(8))),
        (3, 64) => Ok((MessageKind::Cookie, index_at(4))),
        (4, 32..) => {
            let (_, counter) = header.split_at(8);
            let counter = counter.try_into().map_or(u64::MAX, u64::from_le_bytes);
            if counter > COUNTER_MAX {
                return Err(Refused::Replay);
            }
            Ok((MessageKind::Data, index_at(4)))
        }
        (4, _) => Err(Refused::TooShort),
        _ => Err(Refused::NotTunnel),
    }
}

/// Sorts an engine error by what the counters should say.
pub(crate) fn refusal(error: WireGuardError, kind: MessageKind) -> Refused {
    let handshake = kind != MessageKind::Data;
    match error {
        WireGuardError::WrongIndex | WireGuardError::NoCurrentSession => Refused::UnknownIndex,
        WireGuardError::WrongTai64nTimestamp => Refused::HandshakeReplay,
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => Refused::Replay,
        WireGuardError::UnderLoad => Refused::RateLimited,
        WireGuardError::InvalidAeadTag if !handshake => Refused::BadTag,
        WireGuardError::InvalidPacket if !handshake => Refused::NotIp,
        WireGuardError::UnexpectedPacket => Refused::UnknownIndex,
        WireGuardError::InvalidAeadTag
        | WireGuardError::InvalidPacket
        | WireGuardError::InvalidMac
        | WireGuardError::InvalidTai64nTimestamp
        | WireGuardError::WrongKey
        | WireGuardError::IncorrectPacketLength
        | WireGuardError::WrongPacketType => Refused::BadHandshake,
        WireGuardError::DestinationBufferTooSmall
        | WireGuardError::LockFailed
        | WireGuardError::ConnectionExpired => Refused::Engine,
    }
}
