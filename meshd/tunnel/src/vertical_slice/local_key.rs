//! This host's static key: admission of datagrams before a peer is known.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, TunnResult};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::message::{MessageKind, Refused, TunnelIndex, classify};

/// Handshake messages a second before senders must prove their address with a cookie: about 8 % of a core.
const HANDSHAKES_PER_S: u64 = 256;
/// Bytes of a cookie reply.
const COOKIE_LEN: usize = 64;

/// The static key of this host and the gate in front of its handshakes.
pub struct LocalKey {
    private: StaticSecret,
    public: PublicKey,
    gate: RateLimiter,
    /// Tunnels check MACs again but never count: a message was counted at the gate already.
    open_gate: Arc<RateLimiter>,
}

/// Who must handle a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// A handshake initiation by the holder of this static key, not yet authenticated.
    Initiation([u8; 32]),
    /// Any other message for the tunnel with this index.
    Indexed(TunnelIndex),
    /// The sender must prove its address: send back this many bytes of the reply buffer.
    Challenge(usize),
}

impl LocalKey {
    /// Derives the public key.
    pub fn new(private: &Zeroizing<[u8; 32]>) -> Self {
        let private = StaticSecret::from(**private);
        let public = PublicKey::from(&private);
        Self {
            gate: RateLimiter::new(&public, HANDSHAKES_PER_S),
            open_gate: Arc::new(RateLimiter::new(&public, u64::MAX)),
            private,
            public,
        }
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.public.to_bytes()
    }

    /// Decides who handles a datagram from `source`. A cookie goes into `reply`, which holds at least
    /// [`super::BUFFER_LEN_MIN`] bytes.
    pub fn admit(&self, datagram: &[u8], source: IpAddr, reply: &mut [u8]) -> Result<Admitted, Refused> {
        let (kind, index) = classify(datagram)?;
        match (kind, index) {
            (MessageKind::Data | MessageKind::Cookie, Some(index)) => Ok(Admitted::Indexed(index)),
            (MessageKind::Initiation | MessageKind::Response, index) => {
                let mut cookie = [0u8; COOKIE_LEN];
                let packet = match self.gate.verify_packet(Some(source), datagram, &mut cookie) {
                    Ok(packet) => packet,
                    Err(TunnResult::WriteToNetwork(cookie)) => {
                        let len = cookie.len();
                        reply.get_mut(..len).ok_or(Refused::Engine)?.copy_from_slice(cookie);
                        return Ok(Admitted::Challenge(len));
                    }
                    Err(_) => return Err(Refused::BadHandshake),
                };
                match (packet, index) {
                    (Packet::HandshakeInit(initiation), _) => {
                        parse_handshake_anon(&self.private, &self.public, &initiation)
                            .map(|half| Admitted::Initiation(half.peer_static_public))
                            .map_err(|_| Refused::BadHandshake)
                    }
                    (_, Some(index)) => Ok(Admitted::Indexed(index)),
                    (_, None) => Err(Refused::NotTunnel),
                }
            }
            (_, None) => Err(Refused::NotTunnel),
        }
    }

    /// Starts a new second of the handshake budget; call it about once a second.
    pub fn refill(&self) {
        self.gate.reset_count();
    }

    pub(crate) fn private(&self) -> StaticSecret {
        self.private.clone()
    }

    pub(crate) fn open_gate(&self) -> Arc<RateLimiter> {
        Arc::clone(&self.open_gate)
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").field("public", &self.public).finish_non_exhaustive()
    }
}
