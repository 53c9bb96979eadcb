//! A pod, as far as policies see it.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use meshd_api::{Labels, PolicyProtocol};

use super::port;

/// Annotation that says that an object only mirrors a pod of a kubelet's own.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Annotation with the id that the kubelet gave to such a pod, and tells the network plugin.
const HASH_ANNOTATION: &str = "kubernetes.io/config.hash";

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its id, as its node tells it to the network plugin.
    pub uid: String,
    /// The node it was put on.
    pub node: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its ports that have names.
    pub ports: Vec<NamedPort>,
    /// Whether it has addresses of its own: not those of its node, and not given back already.
    pub is_endpoint: bool,
}

/// A port with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    name: String,
    protocol: PolicyProtocol,
    port: u16,
}

impl Pod {
    /// Reads what counts of an object.
    pub fn read(pod: &core::Pod) -> Self {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let annotation = |key| pod.metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned();
        let hash = annotation(MIRROR_ANNOTATION).and_then(|_| annotation(HASH_ANNOTATION));
        let has_ended = status
            .and_then(|status| status.phase.as_deref())
            .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
        let is_node = spec.and_then(|spec| spec.host_network).unwrap_or(false);
        Self {
            uid: hash.or_else(|| pod.metadata.uid.clone()).unwrap_or_default(),
            node: spec.and_then(|spec| spec.node_name.clone()),
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            addresses: status.map(addresses).unwrap_or_default(),
            ports: spec.map(named_ports).unwrap_or_default(),
            is_endpoint: !has_ended && !is_node,
        }
    }

    /// The numbers that a port's name has in this pod.
    pub fn ports_named(&self, name: &str, protocol: PolicyProtocol) -> impl Iterator<Item = u16> {
        let named = self.ports.iter().filter(move |port| port.name == name && port.protocol == protocol);
        named.map(|port| port.port)
    }
}

/// All addresses; an old API server tells only the first.
fn addresses(status: &core::PodStatus) -> Vec<IpAddr> {
    let all = status.pod_ips.iter().flatten().map(|one| one.ip.as_str());
    let mut found: Vec<IpAddr> =
        all.chain(status.pod_ip.as_deref()).filter_map(|ip| ip.parse().ok()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Ports of containers that run as long as the pod does.
fn named_ports(spec: &core::PodSpec) -> Vec<NamedPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(NamedPort {
                name: port.name.clone()?,
                protocol: port::protocol(port.protocol.as_deref())?,
                port: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect()
}
