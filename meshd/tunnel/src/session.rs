//! The two halves of an established session, used by data threads without the engine.

mod rx;
mod tx;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use zeroize::Zeroizing;

pub use rx::{Opened, Opening};
pub use tx::{Reservation, SealError, Sealing, Unusable};

use crate::aead::Aead;
use crate::{Activity, PeerId, Suite, TunnelId};

/// Bytes of a data message before its ciphertext: type, receiver index, counter.
pub const HEADER_LEN: usize = 16;
/// Bytes of the authentication tag behind the ciphertext.
pub const TAG_LEN: usize = 16;
/// Bytes a data message is longer than the padded packet in it.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// Bytes of a data message without a packet.
pub const KEEPALIVE_LEN: usize = OVERHEAD;
/// Packets are padded to a multiple of this, so that a length tells less of the content.
pub const PADDING: usize = 16;
/// Packets up to this length are padded to it: bare acknowledgements of both IP versions then share a train.
pub const PADDING_SMALL: usize = 64;

/// Type of a data message, with the three reserved bytes behind it.
const DATA: u32 = 4;
/// Age from which the initiator replaces a session it sends on.
const REKEY_AFTER: Duration = Duration::from_secs(120);
/// Age from which the initiator replaces a session it only receives on: there is time for a retry before the end.
const REKEY_AFTER_RECEIVING: Duration = Duration::from_secs(165);
/// Age from which a session neither seals nor opens.
pub(crate) const REJECT_AFTER: Duration = Duration::from_secs(180);

/// Zero bytes to append to a packet; none beyond `mtu`, the longest plaintext of the path.
#[inline]
pub fn padding(packet_len: usize, mtu: usize) -> usize {
    let padded = match packet_len {
        0 => 0,
        1..=PADDING_SMALL => PADDING_SMALL,
        _ => packet_len.next_multiple_of(PADDING),
    };
    padded.min(mtu).saturating_sub(packet_len)
}

/// The transport keys a handshake ends with; each pair of them makes one session, once.
pub struct SessionKeys {
    /// Seals what leaves.
    pub send: Zeroizing<[u8; 32]>,
    /// Opens what comes.
    pub receive: Zeroizing<[u8; 32]>,
}

/// What a new session is besides its keys.
#[derive(Debug)]
pub struct SessionSpec {
    /// The cipher.
    pub suite: Suite,
    /// The receiver index the peer puts into its messages.
    pub index: u32,
    /// The receiver index of the peer.
    pub peer_index: u32,
    /// Whether this end began the handshake: only that end replaces the session by its age.
    pub is_initiator: bool,
    /// When the keys were derived.
    pub born: Duration,
    /// The stamps of the tunnel.
    pub activity: Arc<Activity>,
    /// The tunnel.
    pub tunnel: TunnelId,
    /// The peer at the other end of it.
    pub peer: PeerId,
}

/// Half of a session, with what both halves have in common.
#[derive(Debug)]
pub struct Half<Direction> {
    aead: Aead,
    renewal_wanted: AtomicBool,
    spec: Arc<SessionSpec>,
    direction: Direction,
}

/// Seals packets for one peer; shared by all threads that send to it.
pub type TxSession = Half<Sealing>;

/// Opens the messages of one peer; shared by all threads that receive from it.
pub type RxSession = Half<Opening>;

/// Makes the two halves of a session. The keys are used up: a second pair from them would repeat nonces.
pub fn pair(keys: SessionKeys, spec: SessionSpec) -> (TxSession, RxSession) {
    let spec = Arc::new(spec);
    let tx = Half::new(&keys.send, Arc::clone(&spec), Sealing::to(spec.peer_index));
    (tx, Half::new(&keys.receive, spec, Opening::default()))
}

impl<Direction> Half<Direction> {
    fn new(key: &[u8; 32], spec: Arc<SessionSpec>, direction: Direction) -> Self {
        let renewal_wanted = AtomicBool::new(false);
        Self { aead: Aead::new(spec.suite, key), renewal_wanted, spec, direction }
    }

    /// Whether the session is young enough to seal and to open.
    #[inline]
    pub fn is_usable(&self, now: Duration) -> bool {
        self.spec.age(now) < REJECT_AFTER
    }

    /// The receiver index by which messages to this end name the session.
    #[inline]
    pub fn index(&self) -> u32 {
        self.spec.index
    }

    /// The tunnel of the session.
    pub fn tunnel(&self) -> TunnelId {
        self.spec.tunnel
    }

    /// The peer at the other end.
    pub fn peer(&self) -> PeerId {
        self.spec.peer
    }

    /// The cipher of the session.
    pub fn suite(&self) -> Suite {
        self.spec.suite
    }

    /// The stamps of the tunnel.
    #[inline]
    pub fn activity(&self) -> &Activity {
        &self.spec.activity
    }
}

impl SessionSpec {
    #[inline]
    fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.born)
    }
}

/// Type and receiver index as a data message starts with them, read as a little-endian number.
fn prefix_of(index: u32) -> u64 {
    u64::from(DATA) | u64::from(index) << 32
}
