//! The node under test: a data plane that does what it is told by lines of text, in this process or another one.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use meshd::dataplane::{DataPlane, DataPlaneConfig, OwnKeys, PeerConfig, PeerKeys};
use meshd::io::Switches;
use meshd_core::rotation::Epoch;
use meshd_tunnel::{LocalKey, Suite, Tai64n};
use meshd_wire::{NodeId, OrgId};
use zeroize::Zeroizing;

/// UDP port of all tunnels.
pub const PORT: u16 = 51820;
/// Outer and inner address of the node.
pub const UNDERLAY: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);
pub const OVERLAY: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);
pub const MTU: u16 = 1420;
pub const SUITE: Suite = Suite::Aes;

/// First outer and inner address of the peers: 65,000 of each follow.
const PEERS_UNDERLAY: Ipv4Addr = Ipv4Addr::new(172, 20, 1, 0);
const PEERS_OVERLAY: Ipv4Addr = Ipv4Addr::new(10, 91, 1, 0);

/// The line to the node.
pub struct Node {
    input: Box<dyn Write + Send>,
    output: BufReader<Box<dyn Read + Send>>,
}

/// What the process of the node has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Memory of the whole process.
    pub rss_mb: f64,
    /// Processor time of the thread with the handshakes.
    pub engine: Duration,
}

impl Node {
    pub fn new(input: impl Write + Send + 'static, output: impl Read + Send + 'static) -> Self {
        Self { input: Box::new(input), output: BufReader::new(Box::new(output)) }
    }

    /// Makes the first `count` peers those of the node; returns how long it took.
    pub fn set_peers(&mut self, count: u32) -> Duration {
        Duration::from_nanos(self.number(&format!("peers {count}")))
    }

    /// Peers that are up.
    pub fn peers_up(&mut self) -> u64 {
        self.number("up")
    }

    pub fn usage(&mut self) -> Usage {
        let rss_mb = self.number("rss") as f64 * 1024.0 / 1e6;
        Usage { rss_mb, engine: Duration::from_nanos(self.number("engine")) }
    }

    /// What was dropped, by reason.
    pub fn drops(&mut self) -> String {
        self.ask("drops")
    }

    fn number(&mut self, words: &str) -> u64 {
        let answer = self.ask(words);
        answer.parse().unwrap_or_else(|_| panic!("{words}: {answer}"))
    }

    fn ask(&mut self, words: &str) -> String {
        writeln!(self.input, "{words}").and_then(|()| self.input.flush()).expect("the node listens");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("the node answers");
        answer.trim_end().to_owned()
    }
}

/// Runs the node in this thread's namespace until the input ends.
pub fn serve(input: impl Read, mut output: impl Write) {
    let plane = DataPlane::start(config()).expect("the data plane starts");
    let mut keys = Vec::new();
    for line in BufReader::new(input).lines().map_while(Result::ok) {
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("peers", count) => {
                let count = count.parse().expect("a number");
                keys.extend((keys.len() as u32..count).map(|number| key(number).public()));
                let peers: Vec<PeerConfig> =
                    (0..count).zip(&keys).map(|(number, key)| peer(number, *key)).collect();
                let start = Instant::now();
                plane.set_peers(peers);
                start.elapsed().as_nanos().to_string()
            }
            ("up", _) => plane.peers().iter().filter(|peer| peer.up).count().to_string(),
            ("rss", _) => rss_kib().to_string(),
            ("engine", _) => engine_ns().to_string(),
            ("drops", _) => {
                let drops = plane.counters().into_iter().filter(|(_, count)| *count > 0);
                drops.map(|(reason, count)| format!("{reason} {count}")).collect::<Vec<_>>().join(", ")
            }
            (other, _) => format!("what is {other}?"),
        };
        if writeln!(output, "{answer}").and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

/// The key of a peer.
pub fn key(number: u32) -> LocalKey {
    let mut private = Zeroizing::new([0x40; 32]);
    private[4..8].copy_from_slice(&number.to_le_bytes());
    LocalKey::from_bytes(&private).expect("a private key")
}

/// The key of the node.
pub fn own_key() -> LocalKey {
    LocalKey::from_bytes(&Zeroizing::new([1; 32])).expect("a private key")
}

/// Outer address of a peer.
pub fn underlay(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(PEERS_UNDERLAY) + number)
}

/// The peer with this outer address.
pub fn number_at(address: Ipv4Addr) -> Option<u32> {
    u32::from(address).checked_sub(PEERS_UNDERLAY.into())
}

/// Inner address of a peer.
pub fn overlay(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(PEERS_OVERLAY) + number)
}

/// Time since 1970.
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn config() -> DataPlaneConfig {
    let external = LocalKey::from_bytes(&Zeroizing::new([0xee; 32])).expect("a private key");
    DataPlaneConfig {
        device: "mesh".to_owned(),
        mtu: Some(MTU),
        udp_port: PORT,
        keys: OwnKeys::single(Epoch(1), own_key(), external),
        addr4: (OVERLAY, 16),
        addr6: (overlay6(0), 48),
        mesh_prefixes: vec!["10.91.0.0/16".parse().expect("v4"), "fd5a:1::/48".parse().expect("v6")],
        shards: None,
        switches: Switches::detect(),
        clock_floor: Tai64n::from_unix(wall()),
    }
}

fn peer(number: u32, public: [u8; 32]) -> PeerConfig {
    let mut node = [7; 32];
    node[..4].copy_from_slice(&number.to_be_bytes());
    PeerConfig {
        node: NodeId(node),
        org: OrgId([1; 32]),
        name: format!("peer-{number}"),
        keys: PeerKeys::single(Epoch(1), public),
        addrs: [IpAddr::V4(overlay(number)), IpAddr::V6(overlay6(number + 1))].map(IpNet::from).to_vec(),
        candidates: vec![SocketAddr::new(underlay(number).into(), PORT)],
        psk: None,
        suite: SUITE,
        is_external: false,
    }
}

fn overlay6(number: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(Ipv6Addr::new(0xfd5a, 1, 0, 0, 0, 0, 0, 1)) + u128::from(number))
}

fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

fn engine_ns() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|task| task.path());
    let is_engine = |name: String| name.trim() == "meshd-engine";
    let engines = tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(is_engine));
    let run = |task: std::path::PathBuf| {
        let text = fs::read_to_string(task.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    engines.filter_map(run).sum()
}
