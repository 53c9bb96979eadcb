//! What has a name right now, and what may be said about it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA};
use hickory_proto::rr::{Name, RData, RecordType};
use ipnet::IpNet;

use super::Suffix;

/// Seconds that others may keep an answer, also one that there is no such name: what a name means follows the
/// endpoint.
pub(super) const TTL_S: u32 = 5;
/// Label of the answering node itself, in the zone's own records.
const SERVER: &str = "ns";
/// Mailbox that the zone's own record has to name; nobody reads it.
const MAILBOX: &str = "hostmaster";
/// Bits that one label of a reverse name stands for.
const OCTET_BITS: u8 = 8;
const NIBBLE_BITS: u8 = 4;

/// Everything that has a name, as of one moment.
#[derive(Debug)]
pub struct Zone {
    content: Content,
    serial: u32,
    server: Name,
    mailbox: Name,
}

#[derive(Debug, PartialEq, Eq)]
struct Content {
    apex: Name,
    names: BTreeMap<Name, Addresses>,
    pointers: BTreeMap<IpAddr, Name>,
    /// Prefixes of the mesh: who has an address of them is ours to say.
    prefixes: Vec<IpNet>,
    /// Addresses and blocks of the endpoints on this node.
    own_hosts: BTreeSet<IpAddr>,
    own_blocks: Vec<IpNet>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Addresses {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// What a zone knows of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is not ours to say.
    Foreign,
    /// There is no such name.
    Unknown {
        /// Top of the zone that would have it.
        apex: Name,
    },
    /// It exists, with these records of the wanted type.
    Known {
        /// Top of its zone.
        apex: Name,
        /// Maybe none.
        data: Vec<RData>,
    },
}

/// A zone in the making. What comes first has a name or an address before what comes later.
#[derive(Debug)]
pub struct Draft {
    suffix: Suffix,
    content: Content,
    server: Name,
    mailbox: Name,
}

impl Draft {
    /// Begins with the zone's own records; `own` are the addresses of this node.
    pub fn new(suffix: &Suffix, own: (Ipv4Addr, Ipv6Addr), prefixes: Vec<IpNet>) -> Self {
        // A suffix leaves room for any name below it.
        let below = |label| suffix.below(label).unwrap_or_else(Name::root);
        let server = below(SERVER);
        let own = Addresses { v4: Some(own.0), v6: Some(own.1) };
        let content = Content {
            apex: below(""),
            names: BTreeMap::from([(server.clone(), own)]),
            pointers: BTreeMap::new(),
            prefixes,
            own_hosts: BTreeSet::new(),
            own_blocks: Vec::new(),
        };
        Self { suffix: suffix.clone(), content, server, mailbox: below(MAILBOX) }
    }

    /// Names addresses, as `NAME.ORGANISATION`; nothing that has the name or an address already loses it.
    pub fn name(&mut self, labels: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let Some(name) = self.suffix.below(labels) else { return };
        if self.content.names.contains_key(&name) {
            return;
        }
        let mut named = Addresses::default();
        for address in addresses {
            match address {
                IpAddr::V4(v4) => named.v4 = Some(v4),
                IpAddr::V6(v6) => named.v6 = Some(v6),
            }
            self.content.pointers.entry(address).or_insert_with(|| name.clone());
        }
        if named != Addresses::default() {
            self.content.names.insert(name, named);
        }
    }

    /// Notes who may ask where only endpoints of this node ask: an address, or a block of them.
    pub fn own(&mut self, network: IpNet) {
        if network.prefix_len() == network.max_prefix_len() {
            self.content.own_hosts.insert(network.addr());
        } else {
            self.content.own_blocks.push(network);
        }
    }

    /// Whether a zone says what this one would.
    pub fn is_said_by(&self, zone: &Zone) -> bool {
        self.content == zone.content
    }

    /// Ends; the serial grows with each zone.
    pub fn finish(self, serial: u32) -> Zone {
        let Self { suffix: _, content, server, mailbox } = self;
        Zone { content, serial, server, mailbox }
    }
}

impl Zone {
    /// A zone that nothing is in, and that answers for nothing.
    pub fn of_nobody() -> Self {
        let content = Content {
            apex: Name::root(),
            names: BTreeMap::new(),
            pointers: BTreeMap::new(),
            prefixes: Vec::new(),
            own_hosts: BTreeSet::new(),
            own_blocks: Vec::new(),
        };
        Self { content, serial: 0, server: Name::root(), mailbox: Name::root() }
    }

    /// Number of this zone: the next one has a greater one.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Name of an address.
    pub fn name_of(&self, address: IpAddr) -> Option<String> {
        let name = self.content.pointers.get(&address)?.to_ascii();
        Some(name.trim_end_matches('.').to_owned())
    }

    /// Whether an address has a name, and that one.
    pub fn is_called(&self, address: IpAddr, labels: &str) -> bool {
        let Some(name) = self.content.pointers.get(&address) else { return false };
        let mut wanted = labels.split('.').map(str::as_bytes);
        let count =
            usize::from(name.num_labels()).saturating_sub(usize::from(self.content.apex.num_labels()));
        name.iter().take(count).eq(wanted.by_ref())
    }

    /// Whether an address is that of an endpoint on this node.
    pub(super) fn is_own_endpoint(&self, address: IpAddr) -> bool {
        self.content.own_hosts.contains(&address)
            || self.content.own_blocks.iter().any(|block| block.contains(&address))
    }

    /// Looks a name up.
    pub(super) fn find(&self, name: &Name, kind: RecordType) -> Found {
        if self.serves_names() && self.content.apex.zone_of(name) {
            return self.find_name(name, kind);
        }
        let Some(network) = network_of(name) else { return Found::Foreign };
        match self.content.prefixes.iter().find_map(|prefix| reverse_apex(prefix, &network)) {
            Some(apex) => self.find_pointer(name, network, apex, kind),
            None => Found::Foreign,
        }
    }

    /// The record that says how long an answer that there is nothing may be kept.
    pub(super) fn authority(&self) -> RData {
        let (refresh_s, retry_s, expire_s) = (3600, 600, 86_400);
        RData::SOA(SOA::new(
            self.server.clone(),
            self.mailbox.clone(),
            self.serial,
            refresh_s,
            retry_s,
            expire_s,
            TTL_S,
        ))
    }

    fn serves_names(&self) -> bool {
        !self.content.apex.is_root()
    }

    fn find_name(&self, name: &Name, kind: RecordType) -> Found {
        let apex = self.content.apex.clone();
        let is_apex = *name == apex;
        // Names below this one follow it at once in the order of DNS.
        let next = self.content.names.range(name.clone()..).next();
        if !is_apex && !next.is_some_and(|(next, _)| name.zone_of(next)) {
            return Found::Unknown { apex };
        }
        let addresses = self.content.names.get(name).copied().unwrap_or_default();
        let v4 = addresses.v4.map(|v4| RData::A(A(v4)));
        let v6 = addresses.v6.map(|v6| RData::AAAA(AAAA(v6)));
        let data = self.of_apex(is_apex).into_iter().chain(v4).chain(v6);
        Found::Known { apex, data: of_kind(data, kind) }
    }

    fn find_pointer(&self, name: &Name, network: IpNet, apex: Name, kind: RecordType) -> Found {
        let is_apex = *name == apex;
        let mut inside = self.content.pointers.range(network.network()..=network.broadcast());
        let first = inside.next();
        if !is_apex && first.is_none() {
            return Found::Unknown { apex };
        }
        let is_host = network.prefix_len() == network.max_prefix_len();
        let pointer = first.filter(|_| is_host).map(|(_, name)| RData::PTR(PTR(name.clone())));
        Found::Known { apex, data: of_kind(self.of_apex(is_apex).into_iter().chain(pointer), kind) }
    }

    /// What stands at the top of each zone.
    fn of_apex(&self, is_apex: bool) -> Vec<RData> {
        if is_apex { vec![self.authority(), RData::NS(NS(self.server.clone()))] } else { Vec::new() }
    }
}

fn of_kind(data: impl Iterator<Item = RData>, kind: RecordType) -> Vec<RData> {
    data.filter(|data| kind == RecordType::ANY || data.record_type() == kind).collect()
}

/// The addresses that a reverse name stands for.
fn network_of(name: &Name) -> Option<IpNet> {
    let network = name.parse_arpa_name().ok()?;
    // One name for each address: no leading zeros or signs, nothing that reads like a number and is none.
    let canonical = Name::from(network.addr()).trim_to(usize::from(name.num_labels()));
    (canonical == *name).then_some(network)
}

/// Top of the reverse zone around some addresses, if they all lie in a prefix: the first whole label below the
/// prefix's length.
fn reverse_apex(prefix: &IpNet, network: &IpNet) -> Option<Name> {
    let bits = match prefix {
        IpNet::V4(_) => OCTET_BITS,
        IpNet::V6(_) => NIBBLE_BITS,
    };
    let labels = prefix.prefix_len().div_ceil(bits);
    let is_inside = prefix.contains(network) && network.prefix_len() >= labels * bits;
    // Two more for `in-addr.arpa` and `ip6.arpa`.
    is_inside.then(|| Name::from(network.addr()).trim_to(usize::from(labels) + 2))
}
