//! A flood of handshake initiations from spoofed sources, each with a valid first MAC and nothing else that is true.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use blake2::digest::Mac;
use blake2::digest::consts::U16;
use blake2::{Blake2s256, Blake2sMac, Digest};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::namespace::Namespace;

/// What WireGuard puts before the key of the receiver to key the first MAC.
const MAC1_LABEL: &[u8] = b"mac1----";

/// Length of an initiation, and of its part that the first MAC covers.
const INITIATION_LEN: usize = 148;
const MAC1_COVERS: usize = 116;

/// IPv4 and UDP headers.
const HEADERS_LEN: usize = 28;

/// Where a packet holds the last two bytes of its source address.
const SOURCE_END: usize = 14;

/// Sources are 65,536 addresses of 198.19.0.0/16, which no host of a lab has.
const SOURCES: [u8; 2] = [198, 19];

/// Where an initiation holds its ephemeral key.
const EPHEMERAL: Range<usize> = 8..40;

/// How often a burst leaves.
const BURSTS_PER_S: u32 = 1000;

/// The network of all spoofed sources; the way back to them should lead nowhere.
pub const SPOOFED: &str = "198.19.0.0/16";

/// A running flood; ends when dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    started: Instant,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Floods a WireGuard port with so many initiations a second; the key is that of the receiver.
    pub fn start(namespace: &Namespace, to: SocketAddrV4, key: &[u8; 32], per_second: u32) -> Result<Self> {
        let raw = || socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
        let socket = namespace.run(raw)?.context("open a raw socket")?;
        // Another flood sends other messages.
        let mut random = Xorshift(RandomState::new().hash_one(per_second) | 1);
        let mut packet = packet(to, &mut random);
        let mac1 = Mac1::new(key)?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (their_stop, their_sent) = (Arc::clone(&stop), Arc::clone(&sent));
        let target = SockaddrIn::from(SocketAddrV4::new(*to.ip(), 0));
        let started = Instant::now();
        let work = move || {
            while !their_stop.load(Ordering::Relaxed) {
                // What is due since the start, so that a late burst makes up for the pause.
                let due = started.elapsed().as_secs_f64() * f64::from(per_second);
                while (their_sent.load(Ordering::Relaxed) as f64) < due && !their_stop.load(Ordering::Relaxed)
                {
                    let (Some(source), Some(initiation)) = split(&mut packet) else { return };
                    source.copy_from_slice(&random.bytes::<2>());
                    // Each is new: a receiver that knows copies has no use for it.
                    mac1.renew(initiation, &mut random);
                    // A full queue loses packets, as a flooded link does.
                    let _lost = sendto(socket.as_raw_fd(), &packet, &target, MsgFlags::empty());
                    their_sent.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(Duration::from_secs(1) / BURSTS_PER_S);
            }
        };
        let thread =
            thread::Builder::new().name("lab-flood".to_owned()).spawn(work).context("start the flood")?;
        Ok(Self { stop, sent, started, thread: Some(thread) })
    }

    /// Initiations a second so far.
    pub fn per_second(&self) -> f64 {
        self.sent.load(Ordering::Relaxed) as f64 / self.started.elapsed().as_secs_f64()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the flooding thread panicked");
        }
    }
}

/// The last bytes of the source address, and the initiation.
fn split(packet: &mut [u8]) -> (Option<&mut [u8; 2]>, Option<&mut [u8; INITIATION_LEN]>) {
    let (headers, initiation) = packet.split_at_mut(HEADERS_LEN.min(packet.len()));
    let source = headers.get_mut(SOURCE_END..).and_then(|rest| rest.first_chunk_mut());
    (source, initiation.first_chunk_mut())
}

/// An IPv4 packet with an initiation of random bytes and without MACs; the kernel adds the checksum and the id of the
/// header.
fn packet(to: SocketAddrV4, random: &mut Xorshift) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0];
    packet.extend(length(HEADERS_LEN + INITIATION_LEN));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(Ipv4Addr::new(SOURCES[0], SOURCES[1], 0, 0).octets());
    packet.extend(to.ip().octets());
    packet.extend(51820_u16.to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(length(8 + INITIATION_LEN));
    // No UDP checksum.
    packet.extend([0, 0]);
    packet.extend([1, 0, 0, 0]);
    packet.extend(random.bytes::<{ MAC1_COVERS - 4 }>());
    packet.extend([0; INITIATION_LEN - MAC1_COVERS]);
    packet
}

/// Makes the first MAC that a receiver expects.
struct Mac1(Blake2sMac<U16>);

impl Mac1 {
    fn new(receiver: &[u8; 32]) -> Result<Self> {
        let key = Blake2s256::new().chain_update(MAC1_LABEL).chain_update(receiver).finalize();
        let mac = <Blake2sMac<U16> as Mac>::new_from_slice(&key).ok();
        Ok(Self(mac.context("key a MAC")?))
    }

    /// Makes another initiation of one: another ephemeral key, and the MAC that holds for it.
    fn renew(&self, initiation: &mut [u8; INITIATION_LEN], random: &mut Xorshift) {
        initiation[EPHEMERAL].copy_from_slice(&random.bytes::<{ EPHEMERAL.end - EPHEMERAL.start }>());
        let (covered, macs) = initiation.split_at_mut(MAC1_COVERS);
        let mac = self.0.clone().chain_update(covered).finalize();
        macs[..16].copy_from_slice(&mac.into_bytes());
    }
}

/// Marsaglia's generator: spoofed addresses need not be unguessable.
struct Xorshift(u64);

impl Xorshift {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.to_le_bytes()[3]
        })
    }
}
