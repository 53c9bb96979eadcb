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
        }
    }
}
