//! Namespaces, the data planes in them, and what the tests ask of both.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use meshd::dataplane::{DataPlane, DataPlaneConfig, PeerConfig};
use meshd::io::Switches;
use meshd_tunnel::{LocalKey, Suite, Tai64n};
use meshd_wire::{NodeId, OrgId};
use nix::sched::{CloneFlags, setns};
use zeroize::Zeroizing;

/// Longest wait for anything; far beyond what a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const PORT: u16 = 51820;
/// The organisation of both sides.
pub(crate) const ORG: OrgId = OrgId([9; 32]);

/// Two namespaces with one link between them; gone when dropped, also in a panic.
///
/// One at a time in a process: a program started by another test holds this test's sockets and devices for the
/// moment between fork and exec.
pub(crate) struct Pair {
    names: [String; 2],
    /// Namespaces on the way between the two.
    between: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Pair {
    /// `None`, with a word why, where namespaces or devices cannot be made.
    fn unlinked(width: Option<u16>) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static TURN: Mutex<()> = Mutex::new(());
        if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/dev/net/tun").exists() {
            eprintln!("skipped: needs root and /dev/net/tun");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let unique = format!("dp{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let names = [format!("{unique}a"), format!("{unique}b")];
        let between =
            if width.is_some() { vec![format!("{unique}m"), format!("{unique}n")] } else { Vec::new() };
        let pair = Self { names, between, _turn: turn };
        for name in pair.names.iter().chain(&pair.between) {
            run("ip", &["netns", "add", name]);
        }
        Some(pair)
    }

    /// Two namespaces on one link.
    pub(crate) fn new() -> Option<Self> {
        let pair = Self::unlinked(None)?;
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

    /// Two namespaces with two routers between them, whose link carries packets of `width` bytes. Nobody is told
    /// of longer ones.
    pub(crate) fn narrow(width: u16) -> Option<Self> {
        let pair = Self::unlinked(Some(width))?;
        let ([a, b], [m, n]) = (&pair.names, [&pair.between[0], &pair.between[1]]);
        run("ip", &["-n", m, "link", "add", "inner", "type", "veth", "peer", "name", "inner", "netns", n]);
        let sides = [(0, a, m, "10.255.0.1/30", "10.255.0.2"), (1, b, n, "10.255.0.2/30", "10.255.0.1")];
        for (side, host, router, inner, next) in sides {
            let (own, far) = (format!("{}/32", underlay4(side)), format!("{}/32", underlay4(1 - side)));
            let on = |name, arguments: &[&str]| run("ip", &[&["-n", name], arguments].concat());
            on(host, &["link", "add", "uplink", "type", "veth", "peer", "name", "outer", "netns", router]);
            on(host, &["link", "set", "lo", "up"]);
            on(host, &["link", "set", "uplink", "up"]);
            on(host, &["address", "add", &own, "dev", "uplink"]);
            on(host, &["route", "add", "default", "dev", "uplink", "src", &underlay4(side).to_string()]);
            on(router, &["link", "set", "outer", "up"]);
            on(router, &["link", "set", "inner", "up", "mtu", &width.to_string()]);
            on(router, &["address", "add", inner, "dev", "inner"]);
            on(router, &["route", "add", &own, "dev", "outer"]);
            on(router, &["route", "add", &far, "via", next, "onlink", "dev", "inner"]);
            let exec = |program: &[&str]| run("ip", &[&["netns", "exec", router], program].concat());
            exec(&["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.proxy_arp=1"]);
            exec(&["nft", "add table ip silent"]);
            exec(&["nft", "add chain ip silent out { type filter hook output priority 0; }"]);
            exec(&["nft", "add rule ip silent out icmp type destination-unreachable drop"]);
        }
        Some(pair)
    }

    pub(crate) fn config(&self, side: u8) -> DataPlaneConfig {
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

    pub(crate) fn start(&self, side: u8) -> DataPlane {
        self.inside(side, || DataPlane::start(self.config(side))).expect("data plane starts")
    }

    pub(crate) fn peer(&self, side: u8) -> PeerConfig {
        PeerConfig {
            node: node_id(side),
            org: ORG,
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
    pub(crate) fn inside<T: Send>(&self, side: u8, act: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.names[usize::from(side)]);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(File::open(path).expect("namespace exists"), CloneFlags::CLONE_NEWNET).expect("enter");
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(crate) fn ip(&self, side: u8, arguments: &[&str]) {
        run("ip", &[&["-n", &self.names[usize::from(side)]], arguments].concat());
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in self.names.iter().chain(&self.between) {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

pub(crate) fn assert_datagram_arrives(pair: &Pair, from: u8, source: IpAddr, destination: IpAddr, to: u8) {
    let listener = pair.inside(to, || UdpSocket::bind((destination, 0))).unwrap();
    let sender = pair.inside(from, || UdpSocket::bind((source, 0))).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    sender.send_to(b"through the tunnel", listener.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 64];
    let (len, seen) = listener.recv_from(&mut buffer).expect("datagram arrives");
    assert_eq!(&buffer[..len], b"through the tunnel");
    assert_eq!(seen.ip(), source);
}

pub(crate) fn prefixes() -> Vec<IpNet> {
    vec!["10.91.0.0/16".parse().unwrap(), "fd5a:1::/48".parse().unwrap()]
}

pub(crate) fn device(side: u8) -> &'static str {
    if side == 0 { "mesh-a" } else { "mesh-b" }
}

pub(crate) fn key(side: u8) -> Zeroizing<[u8; 32]> {
    Zeroizing::new([side + 1; 32])
}

pub(crate) fn node_id(side: u8) -> NodeId {
    NodeId([side + 1; 32])
}

pub(crate) fn addr4(side: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 91, 0, side + 1)
}

pub(crate) fn addr6(side: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd5a, 1, 0, 0, 0, 0, 0, u16::from(side) + 1)
}

pub(crate) fn underlay4(side: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 77, side + 1).into()
}

pub(crate) fn underlay6(side: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(side) + 1).into()
}

pub(crate) fn counter(plane: &DataPlane, reason: &str) -> u64 {
    plane.counters().into_iter().find(|(name, _)| *name == reason).expect("counter exists").1
}

pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect("program runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
