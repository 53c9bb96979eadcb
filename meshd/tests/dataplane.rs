//! Two data planes in two network namespaces, joined by a veth pair. Needs root and /dev/net/tun.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use meshd::dataplane::{DataPlane, DataPlaneConfig, DataPlaneError, Event, PeerConfig, PingError};
use meshd::io::Switches;
use meshd_tunnel::{LocalKey, Suite, Tai64n};
use meshd_wire::NodeId;
use nix::sched::{CloneFlags, setns};
use zeroize::Zeroizing;

/// Longest wait for anything; far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(20);
const PORT: u16 = 51820;

#[test]
fn two_nodes_reach_each_other_over_both_families() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    let mut events = a.events();
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);

    wait_for("the tunnel to come up without traffic", || a.peers()[0].up && b.peers()[0].up);
    assert!(matches!(events.try_recv(), Ok(Event::PeerUp { node, .. }) if node == node_id(1)));
    for (from, to) in [(0, 1), (1, 0)] {
        assert_datagram_arrives(&pair, from, IpAddr::V4(addr4(from)), IpAddr::V4(addr4(to)), to);
        assert_datagram_arrives(&pair, from, IpAddr::V6(addr6(from)), IpAddr::V6(addr6(to)), to);
    }
    for (plane, other) in [(&a, 1), (&b, 0)] {
        let reply = block_on(plane.ping(&node_id(other), 1000)).unwrap();
        assert_eq!(reply.path, SocketAddr::new(underlay4(other), PORT));
        assert_eq!(reply.address, IpAddr::V4(addr4(other)));
    }
    assert_eq!(block_on(a.ping(&node_id(9), 8)), Err(PingError::UnknownPeer));
    let stats = &a.peers()[0];
    assert!(stats.last_handshake.is_some());
    assert!(stats.tx_packets >= 3 && stats.rx_packets >= 3, "{stats:?}");
    assert_eq!(a.mtu(), 1420);
}

#[test]
fn an_address_nobody_owns_is_answered_as_unreachable() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.start(0);
    a.set_peers(vec![PeerConfig { candidates: Vec::new(), ..pair.peer(1) }]);
    for address in [
        IpAddr::V4(Ipv4Addr::new(10, 91, 7, 7)),
        IpAddr::V6("fd5a:1::7:7".parse().unwrap()),
        IpAddr::V4(addr4(1)),
        IpAddr::V6(addr6(1)),
    ] {
        let error = pair
            .inside(0, || TcpStream::connect_timeout(&SocketAddr::new(address, 80), PATIENCE))
            .expect_err("nobody listens there");
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{address}: {error}");
    }
    assert!(counter(&a, "no-peer") >= 2);
    assert!(counter(&a, "no-path") >= 2);
    assert_eq!(block_on(a.ping(&node_id(1), 8)), Err(PingError::Unreachable));
}

#[test]
fn a_source_address_of_somebody_else_is_dropped_and_counted() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);

    pair.ip(0, &["address", "add", "10.91.0.99/32", "dev", "mesh-a"]);
    let socket = pair.inside(0, || UdpSocket::bind("10.91.0.99:0")).unwrap();
    let listener = pair.inside(1, || UdpSocket::bind((addr4(1), 7000))).unwrap();
    socket.send_to(b"forged", (addr4(1), 7000)).unwrap();
    wait_for("the drop to be counted", || counter(&b, "bad-source") == 1);
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.recv(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn garbage_is_counted_and_harms_nothing() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);

    let socket = pair.inside(0, || UdpSocket::bind((underlay4(0), 0))).unwrap();
    let target = SocketAddr::new(underlay4(1), PORT);
    let datagrams: [(&str, &[u8]); 5] = [
        ("too-short", b""),
        ("too-short", &[4, 0, 0, 0]),
        ("not-tunnel", &[9; 200]),
        ("bad-handshake", &{
            let mut initiation = [7; 148];
            initiation[..4].copy_from_slice(&[1, 0, 0, 0]);
            initiation
        }),
        ("unknown-index", &{
            let mut data = [0xee; 96];
            data[..4].copy_from_slice(&[4, 0, 0, 0]);
            data[8..16].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
            data
        }),
    ];
    for (reason, datagram) in datagrams {
        let before = counter(&b, reason);
        socket.send_to(datagram, target).unwrap();
        wait_for(reason, || counter(&b, reason) > before);
    }
    assert!(block_on(a.ping(&node_id(1), 8)).is_ok());
}

#[test]
fn a_restarted_node_is_reached_again() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    drop(b);

    let b = pair.start(1);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come back", || b.peers()[0].up);
    assert!(block_on(a.ping(&node_id(1), 8)).is_ok());
}

#[test]
fn a_removed_peer_is_cut_off_at_once() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    let mut events = b.events();

    b.set_peers(Vec::new());
    assert_eq!(events.try_recv(), Ok(Event::PeerDown { node: node_id(0) }));
    let socket = pair.inside(0, || UdpSocket::bind((addr4(0), 0))).unwrap();
    socket.send_to(b"late", (addr4(1), 7000)).unwrap();
    wait_for("the late packet to be refused", || counter(&b, "unknown-index") >= 1);
}

#[test]
fn what_is_taken_is_named_and_nothing_stays_behind() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.start(0);
    let again = pair.inside(0, || DataPlane::start(pair.config(0))).expect_err("the port is taken");
    assert!(matches!(again, DataPlaneError::Bind(_)), "{again}");
    assert_eq!(again.to_string(), "udp port 51820 is taken by another program");
    let again = pair
        .inside(0, || DataPlane::start(DataPlaneConfig { udp_port: 0, ..pair.config(0) }))
        .expect_err("the name is taken");
    assert_eq!(again.to_string(), "device name mesh-a is taken by another program");

    a.stop();
    pair.inside(0, || {
        assert!(nix::net::if_::if_nametoindex("mesh-a").is_err(), "the device is gone");
    });
    drop(a);
    drop(pair.start(0));
}

#[test]
fn a_route_of_somebody_else_is_never_replaced() {
    let Some(pair) = Pair::new() else { return };
    pair.ip(0, &["route", "add", "10.91.0.0/16", "via", "192.168.77.2"]);
    let refused = pair.inside(0, || DataPlane::start(pair.config(0))).expect_err("the prefix is routed");
    assert!(matches!(refused, DataPlaneError::Device(_)), "{refused}");
    pair.inside(0, || {
        assert!(nix::net::if_::if_nametoindex("mesh-a").is_err(), "the device is gone");
        let conflict = meshd::os::conflicting_route("10.91.0.0/16".parse().unwrap(), "mesh-a").unwrap();
        assert_eq!(conflict.as_deref(), Some("route 10.91.0.0/16 on uplink"));
    });
}

#[test]
fn a_persistent_device_left_behind_is_replaced() {
    let Some(pair) = Pair::new() else { return };
    pair.ip(0, &["tuntap", "add", "mesh-a", "mode", "tun"]);
    let a = pair.start(0);
    drop(a);
    pair.inside(0, || {
        assert!(nix::net::if_::if_nametoindex("mesh-a").is_err(), "the device is gone");
    });
}

#[test]
fn the_host_tells_its_candidates_and_conflicts() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.start(0);
    let overlay = prefixes();
    let candidates = pair.inside(0, || meshd::os::local_candidates(&overlay)).unwrap();
    assert_eq!(candidates, vec![underlay4(0), underlay6(0)]);

    let conflict = |prefix: &str, own: &str| {
        pair.inside(0, || meshd::os::conflicting_route(prefix.parse().unwrap(), own)).unwrap()
    };
    assert_eq!(conflict("10.91.0.0/16", "mesh-a"), None);
    assert_eq!(conflict("10.91.0.0/16", "other").as_deref(), Some("route 10.91.0.0/16 on mesh-a"));
    assert_eq!(conflict("192.168.0.0/16", "mesh-a").as_deref(), Some("route 192.168.77.0/24 on uplink"));
    drop(a);
}

#[test]
fn a_device_taken_away_is_reported() {
    let Some(pair) = Pair::new() else { return };
    let a = pair.start(0);
    let mut events = a.events();
    pair.ip(0, &["link", "delete", "mesh-a"]);
    wait_for("the loss to be reported", || events.try_recv() == Ok(Event::DeviceLost));
}

#[test]
fn one_side_that_knows_the_way_is_enough() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![PeerConfig { candidates: Vec::new(), ..pair.peer(0) }]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    assert!(block_on(b.ping(&node_id(0), 8)).is_ok());
}

#[test]
fn a_peer_that_learns_of_us_late_is_reached_when_its_way_becomes_known() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    b.set_peers(vec![PeerConfig { candidates: Vec::new(), ..pair.peer(0) }]);
    a.set_peers(vec![PeerConfig { candidates: Vec::new(), ..pair.peer(1) }]);
    assert_eq!(block_on(a.ping(&node_id(1), 8)), Err(PingError::Unreachable));
    a.set_peers(vec![pair.peer(1)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
}

#[test]
fn a_node_that_moves_is_followed() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    let mut events = b.events();

    pair.ip(0, &["address", "add", "192.168.77.100/24", "dev", "uplink"]);
    pair.ip(0, &["address", "delete", "192.168.77.1/24", "dev", "uplink"]);
    pair.ip(0, &["address", "replace", "192.168.77.100/24", "dev", "uplink"]);
    a.greet_peers();
    let endpoint: SocketAddr = "192.168.77.100:51820".parse().unwrap();
    let moved = Event::PathChanged { node: node_id(0), endpoint };
    wait_for("the new address to be proven", || events.try_recv() == Ok(moved));
    assert_eq!(b.peers()[0].endpoint, Some(endpoint));
    assert!(block_on(b.ping(&node_id(0), 8)).is_ok());
}

#[test]
fn without_ipv6_in_the_kernel_the_overlay_carries_ipv4() {
    let Some(pair) = Pair::new() else { return };
    pair.inside(0, || std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")).unwrap();
    let (a, b) = (pair.start(0), pair.start(1));
    assert!(!a.has_ipv6() && b.has_ipv6());
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    assert_datagram_arrives(&pair, 0, IpAddr::V4(addr4(0)), IpAddr::V4(addr4(1)), 1);
}

#[test]
fn changes_of_addresses_are_noticed() {
    let Some(pair) = Pair::new() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let entered = runtime.enter();
    let handle = runtime.handle().clone();
    let watch = pair.inside(0, || {
        let _entered = handle.enter();
        meshd::os::AddressWatch::open()
    });
    drop(entered);
    let watch = watch.unwrap();
    pair.ip(0, &["address", "add", "192.168.77.200/24", "dev", "uplink"]);
    runtime.block_on(async { tokio::time::timeout(PATIENCE, watch.changed()).await }).unwrap().unwrap();
}

/// Two namespaces with one link between them; gone when dropped, also in a panic.
///
/// One at a time in a process: a program started by another test holds this test's sockets and devices for the
/// moment between fork and exec.
struct Pair {
    names: [String; 2],
    _turn: MutexGuard<'static, ()>,
}

impl Pair {
    /// `None`, with a word why, where namespaces or devices cannot be made.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static TURN: Mutex<()> = Mutex::new(());
        if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/dev/net/tun").exists() {
            eprintln!("skipped: needs root and /dev/net/tun");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let unique = format!("dp{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let pair = Self { names: [format!("{unique}a"), format!("{unique}b")], _turn: turn };
        for name in &pair.names {
            run("ip", &["netns", "add", name]);
        }
        let [a, b] = &pair.names;
        run("ip", &["-n", a, "link", "add", "uplink", "type", "veth", "peer", "name", "uplink", "netns", b]);
        for side in 0..2 {
            let address4 = format!("{}/24", underlay4(side));
            let address6 = format!("{}/64", underlay6(side));
            pair.ip(side, &["link", "set", "lo", "up"]);
            pair.ip(side, &["link", "set", "uplink", "up"]);
            pair.ip(side, &["address", "add", &address4, "dev", "uplink"]);
            pair.ip(side, &["address", "add", &address6, "dev", "uplink", "nodad"]);
        }
        Some(pair)
    }

    fn config(&self, side: u8) -> DataPlaneConfig {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        DataPlaneConfig {
            device: device(side).to_owned(),
            mtu: None,
            udp_port: PORT,
            private_key: key(side),
            addr4: (addr4(side), 16),
            addr6: (addr6(side), 48),
            mesh_prefixes: prefixes(),
            shards: None,
            switches: Switches::detect(),
            clock_floor: Tai64n::from_unix(wall),
        }
    }

    fn start(&self, side: u8) -> DataPlane {
        self.inside(side, || DataPlane::start(self.config(side))).expect("data plane starts")
    }

    fn peer(&self, side: u8) -> PeerConfig {
        PeerConfig {
            node: node_id(side),
            name: device(side).to_owned(),
            public_key: LocalKey::from_bytes(&key(side)).expect("key").public(),
            addrs: vec![IpNet::from(IpAddr::V4(addr4(side))), IpNet::from(IpAddr::V6(addr6(side)))],
            candidates: vec![SocketAddr::new(underlay4(side), PORT)],
            psk: None,
            suite: Suite::Aes,
            is_external: false,
        }
    }

    /// Runs `act` on a thread that lives in the namespace of one side.
    fn inside<T: Send>(&self, side: u8, act: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.names[usize::from(side)]);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(File::open(path).expect("namespace exists"), CloneFlags::CLONE_NEWNET).expect("enter");
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn ip(&self, side: u8, arguments: &[&str]) {
        run("ip", &[&["-n", &self.names[usize::from(side)]], arguments].concat());
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

fn assert_datagram_arrives(pair: &Pair, from: u8, source: IpAddr, destination: IpAddr, to: u8) {
    let listener = pair.inside(to, || UdpSocket::bind((destination, 0))).unwrap();
    let sender = pair.inside(from, || UdpSocket::bind((source, 0))).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    sender.send_to(b"through the tunnel", listener.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 64];
    let (len, seen) = listener.recv_from(&mut buffer).expect("datagram arrives");
    assert_eq!(&buffer[..len], b"through the tunnel");
    assert_eq!(seen.ip(), source);
}

fn prefixes() -> Vec<IpNet> {
    vec!["10.91.0.0/16".parse().unwrap(), "fd5a:1::/48".parse().unwrap()]
}

fn device(side: u8) -> &'static str {
    if side == 0 { "mesh-a" } else { "mesh-b" }
}

fn key(side: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([side + 1; 32])
}

fn node_id(side: u8) -> NodeId {
    NodeId([side + 1; 32])
}

fn addr4(side: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 91, 0, side + 1)
}

fn addr6(side: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd5a, 1, 0, 0, 0, 0, 0, u16::from(side) + 1)
}

fn underlay4(side: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 77, side + 1).into()
}

fn underlay6(side: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(side) + 1).into()
}

fn counter(plane: &DataPlane, reason: &str) -> u64 {
    plane.counters().into_iter().find(|(name, _)| *name == reason).expect("counter exists").1
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("program runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
