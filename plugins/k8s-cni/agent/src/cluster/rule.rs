//! A rule of a policy: who, and at which ports.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort};

use super::port::Port;
use super::selector::Selector;

/// Allows some peers at some ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Who; without a list everybody.
    pub peers: Option<Vec<Peer>>,
    /// Where; without a list everything, ICMP too.
    pub ports: Option<Vec<Port>>,
}

/// Peers of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Addresses.
    Block(Block),
    /// Pods.
    Pods {
        /// Their namespaces; without a selector that of the policy.
        namespaces: Option<Selector>,
        /// Their labels.
        pods: Selector,
    },
}

/// A prefix with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The prefix.
    pub net: IpNet,
    /// The holes, all inside of it.
    pub except: Vec<IpNet>,
}

impl Rule {
    /// Reads one. What can't be read allows nothing, and is told.
    pub fn read(
        peers: Option<&Vec<NetworkPolicyPeer>>,
        ports: Option<&Vec<NetworkPolicyPort>>,
        faults: &mut Vec<String>,
    ) -> Self {
        Self { peers: readable(peers, Peer::read, faults), ports: readable(ports, Port::read, faults) }
    }
}

/// An empty list counts as none.
fn readable<T, R>(
    list: Option<&Vec<T>>,
    read: impl Fn(&T) -> Result<R, String>,
    faults: &mut Vec<String>,
) -> Option<Vec<R>> {
    let list = list.filter(|list| !list.is_empty())?;
    let mut found = Vec::new();
    for one in list {
        match read(one) {
            Ok(one) => found.push(one),
            Err(fault) => faults.push(fault),
        }
    }
    Some(found)
}

impl Peer {
    fn read(peer: &NetworkPolicyPeer) -> Result<Self, String> {
        let selector = |one: Option<&_>| one.map(Selector::read).transpose();
        let namespaces = selector(peer.namespace_selector.as_ref())?;
        let pods = selector(peer.pod_selector.as_ref())?;
        match (&peer.ip_block, namespaces, pods) {
            (Some(block), None, None) => Block::read(block).map(Self::Block),
            (Some(_), _, _) => Err("a peer with ipBlock and a selector".to_owned()),
            (None, None, None) => Err("a peer without ipBlock, namespaceSelector and podSelector".to_owned()),
            (None, namespaces, pods) => Ok(Self::Pods { namespaces, pods: pods.unwrap_or_default() }),
        }
    }
}

impl Block {
    fn read(block: &IPBlock) -> Result<Self, String> {
        let net = prefix(&block.cidr)?;
        let holes: Vec<IpNet> =
            block.except.iter().flatten().map(|hole| prefix(hole)).collect::<Result<_, _>>()?;
        match holes.iter().find(|hole| !net.contains(*hole)) {
            Some(hole) => Err(format!("{hole} is excepted but not inside {net}")),
            None => Ok(Self { net, except: holes }),
        }
    }
}

fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>().map(|net| net.trunc()).map_err(|_| format!("{text:?} is no prefix"))
}
