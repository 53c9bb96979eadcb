//! A peer that says exactly what a test wants: boringtun's protocol engine and a socket.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

use super::{PATIENCE, Space, Underlay, key, public};

/// Longest datagram.
const BUFFER_LEN: usize = 1 << 16;

/// A scripted peer.
pub struct Scripted {
    tunn: Tunn,
    socket: UdpSocket,
}

impl Scripted {
    /// A scripted peer with the key of a host, at a port of its own on host 2, for a tunnel with host 1.
    pub fn new(space: &Space, host: u8) -> Self {
        Self::with_keys(space, 9000 + u16::from(host), key(host), public(&key(1)), None)
    }

    pub fn with_keys(
        space: &Space,
        port: u16,
        private: [u8; 32],
        remote: [u8; 32],
        psk: Option<[u8; 32]>,
    ) -> Self {
        let (secret, remote) = (StaticSecret::from(private), PublicKey::from(remote));
        // boringtun refuses more than a few handshakes a second itself, unless the limit is somebody else's.
        let limit = Arc::new(RateLimiter::new(&PublicKey::from(&secret), u64::MAX));
        let tunn = Tunn::new(secret, remote, psk, None, u32::from(port), Some(limit));
        let home = SocketAddr::new(Underlay::V4.endpoint(2).ip(), port);
        Self { tunn, socket: socket(space, home) }
    }

    /// Goes on from another address, with the same session.
    pub fn move_to(&mut self, space: &Space, home: SocketAddr) {
        if self.socket.local_addr().expect("bound") != home {
            self.socket = socket(space, home);
        }
    }

    /// Opens a session, or a fresh one, as the initiator.
    pub fn call(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let initiation = self.initiation();
            self.send(&initiation);
            // An initiation soon after another may be ignored.
            if self.take_response(Duration::from_millis(100)) {
                return;
            }
            assert!(Instant::now() < deadline, "no answer to the handshake");
        }
    }

    /// A fresh handshake initiation.
    pub fn initiation(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; BUFFER_LEN];
        match self.tunn.format_handshake_initiation(&mut buffer, true) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("no initiation: {other:?}"),
        }
    }

    /// An inner packet as a data message of the session.
    pub fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; BUFFER_LEN];
        match self.tunn.encapsulate(packet, &mut buffer) {
            TunnResult::WriteToNetwork(message) if message[0] == 4 => message.to_vec(),
            other => panic!("not sealed: {other:?}"),
        }
    }

    pub fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).expect("send");
    }

    /// The next inner packet, if there is one within `limit`; handshakes and cookies are answered meanwhile.
    pub fn receive(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        while let Some(datagram) = self.datagram(deadline) {
            if let Some(packet) = self.take(&datagram) {
                return Some(packet);
            }
        }
        None
    }

    /// The next datagram before a moment.
    pub fn datagram(&mut self, deadline: Instant) -> Option<Vec<u8>> {
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("set");
            match self.socket.recv(&mut buffer) {
                Ok(len) => return Some(buffer[..len].to_vec()),
                Err(_) if Instant::now() >= deadline => return None,
                Err(_) => {}
            }
        }
    }

    /// Takes what arrives until a response was taken.
    fn take_response(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while let Some(datagram) = self.datagram(deadline) {
            self.take(&datagram);
            if datagram.first() == Some(&2) {
                return true;
            }
        }
        false
    }

    fn take(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = vec![0; BUFFER_LEN];
        match self.tunn.decapsulate(None, datagram, &mut buffer) {
            TunnResult::WriteToNetwork(answer) => {
                let answer = answer.to_vec();
                self.send(&answer);
                None
            }
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Some(packet.to_vec())
            }
            TunnResult::Done | TunnResult::Err(_) => None,
        }
    }
}

/// A socket that speaks with host 1 only.
fn socket(space: &Space, home: SocketAddr) -> UdpSocket {
    let underlay = if home.is_ipv4() { Underlay::V4 } else { Underlay::V6 };
    let socket = space.inside(|| UdpSocket::bind(home)).expect("bind");
    socket.connect(underlay.endpoint(1)).expect("connect");
    socket
}
