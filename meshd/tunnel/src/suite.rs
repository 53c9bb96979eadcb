//! The two cipher suites of a tunnel.

/// Packets of a session are refused from this counter on: a window below the end, so that it never wraps.
const WG_REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 14);
/// WireGuard's own number.
const WG_REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// Keeps the advantage of an attacker on AES-GCM below 2^-57 for packets up to jumbo size.
const AES_REJECT_AFTER_MESSAGES: u64 = 1 << 26;
/// Leaves as many packets again for the handshake that replaces the session.
const AES_REKEY_AFTER_MESSAGES: u64 = 1 << 25;

/// Names the ciphers of a tunnel: chosen from signed records by both ends, never negotiated in band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// WireGuard as everybody speaks it: ChaCha20-Poly1305.
    Wg,
    /// The same protocol with AES-256-GCM, for two ends whose processors have it in hardware.
    Aes,
}

impl Suite {
    /// Both suites, the one every node speaks first.
    pub const ALL: [Self; 2] = [Self::Wg, Self::Aes];

    /// The Noise protocol name; it enters the transcript, so ends that differ never share a key.
    pub const fn noise_name(self) -> &'static str {
        match self {
            Self::Wg => "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s",
            Self::Aes => "Noise_IKpsk2_25519_AESGCM_BLAKE2s",
        }
    }

    /// The label of the first MAC's key: a responder tells the suite of an initiation before any curve work.
    pub const fn mac1_label(self) -> &'static [u8; 8] {
        match self {
            Self::Wg => b"mac1----",
            Self::Aes => b"mac1-aes",
        }
    }

    /// Counter from which a session asks for its successor.
    pub const fn rekey_after_messages(self) -> u64 {
        match self {
            Self::Wg => WG_REKEY_AFTER_MESSAGES,
            Self::Aes => AES_REKEY_AFTER_MESSAGES,
        }
    }

    /// First counter that is neither sealed nor opened.
    pub const fn reject_after_messages(self) -> u64 {
        match self {
            Self::Wg => WG_REJECT_AFTER_MESSAGES,
            Self::Aes => AES_REJECT_AFTER_MESSAGES,
        }
    }
}
