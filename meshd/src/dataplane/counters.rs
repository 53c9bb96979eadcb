//! Why packets were dropped, and how many.

use std::sync::atomic::{AtomicU64, Ordering};

use meshd_tunnel::Refused;

/// Label of the datagrams that found a socket's buffer full: the kernel drops and counts them, no thread of ours.
pub(super) const UDP_BUFFER_FULL: &str = "udp-buffer-full";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// A reason for which a packet, datagram or event is dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            const LABELS: &[&str] = &[$($label,)*];
        }
    };
}

reasons! {
    /// The destination, or the sender of an initiation, is no peer.
    NoPeer = "no-peer",
    /// The peer has no address it could be reached at.
    NoPath = "no-path",
    /// The peer has not answered handshakes for a long time.
    Absent = "peer-absent",
    /// The inner source does not belong to the sending peer.
    BadSource = "bad-source",
    /// The inner destination is not this node.
    BadDestination = "bad-destination",
    /// Multicast and broadcast are not carried.
    NotUnicast = "not-unicast",
    /// Not an IP packet of its stated length.
    NotIp = "not-ip",
    /// Longer than the path carries; the sender is told.
    TooBig = "too-big",
    /// The flow is not allowed.
    Denied = "denied",
    /// Marked on its way as having met congestion, and its sender would not see the mark.
    Congested = "congested",
    /// Forwarded too often.
    HopLimit = "hop-limit",
    /// No tunnel or session has the receiver index.
    UnknownIndex = "unknown-index",
    /// A handshake message that does not verify.
    BadHandshake = "bad-handshake",
    /// An initiation seen before, or older than one seen before.
    HandshakeReplay = "handshake-replay",
    /// An initiation right after another of the same peer.
    HandshakeTooSoon = "handshake-too-soon",
    /// An initiation in a suite that was not agreed on.
    SuiteMismatch = "suite-mismatch",
    /// A handshake answered with a cookie, or beyond what its sender may ask for.
    RateLimited = "handshake-rate-limited",
    /// A cookie that answers nothing.
    BadCookie = "bad-cookie",
    /// More handshake messages than fit the queue.
    ControlQueueFull = "handshake-queue-full",
    /// A data message seen before.
    Replay = "replay",
    /// A data message with a counter that its key may not open.
    CounterTooHigh = "counter-too-high",
    /// A data message that does not verify.
    BadTag = "bad-tag",
    /// Shorter than any message.
    TooShort = "too-short",
    /// Longer than a buffer.
    TooLong = "too-long",
    /// Not a message of the tunnel protocol.
    NotTunnel = "not-tunnel",
    /// More datagrams of control channels than fit the queue; their senders repeat what they held.
    ChannelQueueFull = "channel-queue-full",
    /// A datagram whose outer source lies in the overlay.
    OverlayLoop = "overlay-loop",
    /// Pushed out by newer packets while a handshake ran, or given up with it.
    QueueFull = "queue-full",
    /// The device did not take the packet.
    TunWriteFailed = "tun-write-failed",
    /// The device could not be read.
    TunReadFailed = "tun-read-failed",
    /// The socket did not take the datagram.
    UdpSendFailed = "udp-send-failed",
    /// The socket could not be read.
    UdpReceiveFailed = "udp-receive-failed",
    /// Too many "unreachable" answers in a second.
    IcmpRateLimited = "icmp-rate-limited",
    /// Nobody took the events quickly enough.
    EventQueueFull = "event-queue-full",
    /// A data thread that panicked and started again, with the packets it held.
    ThreadRestarted = "thread-restarted",
    /// The tunnel engine failed.
    Engine = "engine",
}

/// One number for each reason.
#[derive(Debug)]
pub(super) struct Counters {
    counts: Vec<AtomicU64>,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self { counts: Reason::LABELS.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    pub(super) fn add(&self, reason: Reason) {
        self.add_many(reason, 1);
    }

    pub(super) fn add_many(&self, reason: Reason, count: usize) {
        if count > 0
            && let Some(counter) = self.counts.get(reason as usize)
        {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn all(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Reason::LABELS.iter().copied().zip(counts).collect()
    }
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooShort => Self::TooShort,
            Refused::NotTunnel => Self::NotTunnel,
            Refused::UnknownIndex => Self::UnknownIndex,
            Refused::CounterTooHigh => Self::CounterTooHigh,
            Refused::Replay => Self::Replay,
            Refused::BadTag => Self::BadTag,
            Refused::BadMac | Refused::BadHandshake => Self::BadHandshake,
            Refused::NoPeer => Self::NoPeer,
            Refused::SuiteMismatch => Self::SuiteMismatch,
            Refused::HandshakeReplay => Self::HandshakeReplay,
            Refused::HandshakeTooSoon => Self::HandshakeTooSoon,
            Refused::RateLimited | Refused::TooManyHandshakes => Self::RateLimited,
            Refused::BadCookie => Self::BadCookie,
            Refused::BadPeerKey => Self::Engine,
        }
    }
}
