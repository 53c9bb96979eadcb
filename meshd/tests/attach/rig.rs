//! A host with the overlay's device, and endpoints that are attached to it in the way a runtime has it done.

#[path = "../rig/space.rs"]
mod space;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use meshd::os::{
    Admission, ContainerEnd, Firewall, FirewallSettings, HostEnd, LinkOwner, Mac, Namespace, Veth, VethError,
    VethPlace, VethSettings, enable_forwarding,
};
use meshd_wire::EndpointId;

pub(crate) use space::Space;

/// Longest wait for anything; far beyond what a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// The node's own addresses.
pub(crate) const NODE4: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);
pub(crate) const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd91, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const MTU: u16 = 1380;
pub(crate) const DEVICE_MTU: u16 = 1420;
pub(crate) const IFNAME: &str = "eth0";
pub(crate) const UNDERLAY_PORT: u16 = 51820;
pub(crate) const CONTROL_PORT: u16 = 51820;
const PORT: u16 = 7000;

/// A host that is a member of the mesh.
pub(crate) struct Host {
    pub(crate) space: Space,
    pub(crate) firewall: Firewall,
}

/// A namespace with an endpoint's identity, attached or not.
pub(crate) struct Endpoint {
    pub(crate) space: Space,
    pub(crate) owner: LinkOwner,
    pub(crate) addresses: [IpAddr; 2],
}

impl Host {
    /// `None`, with a word why, where namespaces can't be made.
    pub(crate) fn new() -> Option<Self> {
        let space = member()?;
        let firewall = space.inside(|| {
            enable_forwarding().expect("the host forwards");
            Firewall::install(&settings(), BTreeMap::new()).expect("the table is installed")
        });
        Some(Self { space, firewall })
    }

    /// Attaches and admits an endpoint that leads all its traffic here.
    pub(crate) fn attach(&mut self, endpoint: &Endpoint) {
        self.space.inside(|| endpoint.wire());
        self.admit(endpoint, false);
    }

    pub(crate) fn admit(&mut self, endpoint: &Endpoint, has_egress: bool) {
        let admission = Admission { addresses: endpoint.addresses.into(), has_egress };
        self.space
            .inside(|| self.firewall.admit(endpoint.id(), admission))
            .expect("the endpoint is admitted");
    }

    /// Undoes [`Host::attach`] in reverse order.
    pub(crate) fn detach(&mut self, endpoint: &Endpoint) {
        self.space.inside(|| {
            self.firewall.expel(endpoint.id()).expect("the endpoint is isolated");
            endpoint.host_end(&endpoint.routes()).unroute().expect("the routes are removed");
            Veth::remove(endpoint.id()).expect("the pair is removed");
        });
    }

    pub(crate) fn drops(&self, reason: &str) -> u64 {
        let drops = self.space.inside(Firewall::drops).expect("the table is read");
        drops[reason]
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.space.inside(|| self.firewall.faults()).expect("the table is read")
    }

    pub(crate) fn pairs(&self) -> Vec<Veth> {
        self.space.inside(Veth::list).expect("the links are listed")
    }
}

impl Endpoint {
    /// The endpoint with this number, not attached yet.
    pub(crate) fn new(number: u8) -> Self {
        let space = Space::new().expect("one namespace was made, so others can");
        let owner = LinkOwner::new("cni", EndpointId([number; 32])).expect("a runtime's name");
        let address4 = Ipv4Addr::new(10, 91, 128, number);
        let address6 = Ipv6Addr::new(0xfd91, 0, 0, 1, 0, 0, 0, number.into());
        Self { space, owner, addresses: [address4.into(), address6.into()] }
    }

    pub(crate) fn id(&self) -> EndpointId {
        self.owner.id()
    }

    /// Its namespace as a runtime tells of it.
    pub(crate) fn namespace(&self) -> Namespace {
        let path = self.space.path();
        let seen = std::fs::metadata(&path).expect("the namespace is there");
        Namespace::open(&path, seen.dev(), seen.ino()).expect("the namespace is opened")
    }

    /// Does all but admit it, from within the host's namespace.
    pub(crate) fn wire(&self) {
        let namespace = self.namespace();
        self.create(VethPlace::Inside { namespace: &namespace, ifname: IFNAME }).expect("the pair is made");
        let routes = self.routes();
        let end = self.host_end(&routes);
        end.set_up().expect("the host end is set up");
        self.container_end(&every_prefix()).set_up(&namespace).expect("the endpoint's end is set up");
        end.route().expect("the endpoint is routed");
    }

    /// Its addresses, and those that packets of the host have which go there.
    pub(crate) fn routes(&self) -> [(IpAddr, IpAddr); 2] {
        let [v4, v6] = self.addresses;
        [(v4, NODE4.into()), (v6, NODE6.into())]
    }

    pub(crate) fn host_end<'a>(&self, routes: &'a [(IpAddr, IpAddr)]) -> HostEnd<'a> {
        HostEnd { id: self.id(), routes, gateways: &[] }
    }

    pub(crate) fn container_end<'a>(&'a self, routes: &'a [IpNet]) -> ContainerEnd<'a> {
        ContainerEnd { ifname: IFNAME, addresses: &self.addresses, routes }
    }

    pub(crate) fn create(&self, place: VethPlace<'_>) -> Result<Veth, VethError> {
        let container_mac = Mac::local([0xee, 0, 0, 0, 1]);
        Veth::create(&VethSettings {
            owner: &self.owner,
            container_mac,
            mtu: MTU,
            device_mtu: DEVICE_MTU,
            place,
        })
    }
}

/// A host with the overlay's device and nothing else; `None`, with a word why, where namespaces can't be made.
pub(crate) fn member() -> Option<Space> {
    let space = Space::new()?;
    space.ip("link add meshd0 type veth peer name mesh");
    space.ip("link set mesh up");
    space.ip("link set meshd0 up");
    space.ip(&format!("address add {NODE4}/32 dev meshd0"));
    space.ip(&format!("address add {NODE6}/128 dev meshd0 nodad"));
    wait_for("both ends to have their addresses", || {
        said(&space, "ip", "address").matches("inet6 fe80:").count() == 2 && is_settled(&space)
    });
    Some(space)
}

/// What makes the mesh the default route.
pub(crate) fn every_prefix() -> [IpNet; 2] {
    ["0.0.0.0/0", "::/0"].map(|prefix| prefix.parse().expect("a prefix"))
}

pub(crate) fn settings() -> FirewallSettings {
    FirewallSettings {
        device: "meshd0".to_owned(),
        addr4: NODE4,
        addr6: NODE6,
        prefixes: vec!["10.91.0.0/16".parse().expect("a prefix"), "fd91::/48".parse().expect("a prefix")],
        underlay_port: UNDERLAY_PORT,
        control_port: CONTROL_PORT,
    }
}

/// What a program says in a namespace.
pub(crate) fn said(space: &Space, program: &str, words: &str) -> String {
    let output =
        space.inside(|| Command::new(program).args(words.split(' ')).output()).expect("the program runs");
    assert!(output.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the program speaks text")
}

/// All links, addresses, routes and packet filters of a namespace, but not how many packets were dropped.
pub(crate) fn snapshot(space: &Space) -> String {
    wait_for("the kernel to be done", || is_settled(space));
    let ip = ["-j link", "-j address", "-j route show table all", "-j -6 route show table all"];
    let mut snapshot: Vec<String> = ip.iter().map(|words| said(space, "ip", words)).collect();
    let rules: serde_json::Value =
        serde_json::from_str(&said(space, "nft", "-j list ruleset")).expect("json");
    let rules = rules["nftables"].as_array().expect("a list");
    for item in rules.iter().filter(|item| item.get("counter").is_none()) {
        let mut item = item.clone();
        // It tells how often the thing was made, not what it is.
        let content = item.as_object_mut().and_then(|item| item.values_mut().next());
        content.and_then(|content| content.as_object_mut()).map(|content| content.remove("handle"));
        snapshot.push(item.to_string());
    }
    snapshot.join("\n")
}

/// Whether the kernel is done with what it goes on with after it has answered: it brings links up, verifies IPv6
/// addresses, and only then leads packets to them.
pub(crate) fn is_settled(space: &Space) -> bool {
    let links: serde_json::Value = serde_json::from_str(&said(space, "ip", "-j address")).expect("json");
    let local = said(space, "ip", "-6 route show table local");
    links.as_array().expect("a list").iter().all(|link| {
        let has = |flag: &str| link["flags"].as_array().expect("a list").iter().any(|own| own == flag);
        let name = link["ifname"].as_str().expect("a name");
        let addresses = link["addr_info"].as_array().expect("a list").iter();
        let mut addresses = addresses.filter(|address| address["family"] == "inet6");
        let is_led = |address: &serde_json::Value| {
            let at = address["local"].as_str().expect("an address");
            address.get("tentative").is_none() && local.contains(&format!("local {at} dev {name} "))
        };
        match (has("LOWER_UP"), has("NO-CARRIER")) {
            (true, is_going_up) => !is_going_up && addresses.all(is_led),
            (false, _) => true,
        }
    })
}

/// A socket that waits for a datagram.
pub(crate) fn listen(space: &Space, at: IpAddr) -> UdpSocket {
    socket(space, SocketAddr::new(at, PORT))
}

pub(crate) fn socket(space: &Space, at: SocketAddr) -> UdpSocket {
    let socket = space.inside(|| UdpSocket::bind(at)).unwrap_or_else(|error| panic!("bind {at}: {error}"));
    socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    socket
}

/// Sends a datagram to the port of [`listen`]. That the host's own filter refuses it is as good as a loss.
pub(crate) fn send(space: &Space, from: IpAddr, to: IpAddr, content: &str) {
    let sender = socket(space, SocketAddr::new(from, 0));
    match sender.send_to(content.as_bytes(), SocketAddr::new(to, PORT)) {
        Err(error) if error.kind() != ErrorKind::PermissionDenied => panic!("send to {to}: {error}"),
        _ => {}
    }
}

/// The next datagram and who sent it.
pub(crate) fn received(socket: &UdpSocket) -> (String, IpAddr) {
    let mut buffer = [0; 64];
    let (len, source) = socket.recv_from(&mut buffer).expect("a datagram arrives");
    (String::from_utf8_lossy(&buffer[..len]).into_owned(), source.ip())
}

/// Whether nothing waits to be read.
pub(crate) fn is_silent(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).expect("a switch");
    let outcome = socket.recv_from(&mut [0; 64]);
    socket.set_nonblocking(false).expect("a switch");
    outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// A datagram and its answer.
pub(crate) fn assert_reached((here, own): (&Space, IpAddr), (there, far): (&Space, IpAddr)) {
    let (one, other) = (listen(here, own), listen(there, far));
    one.send_to(b"ask", SocketAddr::new(far, PORT)).unwrap_or_else(|error| panic!("{own} to {far}: {error}"));
    assert_eq!(received(&other), ("ask".to_owned(), own));
    other
        .send_to(b"answer", SocketAddr::new(own, PORT))
        .unwrap_or_else(|error| panic!("{far} to {own}: {error}"));
    assert_eq!(received(&one), ("answer".to_owned(), far));
}

pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
