//! The routed network between hosts: delay, loss, cuts and a smaller MTU, each for one direction of one pair.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use crate::delay::{Delay, Delayer};
use crate::namespace::Namespace;

/// Number of a host in its lab; part of its underlay addresses.
pub type HostNumber = u8;

/// Routing table that leads everything that enters into the delaying process.
const DELAY_TABLE: u32 = 100;

/// Underlay address of a host, and of the internet's end of its link.
pub(crate) fn addr4(host: HostNumber) -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(198, 18, host, 2), Ipv4Addr::new(198, 18, host, 1))
}

/// IPv6 underlay address of a host, and of the internet's end of its link; `lab` differs between labs.
pub(crate) fn addr6(lab: u32, host: HostNumber) -> (Ipv6Addr, Ipv6Addr) {
    let [a, b, c, d] = lab.to_be_bytes();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let at = |end| Ipv6Addr::new(0xfd6c, high, low, host.into(), 0, 0, 0, end);
    (at(2), at(1))
}

/// What happens to packets from one host to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Condition {
    cut: bool,
    loss_permille: u16,
    length_max: Option<u16>,
}

/// The routed network between the hosts of a lab.
#[derive(Debug)]
pub struct Internet {
    namespace: Namespace,
    lab: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    conditions: BTreeMap<(HostNumber, HostNumber), Condition>,
    hosts: Vec<HostNumber>,
    delayer: Option<Delayer>,
}

impl Internet {
    pub(crate) fn new(namespace: Namespace, lab: u32) -> Result<Self> {
        for (setting, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv4/conf/all/rp_filter", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv6/conf/all/forwarding", "1"),
        ] {
            namespace.sysctl(setting, value)?;
        }
        Ok(Self { namespace, lab, state: Mutex::default() })
    }

    /// The namespace it lives in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Lets nothing pass between two hosts.
    pub fn cut(&self, a: HostNumber, b: HostNumber) -> Result<()> {
        self.change(&[(a, b), (b, a)], |condition| condition.cut = true)
    }

    /// Lets nothing pass from one host to another; the way back stays open.
    pub fn cut_one_way(&self, from: HostNumber, to: HostNumber) -> Result<()> {
        self.change(&[(from, to)], |condition| condition.cut = true)
    }

    /// Takes back every cut between two hosts.
    pub fn heal(&self, a: HostNumber, b: HostNumber) -> Result<()> {
        self.change(&[(a, b), (b, a)], |condition| condition.cut = false)
    }

    /// Loses packets between two hosts at random, in each direction.
    pub fn lose(&self, a: HostNumber, b: HostNumber, permille: u16) -> Result<()> {
        self.change(&[(a, b), (b, a)], |condition| condition.loss_permille = permille)
    }

    /// Drops longer IP packets between two hosts without a word: a black hole for path MTU discovery.
    pub fn drop_longer(&self, a: HostNumber, b: HostNumber, length_max: u16) -> Result<()> {
        self.change(&[(a, b), (b, a)], |condition| condition.length_max = Some(length_max))
    }

    /// Holds packets between two hosts, in each direction.
    pub fn delay(&self, a: HostNumber, b: HostNumber, delay: Delay) -> Result<()> {
        let mut state = self.state();
        if state.delayer.is_none() {
            let delayer = Delayer::start(&self.namespace)?;
            let device = delayer.device();
            self.namespace.ip(&format!("link set {device} up mtu 9000 txqueuelen 5000\n"))?;
            let route = format!("route add default dev {device} table {DELAY_TABLE}\n");
            self.namespace.ip(&route)?;
            self.namespace.ip6(&route)?;
            for host in &state.hosts {
                self.lead_through_delay(*host)?;
            }
            state.delayer = Some(delayer);
        }
        if let Some(delayer) = &state.delayer {
            delayer.set((a, b), delay);
            delayer.set((b, a), delay);
        }
        Ok(())
    }

    /// Notes a host whose link is up.
    pub(crate) fn attached(&self, host: HostNumber) -> Result<()> {
        let mut state = self.state();
        if !state.hosts.contains(&host) {
            state.hosts.push(host);
        }
        // Rules name the link and outlive it, but a host may come before the first delay or after it.
        if state.delayer.is_some() { self.lead_through_delay(host) } else { Ok(()) }
    }

    /// Ends the delaying thread, which would hold the namespace.
    pub(crate) fn stop(&self) {
        self.state().delayer = None;
    }

    pub(crate) fn addr6(&self, host: HostNumber) -> (Ipv6Addr, Ipv6Addr) {
        addr6(self.lab, host)
    }

    fn lead_through_delay(&self, host: HostNumber) -> Result<()> {
        let link = link_name(host);
        let rule = format!("rule add iif {link} lookup {DELAY_TABLE}\n");
        self.namespace.ip(&rule)?;
        self.namespace.ip6(&rule)
    }

    fn change(&self, pairs: &[(HostNumber, HostNumber)], change: impl Fn(&mut Condition)) -> Result<()> {
        let mut state = self.state();
        for pair in pairs {
            change(state.conditions.entry(*pair).or_default());
        }
        self.namespace.nft(&self.rules(&state.conditions))
    }

    /// The whole rule set, which replaces the last one at once.
    fn rules(&self, conditions: &BTreeMap<(HostNumber, HostNumber), Condition>) -> String {
        let mut text = String::from(
            "table inet lab\ndelete table inet lab\ntable inet lab {\n chain forward {\n\
             \x20 type filter hook forward priority 0\n",
        );
        for (&(from, to), condition) in conditions {
            let Condition { cut, loss_permille, length_max } = *condition;
            // Only on the way in, so that a packet that comes back from the delaying process is not judged twice.
            let ways = [
                format!("  iifname \"{}\" ip daddr {}", link_name(from), addr4(to).0),
                format!("  iifname \"{}\" ip6 daddr {}", link_name(from), self.addr6(to).0),
            ];
            for way in ways {
                if cut {
                    text.push_str(&format!("{way} drop\n"));
                }
                if loss_permille > 0 {
                    text.push_str(&format!("{way} numgen random mod 1000 < {loss_permille} drop\n"));
                }
                if let Some(length_max) = length_max {
                    text.push_str(&format!("{way} meta length > {length_max} drop\n"));
                }
            }
        }
        text.push_str(" }\n}\n");
        text
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Name of the internet's end of a host's link.
pub(crate) fn link_name(host: HostNumber) -> String {
    format!("w-{host}")
}
