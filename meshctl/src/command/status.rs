//! `meshctl status`.

use clap::Args;
use meshd_api::{GetStatus, MeshStatus, NodeStatus, RegistryStatus};

use super::Daemon;
use crate::failure::Failure;
use crate::table::{Facts, Table};
use crate::time;

/// Show this node and its mesh.
#[derive(Debug, Args)]
pub struct Status {}

impl Status {
    /// Asks and prints.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let answer = daemon.client.call(&GetStatus {}).await?;
        daemon.form.answer(&answer, human)
    }
}

fn human(status: &meshd_api::Status) -> String {
    let mut facts = Facts::new();
    facts.fact("daemon", format!("meshd {}, up {}", status.version, time::span(status.uptime_s)));
    facts.fact("membership", status.membership.word());
    if let Some(mesh) = &status.mesh {
        mesh_facts(&mut facts, mesh);
    }
    if let Some(node) = &status.node {
        node_facts(&mut facts, node);
    }
    facts.fact("registry", registry(&status.registry));
    facts.fact("peers", format!("{} of {} connected", status.peers.connected, status.peers.total));
    let mut text = facts.to_text();
    if let Some(mesh) = &status.mesh {
        text.push_str("\n\n");
        text.push_str(&organisations(mesh));
    }
    for warning in &status.warnings {
        text.push_str(&format!("\n\nwarning: {} ({})", warning.message, warning.code));
        if let Some(hint) = &warning.hint {
            text.push_str(&format!("\nhint: {hint}"));
        }
    }
    text
}

/// Facts about the node, for this verb and for those that make it a member.
pub fn node_facts(facts: &mut Facts, node: &NodeStatus) {
    facts.fact("node", format!("{} of {}", node.name, node.org));
    facts.fact("node id", &node.id);
    facts.fact("identity key", &node.identity);
    facts.fact("addresses", format!("{}, {}", node.addr4, node.addr6));
    if let Some(name) = &node.dns_name {
        facts.fact("DNS name", name);
    }
    facts.fact("device", format!("{}, UDP port {}", node.device, node.udp_port));
    if !node.control.is_empty() {
        facts.fact("control", &node.control);
    }
    if !node.roles.is_empty() {
        facts.fact("roles", node.roles.join(", "));
    }
    facts.fact("certificate", format!("until {}", time::utc(node.cert_expires_at)));
}

/// Facts about the mesh, likewise.
pub fn mesh_facts(facts: &mut Facts, mesh: &MeshStatus) {
    facts.fact("mesh", if mesh.lab { format!("{} (laboratory)", mesh.name) } else { mesh.name.clone() });
    facts.fact("mesh id", &mesh.id);
    facts.fact("IPv6 prefix", &mesh.prefix6);
}

fn registry(registry: &RegistryStatus) -> String {
    let mut text = registry.kind.word().to_owned();
    if !registry.endpoints.is_empty() {
        text.push_str(&format!(" at {}", registry.endpoints.join(", ")));
    }
    text.push_str(if registry.connected { ", connected" } else { ", not connected" });
    if let Some(since) = registry.since {
        text.push_str(&format!(" since {}", time::utc(since)));
    }
    text
}

fn organisations(mesh: &MeshStatus) -> String {
    let mut table = Table::new(&["ORGANISATION", "PREFIX", "STATE", "AGE", "ID"]);
    for org in &mesh.organisations {
        table.row(vec![
            org.name.clone(),
            org.prefix4.clone(),
            org.freshness.to_string(),
            org.state_age_s.map_or_else(|| "-".to_owned(), time::span),
            org.id.clone(),
        ]);
    }
    table.to_text()
}
