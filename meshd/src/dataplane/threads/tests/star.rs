//! One node under test and its peers, each in a network namespace, and numbered datagrams between them.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use meshd_core::coalesce::CoalesceSwitches;
use meshd_core::rotation::Epoch;
use meshd_core::{IpPacket, vnet};
use meshd_tunnel::{LocalKey, Suite, Tai64n};
use meshd_wire::{NodeId, OrgId};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::dataplane::{DataPlane, DataPlaneConfig, Event, OwnKeys, PeerConfig, PeerKeys};
use crate::io::{PacketDevice, Switches, TunQueue};

/// Flows each way between the node under test and one peer: enough that none of four queues stays empty but once
/// in millions.
pub(super) const FLOWS: usize = 16;
/// Longest wait for anything; far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two datagrams of a flow.
const PACE: Duration = Duration::from_millis(4);
/// Datagrams of a flow under way at once: all flows together fit into every queue, so that a machine with other
/// work slows them down and loses none.
const WINDOW: u32 = 4;
/// A flow with no room goes on after so long: what was under way may be lost.
const STALLED: Duration = Duration::from_millis(100);
/// Room for what comes while a busy machine lets nobody read.
const BUFFER_LEN: usize = 8 << 20;
const DATAGRAM_LEN: usize = 200;
const TUNNEL_PORT: u16 = 51820;
const SINK_PORT: u16 = 7000;
/// A packet with this breaks the thread that carries it.
const FAULT: &[u8; 16] = b"this breaks you!";

/// The node under test is number 0.
pub(super) struct Star {
    spaces: Vec<Space>,
    planes: Vec<Option<DataPlane>>,
    watch: Arc<Watch>,
    shards: usize,
    sources: Vec<Source>,
    sinks: Vec<Sink>,
    senders: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// One flow at its end.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) is_outbound: bool,
    /// The peer at its other end.
    pub(super) spoke: usize,
    /// Queues of the node under test that its packets went through.
    pub(super) carriers: BTreeSet<usize>,
    sent: u32,
    received: Vec<Received>,
}

/// A number that came, and when.
#[derive(Debug, Clone, Copy)]
struct Received {
    number: u32,
    at: Instant,
}

/// Where a thread was broken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken {
    pub(super) is_outbound: bool,
    pub(super) queue: usize,
}

impl Star {
    /// `None`, with a word why, where namespaces or devices cannot be made.
    pub(super) fn start(shards: usize, spokes: usize) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/dev/net/tun").exists() {
            eprintln!("skipped: needs root and /dev/net/tun");
            return None;
        }
        let spaces: Vec<Space> = (0..=spokes).map(|_| Space::new()).collect();
        for (node, spoke) in spaces.iter().enumerate().skip(1) {
            let hub = &spaces[0];
            hub.ip(&format!("link add up{node} type veth peer name uplink netns {}", spoke.path()));
            hub.ip(&format!("address add {}/30 dev up{node}", underlay(0, node)));
            hub.ip(&format!("link set up{node} up"));
            spoke.ip(&format!("address add {}/30 dev uplink", underlay(node, node)));
            spoke.ip("link set uplink up");
        }
        let mut star = Self {
            spaces,
            planes: Vec::new(),
            watch: Arc::default(),
            shards,
            sources: Vec::new(),
            sinks: Vec::new(),
            senders: Vec::new(),
            stop: Arc::default(),
        };
        star.planes = (0..=spokes).map(|node| Some(star.plane(node))).collect();
        star.plane_of(0).set_peers((1..=spokes).map(|spoke| peer(spoke, spoke)).collect());
        star.wait_for("all tunnels to come up", |star| {
            star.planes.iter().flatten().all(|plane| plane.peers().iter().all(|peer| peer.up))
        });
        Some(star)
    }

    /// Starts all flows: [`FLOWS`] each way between the node under test and each peer.
    pub(super) fn send_and_receive(&mut self) {
        self.sinks = (0..self.spaces.len()).map(|node| Sink::start(&self.spaces[node], node)).collect();
        let pairs = (1..self.spaces.len()).flat_map(|spoke| [(0, spoke), (spoke, 0)]);
        self.sources = pairs
            .flat_map(|(from, to)| (0..FLOWS).map(move |_| (from, to)))
            .map(|(from, to)| Source::new(&self.spaces[from], from, to, &self.sinks[to]))
            .collect();
        for node in 0..self.spaces.len() {
            let own: Vec<Source> =
                self.sources.iter().filter(|source| source.from == node).cloned().collect();
            let stop = Arc::clone(&self.stop);
            self.senders.push(std::thread::spawn(move || {
                let mut flows: Vec<(Source, Instant)> =
                    own.into_iter().map(|source| (source, Instant::now())).collect();
                while !stop.load(Ordering::Relaxed) {
                    for (source, last) in &mut flows {
                        if source.under_way() < WINDOW || last.elapsed() > STALLED {
                            source.send();
                            *last = Instant::now();
                        }
                    }
                    std::thread::sleep(PACE);
                }
            }));
        }
    }

    /// Waits until each flow has received so many datagrams more.
    pub(super) fn wait_for_more(&self, count: usize) {
        let before: Vec<usize> = self.sources.iter().map(|source| self.received(source).len()).collect();
        self.wait_for("datagrams of every flow", |star| {
            star.sources
                .iter()
                .zip(&before)
                .all(|(source, before)| star.received(source).len() >= before + count)
        });
    }

    /// Ends the traffic, and says how it went.
    pub(super) fn end(&mut self) -> Vec<Flow> {
        self.stop.store(true, Ordering::Relaxed);
        self.senders.drain(..).for_each(|sender| sender.join().expect("a sender ends"));
        self.wait_for("the last datagram of every flow", |star| {
            star.sources.iter().all(|source| {
                star.received(source).last().is_some_and(|last| last.number + 1 == source.sent())
            })
        });
        let flow = |source: &Source| Flow {
            is_outbound: source.from == 0,
            spoke: source.from.max(source.to) - 1,
            carriers: self.watch.carriers(source.from == 0, source.address),
            sent: source.sent(),
            received: self.received(source),
        };
        self.sources.iter().map(flow).collect()
    }

    /// Asks every peer for an echo, from both ends.
    pub(super) fn ping_all(&self) {
        for spoke in 1..self.planes.len() {
            for (from, to) in [(0, spoke), (spoke, 0)] {
                let plane = self.plane_of(from);
                self.wait_for("an echo", |_| block_on(plane.ping(&node_id(to), 1000)).is_ok());
            }
        }
    }

    /// Stops the last peer and starts it anew, which takes another handshake.
    pub(super) fn restart_last_spoke(&mut self) {
        let last = self.planes.len() - 1;
        self.planes[last] = None;
        self.planes[last] = Some(self.plane(last));
        self.wait_for("the peer to come back", |star| star.plane_of(last).peers()[0].up);
    }

    /// Breaks the thread of the node under test that sends the first flow.
    pub(super) fn kill_sender(&self) {
        self.kill(|source| source.from == 0);
    }

    /// Breaks the thread of the node under test that receives the first flow.
    pub(super) fn kill_receiver(&self) {
        self.kill(|source| source.to == 0);
    }

    /// The thread that was broken.
    pub(super) fn broken(&self) -> Broken {
        self.watch.broken.lock().unwrap().expect("a thread is broken")
    }

    pub(super) fn hub_counter(&self, reason: &str) -> u64 {
        let counters = self.plane_of(0).counters();
        counters.into_iter().find(|(name, _)| *name == reason).expect("the counter exists").1
    }

    pub(super) fn hub_events(&self) -> mpsc::Receiver<Event> {
        self.plane_of(0).events()
    }

    pub(super) fn wait_for(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn kill(&self, carries: impl Fn(&Source) -> bool) {
        let source = self.sources.iter().find(|source| carries(source)).expect("there are flows");
        source.socket.send(FAULT).expect("the fault is sent");
    }

    fn plane_of(&self, node: usize) -> &DataPlane {
        self.planes[node].as_ref().expect("it runs")
    }

    fn plane(&self, node: usize) -> DataPlane {
        let started = self.spaces[node].inside(|| {
            let watch = (node == 0).then(|| Arc::clone(&self.watch));
            let watched = |number, queue| Watched { queue, number, watch: watch.clone() };
            DataPlane::start_on(config(node, self.shards), watched)
        });
        let plane = started.expect("the data plane starts");
        if node > 0 {
            plane.set_peers(vec![peer(0, node)]);
        }
        plane
    }

    fn received(&self, source: &Source) -> Vec<Received> {
        let arrivals = source.arrivals.lock().unwrap();
        arrivals.get(&SocketAddr::V4(source.address)).cloned().unwrap_or_default()
    }
}

impl Drop for Star {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Flow {
    pub(super) fn is_in_order(&self) -> bool {
        self.received.is_sorted_by(|one, next| one.number < next.number)
    }

    pub(super) fn lost(&self) -> usize {
        self.sent as usize - self.received.len()
    }

    pub(super) fn has_last(&self) -> bool {
        self.received.last().is_some_and(|last| last.number + 1 == self.sent)
    }

    pub(super) fn longest_gap(&self) -> Duration {
        let gaps = self.received.windows(2).map(|pair| pair[1].at - pair[0].at);
        gaps.max().unwrap_or(Duration::ZERO)
    }
}

/// A queue of the node under test that notes what passes, and breaks on a certain packet.
struct Watched {
    queue: TunQueue,
    number: usize,
    watch: Option<Arc<Watch>>,
}

/// Through which queues the packets of each flow went.
#[derive(Default)]
struct Watch {
    carriers: Mutex<HashMap<(bool, SocketAddrV4), BTreeSet<usize>>>,
    broken: Mutex<Option<Broken>>,
}

impl Watch {
    fn carriers(&self, is_outbound: bool, source: SocketAddrV4) -> BTreeSet<usize> {
        self.carriers.lock().unwrap().get(&(is_outbound, source)).cloned().unwrap_or_default()
    }

    fn see(&self, queue: usize, is_outbound: bool, bytes: &[u8]) {
        let packet = bytes.get(vnet::LEN..).and_then(|packet| IpPacket::parse(packet).ok());
        let Some((packet, [high, low, ..])) = packet.as_ref().map(|packet| (packet, packet.payload())) else {
            return;
        };
        if let IpAddr::V4(address) = packet.source() {
            let source = SocketAddrV4::new(address, u16::from_be_bytes([*high, *low]));
            self.carriers.lock().unwrap().entry((is_outbound, source)).or_default().insert(queue);
        }
        if bytes.windows(FAULT.len()).any(|window| window == FAULT) {
            *self.broken.lock().unwrap() = Some(Broken { is_outbound, queue });
            std::panic::resume_unwind(Box::new("a fault"));
        }
    }
}

impl PacketDevice for Watched {
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let read = self.queue.read(buffer);
        if let (Ok(Some(len)), Some(watch)) = (&read, &self.watch) {
            watch.see(self.number, true, &buffer[..*len]);
        }
        read
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        if let Some(watch) = &self.watch {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            watch.see(self.number, false, &bytes);
        }
        self.queue.write(slices)
    }

    fn coalescing(&self) -> CoalesceSwitches {
        self.queue.coalescing()
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// The sending end of a flow.
#[derive(Clone)]
struct Source {
    socket: Arc<UdpSocket>,
    address: SocketAddrV4,
    from: usize,
    to: usize,
    sent: Arc<AtomicU32>,
    /// What its sink took, of this flow and others.
    arrivals: Arc<Mutex<Arrivals>>,
}

impl Source {
    fn new(space: &Space, from: usize, to: usize, sink: &Sink) -> Self {
        let socket = space.inside(|| UdpSocket::bind((addr4(from), 0))).expect("a socket is bound");
        socket.connect((addr4(to), SINK_PORT)).expect("a socket is connected");
        let SocketAddr::V4(address) = socket.local_addr().expect("it is bound") else { unreachable!() };
        let arrivals = Arc::clone(&sink.arrivals);
        Self { socket: Arc::new(socket), address, from, to, sent: Arc::default(), arrivals }
    }

    /// Sends the next number. What the host refuses, because the node is away, was not sent.
    fn send(&self) {
        let mut datagram = [0; DATAGRAM_LEN];
        datagram[..4].copy_from_slice(&self.sent().to_le_bytes());
        if self.socket.send(&datagram).is_ok() {
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Datagrams after the last one that came.
    fn under_way(&self) -> u32 {
        let arrivals = self.arrivals.lock().unwrap();
        let last = arrivals.get(&SocketAddr::V4(self.address)).and_then(|received| received.last());
        self.sent().saturating_sub(last.map_or(0, |last| last.number + 1))
    }
}

/// What came of each flow, in the order of arrival.
type Arrivals = HashMap<SocketAddr, Vec<Received>>;

/// Takes all datagrams of one namespace.
struct Sink {
    arrivals: Arc<Mutex<Arrivals>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Sink {
    fn start(space: &Space, node: usize) -> Self {
        // Not bound to the address: it goes away while the node is restarted.
        let socket =
            space.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SINK_PORT))).expect("it is free");
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_LEN).expect("there is memory");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout is set");
        let arrivals: Arc<Mutex<Arrivals>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (into, until) = (Arc::clone(&arrivals), Arc::clone(&stop));
        let reader = std::thread::Builder::new().name(format!("sink-{node}")).spawn(move || {
            let mut buffer = [0; DATAGRAM_LEN];
            while !until.load(Ordering::Relaxed) {
                let Ok((DATAGRAM_LEN, source)) = socket.recv_from(&mut buffer) else { continue };
                let [a, b, c, d, ..] = buffer;
                let one = Received { number: u32::from_le_bytes([a, b, c, d]), at: Instant::now() };
                into.lock().unwrap().entry(source).or_default().push(one);
            }
        });
        Self { arrivals, stop, reader: Some(reader.expect("a thread starts")) }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// A network namespace without a name; it ends with the last thread and socket in it.
struct Space(File);

impl Space {
    fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace is made");
            File::open("/proc/thread-self/ns/net").expect("the namespace is opened")
        });
        let space = Self(file.join().expect("the namespace is made"));
        space.ip("link set lo up");
        space
    }

    fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the namespace is entered");
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn ip(&self, words: &str) {
        let output = self.inside(|| Command::new("ip").args(words.split(' ')).output()).expect("ip runs");
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

fn config(node: usize, shards: usize) -> DataPlaneConfig {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    DataPlaneConfig {
        device: "mesh".to_owned(),
        mtu: None,
        udp_port: TUNNEL_PORT,
        keys: OwnKeys::single(Epoch(1), local_key(node as u8 + 1), local_key(0xee)),
        addr4: (addr4(node), 16),
        addr6: (Ipv6Addr::new(0xfd5a, 1, 0, 0, 0, 0, 0, node as u16 + 1), 48),
        mesh_prefixes: vec!["10.91.0.0/16".parse().unwrap(), "fd5a:1::/48".parse().unwrap()],
        shards: Some(shards),
        switches: Switches::detect(),
        clock_floor: Tai64n::from_unix(wall),
    }
}

/// A node as the one at the other end of link `link` sees it.
fn peer(node: usize, link: usize) -> PeerConfig {
    PeerConfig {
        node: node_id(node),
        org: OrgId([1; 32]),
        name: format!("node {node}"),
        keys: PeerKeys::single(Epoch(1), local_key(node as u8 + 1).public()),
        addrs: vec![IpNet::from(IpAddr::V4(addr4(node)))],
        candidates: vec![SocketAddr::new(underlay(node, link).into(), TUNNEL_PORT)],
        psk: None,
        suite: Suite::Aes,
        is_external: false,
    }
}

fn local_key(private: u8) -> LocalKey {
    LocalKey::from_bytes(&Zeroizing::new([private; 32])).unwrap()
}

fn node_id(node: usize) -> NodeId {
    NodeId([node as u8 + 1; 32])
}

fn addr4(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 91, 0, node as u8 + 1)
}

/// Address of a node on the link to the peer of that number.
fn underlay(node: usize, link: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, link as u8, if node == 0 { 1 } else { 2 })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
