//! The threads: how many there are, what each waits for, and how they end.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{Builder, JoinHandle};

use meshd_tunnel::{Engine, EngineConfig};
use rustix::process::{getpriority_process, setpriority_process};

use super::clock;
use super::events::Event;
use super::inbound::Inbound;
use super::keys::key_id;
use super::outbound::{Burst, Outbound};
use super::shared::Shared;
use super::supervisor::supervise;
use super::tunnels::{BACKLOG_LOADED, Command, Tunnels};
use super::{DataPlaneConfig, DataPlaneError};
use crate::io::{DatagramSocket, Events, GroupSocket, Interest, PacketDevice, UdpGroup, Waker};

/// Data threads of each direction at most: beyond, one network device is the limit.
const SHARDS_MAX: usize = 16;
/// Data threads come before what computes on the host: their work is short, and packets that wait for a processor are
/// late for both ends. Three times the share of a thread with the default priority, so nothing starves.
const NICE: i32 = -5;
/// Initiations a second: ten thousand peers are called within seconds, and the answers do not starve data.
const INITIATIONS_PER_S_MAX: u32 = 4000;

const ENGINE: &str = "meshd-engine";
const TX: &str = "meshd-tx";
const RX: &str = "meshd-rx";

/// The threads, and what wakes each of them; dropping it ends them and waits for them.
#[derive(Debug)]
pub(super) struct Running {
    shared: Arc<Shared>,
    wakers: Vec<Waker>,
    threads: Vec<JoinHandle<()>>,
}

/// Number of data threads of each direction on this host.
pub(super) fn shards(wanted: Option<usize>) -> usize {
    shards_on(std::thread::available_parallelism().map_or(1, usize::from), wanted)
}

/// As many as are wanted, or one for every two processors; a power of two, as the low bits of an index name one.
fn shards_on(cores: usize, wanted: Option<usize>) -> usize {
    1 << wanted.unwrap_or(cores / 2).clamp(1, SHARDS_MAX).ilog2()
}

/// Starts everything.
pub(super) fn start<D: PacketDevice + AsFd + 'static>(
    config: &DataPlaneConfig,
    (mtu, has_ipv6): (u16, bool),
    queues: Vec<D>,
    udp: UdpGroup,
    commands: Receiver<Command>,
) -> Result<(Arc<Shared>, Running), DataPlaneError> {
    let failed = |name: &str| {
        let name = name.to_owned();
        |source| DataPlaneError::Thread { name, source }
    };
    let engine = engine(config, udp.shards.len()).map_err(failed(ENGINE))?;
    let keys = config.keys.clone();
    let UdpGroup { control, shards, .. } = udp;
    let control = Arc::new(control);
    let sockets: Vec<Arc<GroupSocket>> = shards.into_iter().map(Arc::new).collect();
    let first = sockets.first().cloned().unwrap_or_else(|| Arc::clone(&control));
    let data: Arc<dyn DatagramSocket> = first;
    let waker = Waker::new().map_err(failed(ENGINE))?;
    let shared =
        Shared::new(config, (mtu, has_ipv6), (data, Arc::<GroupSocket>::clone(&control)), waker.clone());
    let shared = Arc::new(shared);
    let mut running = Running { shared: Arc::clone(&shared), wakers: Vec::new(), threads: Vec::new() };
    for (number, (queue, socket)) in queues.into_iter().zip(sockets).enumerate() {
        let queue = Arc::new(queue);
        let waker = Waker::new().map_err(failed(TX))?;
        let thread = (Arc::clone(&shared), Arc::clone(&queue), Arc::clone(&socket), waker.clone());
        running.spawn(format!("{TX}-{number}"), waker, move || {
            let (shared, queue, socket, waker) = thread;
            supervise(&shared, TX, || report(TX, run_outbound(&shared, &*queue, &socket, &waker)));
        })?;
        let waker = Waker::new().map_err(failed(RX))?;
        let thread = (Arc::clone(&shared), queue, socket, waker.clone());
        running.spawn(format!("{RX}-{number}"), waker, move || {
            let (shared, queue, socket, waker) = thread;
            supervise(&shared, RX, || report(RX, run_inbound(&shared, &*queue, &socket, &waker)));
        })?;
    }
    let thread = Arc::clone(&shared);
    let waker = shared.notes.waker().clone();
    running.spawn(ENGINE.to_owned(), waker, move || {
        let mut parts = Some((engine, keys, commands));
        // A second start would find neither: an engine that panicked half way through is not to be trusted.
        supervise(&thread, ENGINE, || {
            if let Some((engine, keys, commands)) = parts.take() {
                report(ENGINE, run_engine(&thread, Tunnels::new(&thread, engine, keys, commands), &control));
            }
        });
    })?;
    Ok((shared, running))
}

fn engine(config: &DataPlaneConfig, shards: usize) -> io::Result<Engine> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("no randomness from the system"))?;
    let settings = EngineConfig {
        shards: u8::try_from(shards).unwrap_or(1),
        initiations_per_s_max: INITIATIONS_PER_S_MAX,
        queue_depth_loaded: BACKLOG_LOADED,
        started: clock::now(),
        clock_floor: config.clock_floor,
    };
    let mut engine = Engine::new(settings, seed);
    for (epoch, key) in config.keys.all() {
        engine.add_key(key_id(epoch), key.clone()).map_err(io::Error::other)?;
    }
    Ok(engine)
}

/// From one queue of the device to one socket, until the end.
fn run_outbound<D: PacketDevice + AsFd>(
    shared: &Shared,
    queue: &D,
    socket: &GroupSocket,
    waker: &Waker,
) -> io::Result<()> {
    come_first();
    let events = Events::new(waker, &[(queue.as_fd(), Interest::Readable)])?;
    let room = Events::new(waker, &[(socket.as_fd(), Interest::Writable)])?;
    let mut outbound = Outbound::new(shared, queue, socket, Some(&room));
    while !shared.is_stopping() {
        match outbound.burst(clock::now()) {
            Burst::More => {}
            Burst::Drained => drop(events.wait(None)?),
            Burst::Lost => {
                tracing::error!("the overlay device was removed");
                shared.events.send(Event::DeviceLost, &shared.counters);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// From one socket to one queue of the device, until the end.
fn run_inbound<D: PacketDevice>(
    shared: &Shared,
    queue: &D,
    socket: &GroupSocket,
    waker: &Waker,
) -> io::Result<()> {
    come_first();
    let events = Events::new(waker, &[(socket.as_fd(), Interest::Readable)])?;
    let mut inbound = Inbound::new(shared, queue, socket);
    while !shared.is_stopping() {
        match inbound.burst(clock::now()) {
            Burst::More => {}
            Burst::Drained => drop(events.wait(None)?),
            Burst::Lost => return Err(io::Error::other("the tunnel's socket is broken")),
        }
    }
    Ok(())
}

fn run_engine(shared: &Shared, mut tunnels: Tunnels<'_>, control: &GroupSocket) -> io::Result<()> {
    let events = Events::new(shared.notes.waker(), &[(control.as_fd(), Interest::Readable)])?;
    while !shared.is_stopping() {
        let timeout = tunnels.step();
        events.wait(timeout)?;
    }
    Ok(())
}

/// Raises the priority of this thread above that of the daemon, and of the thread that answers floods of handshakes.
fn come_first() {
    let raised = getpriority_process(None).and_then(|nice| setpriority_process(None, nice + NICE));
    if let Err(error) = raised {
        tracing::debug!(%error, "data threads run at the daemon's own priority");
    }
}

fn report(thread: &str, ended: io::Result<()>) {
    if let Err(error) = ended {
        tracing::error!(thread, %error, "a data thread failed");
    }
}

impl Running {
    fn spawn(
        &mut self,
        name: String,
        waker: Waker,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), DataPlaneError> {
        let thread = Builder::new().name(name.clone()).spawn(work);
        self.threads.push(thread.map_err(|source| DataPlaneError::Thread { name, source })?);
        self.wakers.push(waker);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop();
        self.wakers.iter().for_each(Waker::wake);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a data thread had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
