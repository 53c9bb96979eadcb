//! A thread that holds every packet that crosses the internet: delay, jitter and loss, in user space, because the
//! kernel at hand may lack netem.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::internet::HostNumber;
use crate::namespace::Namespace;
use crate::os;

const DEVICE: &str = "delay0";

/// Largest IP packet.
const PACKET_BYTES_MAX: usize = 65_535;

/// Packets held at most; 65,536 of 1,500 bytes are 98 MB, or 0.8 s of 1 Gbit/s.
const HELD_MAX: usize = 65_536;

/// Packets read before the due ones are looked at again.
const READ_BATCH: usize = 64;

/// Longest time until the thread notices that it should end.
const IDLE: Duration = Duration::from_millis(50);

/// How long packets are held, and how many are lost, in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delay {
    /// Time each packet is held.
    pub one_way: Duration,
    /// A random time below this is added; it reorders packets.
    pub jitter: Duration,
    /// Packets lost in a million.
    pub loss_ppm: u32,
}

impl Delay {
    /// Holds packets for a fixed time.
    pub fn one_way_ms(ms: u64) -> Self {
        Self { one_way: Duration::from_millis(ms), ..Self::default() }
    }
}

type Table = Arc<Mutex<BTreeMap<(HostNumber, HostNumber), Delay>>>;

/// The delaying thread; ends when dropped.
#[derive(Debug)]
pub(crate) struct Delayer {
    table: Table,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Delayer {
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        let device = namespace.run(|| os::open_tun(DEVICE))?.context("create the delaying TUN device")?;
        let table = Table::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (their_table, their_stop) = (Arc::clone(&table), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("lab-delay".to_owned())
            .spawn(move || forward(device, &their_table, &their_stop))
            .context("start the delaying thread")?;
        Ok(Self { table, stop, thread: Some(thread) })
    }

    pub(crate) fn device(&self) -> &'static str {
        DEVICE
    }

    pub(crate) fn set(&self, direction: (HostNumber, HostNumber), delay: Delay) {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).insert(direction, delay);
    }
}

impl Drop for Delayer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the delaying thread panicked");
        }
    }
}

fn forward(mut device: File, table: &Table, stop: &AtomicBool) {
    let mut held: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>> = BinaryHeap::new();
    let (mut serial, mut random) = (0_u64, Xorshift(0x9E37_79B9_7F4A_7C15));
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    while !stop.load(Ordering::Relaxed) {
        while held.peek().is_some_and(|Reverse((due, _, _))| *due <= Instant::now()) {
            if let Some(Reverse((_, _, packet))) = held.pop() {
                // A full queue loses packets, as a router's does.
                let _lost = device.write(&packet);
            }
        }
        for _ in 0..READ_BATCH {
            let Ok(len) = device.read(&mut buffer) else { break };
            let Some(packet) = buffer.get(..len) else { break };
            let delay = direction(packet)
                .and_then(|way| table.lock().unwrap_or_else(PoisonError::into_inner).get(&way).copied())
                .unwrap_or_default();
            if held.len() >= HELD_MAX || random.below(1_000_000) < u64::from(delay.loss_ppm) {
                continue;
            }
            let jitter = Duration::from_micros(random.below(delay.jitter.as_micros() as u64));
            serial += 1;
            held.push(Reverse((Instant::now() + delay.one_way + jitter, serial, packet.to_vec())));
        }
        let pause = held
            .peek()
            .map_or(IDLE, |Reverse((due, _, _))| due.saturating_duration_since(Instant::now()).min(IDLE));
        let mut ready = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        if ppoll(&mut ready, Some(TimeSpec::from_duration(pause)), None).is_err() {
            continue;
        }
    }
}

/// Which host a packet comes from and which one it goes to, by their underlay addresses.
fn direction(packet: &[u8]) -> Option<(HostNumber, HostNumber)> {
    match packet.first()? >> 4 {
        // 198.18.HOST.2
        4 => Some((*packet.get(14)?, *packet.get(18)?)),
        // fd6c:LAB:LAB:HOST::2
        6 => Some((*packet.get(15)?, *packet.get(31)?)),
        _ => None,
    }
}

/// Marsaglia's generator: which packets are lost need not be unguessable.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.checked_rem(end).unwrap_or(0)
    }
}
