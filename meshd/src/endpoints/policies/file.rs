//! Policies as they are stored, so that a restart needs nobody who says them again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use meshd_api::{PolicyPorts, PolicyProtocol};
use meshd_wire::record::{Label, Prefix};
use meshd_wire::{DecodeError, NodeId, cbor};
use minicbor::{Decode, Encode};

use super::{Compiled, NetworkKey, Peer, Policy, Rule};
use crate::generations::{Generations, GenerationsError};
use crate::stored::{self, Stored, StoredError};

/// The policies of this node's networks, and the file they are in.
pub struct PoliciesFile {
    file: Generations,
    node: NodeId,
    networks: BTreeMap<NetworkKey, Vec<Policy>>,
    compiled: BTreeMap<NetworkKey, Arc<Vec<Compiled>>>,
}

impl PoliciesFile {
    /// Opens the file and reads what a node has stored; what another membership has left behind is nobody's.
    pub fn open(dir: &Path, node: NodeId) -> Result<Self, StoredError> {
        let (file, stored) = stored::open::<StoredPolicies>(dir)?;
        let own = stored.filter(|stored| stored.node == node);
        let networks = own.map(StoredPolicies::read).transpose();
        let networks =
            networks.map_err(|source| StoredError::Decode { name: StoredPolicies::NAME, source })?;
        let networks = networks.unwrap_or_default();
        let compiled = networks.iter().map(|(key, policies)| (key.clone(), Compiled::of(policies))).collect();
        Ok(Self { file, node, networks, compiled })
    }

    /// Replaces the policies of a network; when this returns, they are on disk, or nothing has changed.
    pub fn replace(&mut self, key: NetworkKey, policies: Vec<Policy>) -> Result<(), GenerationsError> {
        let mut networks = self.networks.clone();
        let compiled = Compiled::of(&policies);
        if policies.is_empty() {
            networks.remove(&key);
        } else {
            networks.insert(key.clone(), policies);
        }
        if networks == self.networks {
            return Ok(());
        }
        stored::write(&mut self.file, &StoredPolicies::new(self.node, &networks))?;
        if networks.contains_key(&key) {
            self.compiled.insert(key, compiled);
        } else {
            self.compiled.remove(&key);
        }
        self.networks = networks;
        Ok(())
    }

    /// What is in force, by network.
    pub fn compiled(&self) -> &BTreeMap<NetworkKey, Arc<Vec<Compiled>>> {
        &self.compiled
    }
}

/// Removes the file: this host has no endpoints any more.
pub fn forget_policies(dir: &Path) -> Result<(), GenerationsError> {
    Generations::open(dir, StoredPolicies::NAME)?.0.remove()
}

/// Format 1 of the file. Another one is another file and a conversion.
#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredPolicies {
    #[n(0)]
    format: u8,
    #[n(1)]
    node: NodeId,
    #[n(2)]
    networks: Vec<StoredNetwork>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredNetwork {
    #[n(0)]
    runtime: String,
    #[n(1)]
    network: String,
    /// Encoded by themselves: they nest as deep as a value may.
    #[cbor(n(2), with = "minicbor::bytes")]
    policies: Vec<u8>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredPolicy {
    #[n(0)]
    select: Vec<Label>,
    #[n(1)]
    ingress: Option<Vec<StoredRule>>,
    #[n(2)]
    egress: Option<Vec<StoredRule>>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredRule {
    #[n(0)]
    peers: Option<Vec<StoredPeer>>,
    #[n(1)]
    ports: Option<Vec<StoredPorts>>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredPeer {
    #[n(0)]
    net: Prefix,
    #[n(1)]
    except: Vec<Prefix>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredPorts {
    #[n(0)]
    protocol: StoredProtocol,
    #[n(1)]
    first: u16,
    #[n(2)]
    last: u16,
}

#[derive(Encode, Decode)]
#[cbor(index_only)]
enum StoredProtocol {
    #[n(0)]
    Tcp,
    #[n(1)]
    Udp,
    #[n(2)]
    Sctp,
}

impl Stored for StoredPolicies {
    const NAME: &'static str = "policies";
    const FORMAT: u8 = 1;

    fn format(&self) -> u8 {
        self.format
    }
}

impl StoredPolicies {
    fn new(node: NodeId, networks: &BTreeMap<NetworkKey, Vec<Policy>>) -> Self {
        let network = |((runtime, network), policies): (&NetworkKey, &Vec<Policy>)| StoredNetwork {
            runtime: runtime.clone(),
            network: network.clone(),
            policies: cbor::encode(&policies.iter().map(StoredPolicy::from).collect::<Vec<_>>()),
        };
        Self { format: Self::FORMAT, node, networks: networks.iter().map(network).collect() }
    }

    fn read(self) -> Result<BTreeMap<NetworkKey, Vec<Policy>>, DecodeError> {
        let network = |StoredNetwork { runtime, network, policies }| {
            let policies: Vec<StoredPolicy> = cbor::decode(&policies)?;
            let policies = policies.into_iter().map(Policy::try_from).collect::<Result<_, _>>()?;
            Ok(((runtime, network), policies))
        };
        self.networks.into_iter().map(network).collect()
    }
}

impl From<&Policy> for StoredPolicy {
    fn from(policy: &Policy) -> Self {
        let Policy { select, ingress, egress } = policy;
        let label = |(key, value): (&String, &String)| Label { key: key.clone(), value: value.clone() };
        let rules = |rules: &Vec<Rule>| rules.iter().map(StoredRule::from).collect();
        Self {
            select: select.iter().map(label).collect(),
            ingress: ingress.as_ref().map(rules),
            egress: egress.as_ref().map(rules),
        }
    }
}

impl TryFrom<StoredPolicy> for Policy {
    type Error = DecodeError;

    fn try_from(stored: StoredPolicy) -> Result<Self, DecodeError> {
        let StoredPolicy { select, ingress, egress } = stored;
        let rules = |rules: Vec<StoredRule>| rules.into_iter().map(Rule::try_from).collect::<Result<_, _>>();
        Ok(Self {
            select: select.into_iter().map(|Label { key, value }| (key, value)).collect(),
            ingress: ingress.map(rules).transpose()?,
            egress: egress.map(rules).transpose()?,
        })
    }
}

impl From<&Rule> for StoredRule {
    fn from(rule: &Rule) -> Self {
        let Rule { peers, ports } = rule;
        let prefix = |net: &IpNet| Prefix { len: net.prefix_len(), ..Prefix::host(net.network()) };
        let peer = |Peer { net, except }: &Peer| StoredPeer {
            net: prefix(net),
            except: except.iter().map(prefix).collect(),
        };
        let of_protocol = |PolicyPorts { protocol, first, last }: &PolicyPorts| StoredPorts {
            protocol: match protocol {
                PolicyProtocol::Tcp => StoredProtocol::Tcp,
                PolicyProtocol::Udp => StoredProtocol::Udp,
                PolicyProtocol::Sctp => StoredProtocol::Sctp,
            },
            first: *first,
            last: *last,
        };
        Self {
            peers: peers.as_ref().map(|peers| peers.iter().map(peer).collect()),
            ports: ports.as_ref().map(|ports| ports.iter().map(of_protocol).collect()),
        }
    }
}

impl TryFrom<StoredRule> for Rule {
    type Error = DecodeError;

    fn try_from(stored: StoredRule) -> Result<Self, DecodeError> {
        let StoredRule { peers, ports } = stored;
        let peer = |StoredPeer { net: of, except }| {
            Ok::<_, DecodeError>(Peer {
                net: net(&of)?,
                except: except.iter().map(net).collect::<Result<_, _>>()?,
            })
        };
        let of_protocol = |StoredPorts { protocol, first, last }| PolicyPorts {
            protocol: match protocol {
                StoredProtocol::Tcp => PolicyProtocol::Tcp,
                StoredProtocol::Udp => PolicyProtocol::Udp,
                StoredProtocol::Sctp => PolicyProtocol::Sctp,
            },
            first,
            last,
        };
        Ok(Self {
            peers: peers.map(|peers| peers.into_iter().map(peer).collect::<Result<_, _>>()).transpose()?,
            ports: ports.map(|ports| ports.into_iter().map(of_protocol).collect()),
        })
    }
}

fn net(prefix: &Prefix) -> Result<IpNet, DecodeError> {
    let net = prefix.parts().and_then(|(addr, len): (IpAddr, u8)| IpNet::new(addr, len).ok());
    net.ok_or_else(|| DecodeError::Malformed("a prefix".to_owned()))
}

#[cfg(test)]
mod tests {
    use meshd_api::Labels;

    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    fn key() -> NetworkKey {
        ("cni".to_owned(), "pods".to_owned())
    }

    fn policies() -> Vec<Policy> {
        let net = |text: &str| text.parse::<IpNet>().expect("a prefix");
        let ports = [PolicyProtocol::Tcp, PolicyProtocol::Udp, PolicyProtocol::Sctp]
            .map(|protocol| PolicyPorts { protocol, first: 80, last: 90 });
        let some = Rule {
            peers: Some(vec![
                Peer { net: net("10.0.0.0/8"), except: vec![net("10.1.0.0/16")] },
                Peer { net: net("fd00::/8"), except: Vec::new() },
            ]),
            ports: Some(ports.into()),
        };
        let none = Rule { peers: Some(Vec::new()), ports: Some([].into()) };
        let all = Rule { peers: None, ports: None };
        let select = Labels::from([("k8s.namespace".to_owned(), "shop".to_owned())]);
        vec![
            Policy { select, ingress: Some(vec![some, none]), egress: Some(Vec::new()) },
            Policy { select: Labels::new(), ingress: None, egress: Some(vec![all]) },
        ]
    }

    #[test]
    fn what_was_stored_is_read_again_by_the_same_node_alone() {
        let dir = tempfile::tempdir().expect("directory");
        let mut file = PoliciesFile::open(dir.path(), NODE).expect("opens");
        file.replace(key(), policies()).expect("stored");
        let again = PoliciesFile::open(dir.path(), NODE).expect("opens");
        assert_eq!(again.networks, BTreeMap::from([(key(), policies())]));
        assert_eq!(again.compiled()[&key()].len(), 2);
        assert!(PoliciesFile::open(dir.path(), NodeId([9; 32])).expect("opens").networks.is_empty());
        forget_policies(dir.path()).expect("removed");
        assert!(PoliciesFile::open(dir.path(), NODE).expect("opens").networks.is_empty());
    }

    #[test]
    fn a_network_without_policies_is_not_remembered() {
        let dir = tempfile::tempdir().expect("directory");
        let mut file = PoliciesFile::open(dir.path(), NODE).expect("opens");
        file.replace(key(), policies()).expect("stored");
        file.replace(key(), Vec::new()).expect("stored");
        assert!(file.compiled().is_empty());
        assert!(PoliciesFile::open(dir.path(), NODE).expect("opens").networks.is_empty());
    }
}
