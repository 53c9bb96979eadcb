//! Why a datagram is dropped.

/// Says why a message was refused; one variant for each counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refused {
    /// Shorter than any message of its kind.
    #[error("datagram too short")]
    TooShort,
    /// Not a message of the tunnel protocol.
    #[error("not a tunnel message")]
    NotTunnel,
    /// No session has this receiver index.
    #[error("unknown receiver index")]
    UnknownIndex,
    /// A counter beyond what one key may open.
    #[error("counter beyond the limit of the session")]
    CounterTooHigh,
    /// A counter that was seen before or lies behind the window.
    #[error("message was replayed")]
    Replay,
    /// The authentication tag does not verify.
    #[error("message does not verify")]
    BadTag,
    /// A handshake message for none of our static keys.
    #[error("handshake message is for another key")]
    BadMac,
    /// A handshake message that does not verify.
    #[error("handshake does not verify")]
    BadHandshake,
    /// The sender of an initiation is no peer.
    #[error("initiator is no peer")]
    NoPeer,
    /// An initiation in a suite that the peer and this node have not agreed on.
    #[error("initiation is in another suite")]
    SuiteMismatch,
    /// A handshake message that was seen before, or an initiation older than one that was.
    #[error("handshake was replayed")]
    HandshakeReplay,
    /// An initiation right after another of the same peer.
    #[error("initiation came too soon after another")]
    HandshakeTooSoon,
    /// An initiation answered with a cookie.
    #[error("sender must prove its address")]
    RateLimited,
    /// An initiation from a proven address that has sent too many bad ones.
    #[error("too many bad handshakes")]
    TooManyHandshakes,
    /// A cookie that does not answer what this node has sent.
    #[error("cookie does not verify")]
    BadCookie,
    /// The public key of a peer with which no secret can be shared.
    #[error("peer has an unusable key")]
    BadPeerKey,
}

impl Refused {
    /// Short label for the counters.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooShort => "too-short",
            Self::NotTunnel => "not-tunnel",
            Self::UnknownIndex => "unknown-index",
            Self::CounterTooHigh => "counter-too-high",
            Self::Replay => "replay",
            Self::BadTag => "bad-tag",
            Self::BadMac => "bad-mac",
            Self::BadHandshake => "bad-handshake",
            Self::NoPeer => "no-peer",
            Self::SuiteMismatch => "suite-mismatch",
            Self::HandshakeReplay => "handshake-replay",
            Self::HandshakeTooSoon => "handshake-too-soon",
            Self::RateLimited => "handshake-rate-limited",
            Self::TooManyHandshakes => "too-many-handshakes",
            Self::BadCookie => "bad-cookie",
            Self::BadPeerKey => "bad-peer-key",
        }
    }
}
