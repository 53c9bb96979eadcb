//! Whoever sits between two peers: it forwards, records and repeats datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Chain, PORT};

/// Datagrams kept of each direction: no test sends as many.
const RECORD_LEN_MAX: usize = 100_000;

/// Which end of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Datagrams in the order of their arrival.
type Record = Vec<(Side, Vec<u8>)>;

/// A relay in the middle of a chain; each end takes it for the other.
pub struct Relay {
    sockets: [UdpSocket; 2],
    elsewhere: [UdpSocket; 2],
    recorded: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts to forward between the tunnels of the two ends.
    pub fn start(chain: &Chain) -> Self {
        let sockets = [Self::seen_from(Side::Left), Self::seen_from(Side::Right)]
            .map(|address| chain.middle.inside(|| UdpSocket::bind(address)).expect("bind"));
        let elsewhere = [Self::seen_from(Side::Left), Self::seen_from(Side::Right)]
            .map(|address| chain.middle.inside(|| UdpSocket::bind((address.ip(), 0))).expect("bind"));
        let recorded = Arc::new(Mutex::new(Record::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let threads = [Side::Left, Side::Right].map(|side| {
            let [left, right] = &sockets;
            let (near, far) = if side == Side::Left { (left, right) } else { (right, left) };
            let (near, far) = (near.try_clone().expect("clone"), far.try_clone().expect("clone"));
            // Short, so that the end is noticed soon.
            near.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
            let (recorded, stop) = (Arc::clone(&recorded), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while !stop.load(Ordering::Acquire) {
                    // Nothing there, or the other end is not there yet.
                    let Ok(len) = near.recv(&mut buffer) else { continue };
                    let datagram = &buffer[..len];
                    let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
                    assert!(recorded.len() < RECORD_LEN_MAX, "the relay records too much");
                    recorded.push((side, datagram.to_vec()));
                    drop(recorded);
                    let _ = far.send_to(datagram, Self::end(side.other()));
                }
            })
        });
        Self { sockets, elsewhere, recorded, stop, threads: threads.into() }
    }

    /// The address that stands for the other end.
    pub fn seen_from(side: Side) -> SocketAddr {
        let net = if side == Side::Left { 77 } else { 78 };
        SocketAddr::from(([192, 168, net, 254], PORT))
    }

    /// The address of an end.
    pub fn end(side: Side) -> SocketAddr {
        let (net, host) = if side == Side::Left { (77, 1) } else { (78, 2) };
        SocketAddr::from(([192, 168, net, host], PORT))
    }

    /// What came from a side so far, with this message type.
    pub fn recorded(&self, from: Side, kind: u8) -> Vec<Vec<u8>> {
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let matching =
            recorded.iter().filter(|(side, datagram)| *side == from && datagram.first() == Some(&kind));
        matching.map(|(_, datagram)| datagram.clone()).collect()
    }

    /// Sends a datagram to an end as if the other had sent it.
    pub fn inject(&self, to: Side, datagram: &[u8]) {
        self.sockets[to as usize].send_to(datagram, Self::end(to)).expect("send");
    }

    /// Sends a datagram to an end from an address that it never heard of.
    pub fn inject_from_elsewhere(&self, to: Side, datagram: &[u8]) {
        self.elsewhere[to as usize].send_to(datagram, Self::end(to)).expect("send");
    }
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
