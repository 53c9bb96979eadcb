//! The result of ADD, as the version asked for has it, and what an earlier one says.

use std::net::IpAddr;

use meshd_api::Endpoint;
use serde_json::{Map, Value, json};

use crate::configuration::Dns;
use crate::document::Object;
use crate::failure::Failure;
use crate::version::Version;

/// What a plugin before this one made, to be handed on.
#[derive(Debug, Clone, Default)]
pub struct Previous {
    fields: Map<String, Value>,
    interfaces: Vec<Value>,
    ips: Vec<Value>,
    routes: Vec<Value>,
}

impl Previous {
    /// Reads `prevResult`; none if this plugin is the first.
    pub fn read(root: &Object<'_>) -> Result<Option<Self>, Failure> {
        let Some(object) = root.object("prevResult")? else { return Ok(None) };
        let list = |key| Ok::<_, Failure>(object.list(key)?.unwrap_or_default().to_vec());
        Ok(Some(Self {
            fields: object.entries().map(|(key, value)| (key.to_owned(), value.clone())).collect(),
            interfaces: list("interfaces")?,
            ips: list("ips")?,
            routes: list("routes")?,
        }))
    }

    /// Whether somebody else made the default route.
    pub fn has_default_route(&self) -> bool {
        let destinations = self.routes.iter().filter_map(|route| route.get("dst")?.as_str());
        destinations.into_iter().any(|destination| destination.ends_with("/0"))
    }

    /// What this earlier result says otherwise than the endpoint is, one line each.
    pub fn differences(&self, endpoint: &Endpoint, ifname: &str, sandbox: &str) -> Vec<String> {
        let mut found = Vec::new();
        let inside =
            |interface: &&Value| text(interface, "name") == ifname && !text(interface, "sandbox").is_empty();
        let Some(at) = self.interfaces.iter().position(|interface| inside(&interface)) else {
            return vec![format!("prevResult has no interface {ifname} in a container")];
        };
        if let Some(interface) = self.interfaces.get(at) {
            if text(interface, "sandbox") != sandbox {
                found.push(format!(
                    "prevResult has {ifname} in {}, not in {sandbox}",
                    text(interface, "sandbox")
                ));
            }
            found.extend(other_mac(interface, ifname, &endpoint.container_mac));
        }
        let host = self.interfaces.iter().find(|interface| text(interface, "name") == endpoint.host_link);
        match host {
            Some(interface) => found.extend(other_mac(interface, &endpoint.host_link, &endpoint.host_mac)),
            None => found.push(format!("prevResult has no interface {}", endpoint.host_link)),
        }
        let listed: Vec<&str> = self
            .ips
            .iter()
            .filter(|ip| ip.get("interface").and_then(Value::as_u64).is_none_or(|index| index == at as u64))
            .map(|ip| text(ip, "address"))
            .collect();
        let actual: Vec<String> = endpoint.addresses.iter().map(host_prefix).collect();
        let missing = actual.iter().filter(|address| !listed.contains(&address.as_str()));
        found.extend(missing.map(|address| format!("prevResult has no address {address}")));
        let foreign = listed.iter().filter(|address| !actual.iter().any(|one| one == *address));
        found.extend(foreign.map(|address| format!("{ifname} has no address {address}")));
        found
    }
}

fn other_mac(interface: &Value, name: &str, mac: &str) -> Option<String> {
    let said = text(interface, "mac");
    let differs = !said.is_empty() && !said.eq_ignore_ascii_case(mac);
    differs.then(|| format!("{name} has the MAC address {mac}, not {said}"))
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Tells an endpoint as a result, behind what came before.
pub fn result(
    version: Version,
    endpoint: &Endpoint,
    ifname: &str,
    sandbox: &str,
    dns: &Dns,
    previous: Option<Previous>,
) -> Value {
    let Previous { mut fields, mut interfaces, mut ips, mut routes } = previous.unwrap_or_default();
    let host_at = interfaces.len();
    let mut host = json!({"name": endpoint.host_link, "mac": endpoint.host_mac});
    let mut inside = json!({"name": ifname, "mac": endpoint.container_mac, "sandbox": sandbox});
    if version.tells_mtu() {
        host["mtu"] = endpoint.mtu.into();
        inside["mtu"] = endpoint.mtu.into();
    }
    interfaces.extend([host, inside]);
    let gateway = |is_ipv4| endpoint.gateways.iter().find(|gateway| gateway.is_ipv4() == is_ipv4);
    for address in &endpoint.addresses {
        let mut ip = json!({"address": host_prefix(address), "interface": host_at + 1});
        if let Some(gateway) = gateway(address.is_ipv4()) {
            ip["gateway"] = gateway.to_string().into();
        }
        if version.tells_family() {
            ip["version"] = if address.is_ipv4() { "4" } else { "6" }.into();
        }
        ips.push(ip);
    }
    for prefix in &endpoint.routes {
        let mut route = json!({"dst": prefix});
        if let Some(gateway) = gateway(!prefix.contains(':')) {
            route["gw"] = gateway.to_string().into();
        }
        routes.push(route);
    }
    let has_dns = fields.get("dns").and_then(Value::as_object).is_some_and(|dns| !dns.is_empty());
    if !has_dns {
        fields.insert("dns".to_owned(), dns.document());
    }
    fields.insert("cniVersion".to_owned(), version.text().into());
    for (key, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
        fields.insert(key.to_owned(), list.into());
    }
    fields.into()
}

fn host_prefix(address: &IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}
