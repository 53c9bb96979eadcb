//! Prometheus metrics: gathered when somebody asks, from the state the event loop owns.

use std::collections::BTreeMap;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of the control plane; those of the data plane are kept by its threads.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records accepted.
    pub records_accepted: u64,
    /// Records refused, by reason.
    pub records_refused: BTreeMap<&'static str, u64>,
    /// Registry keys that no record of this release lives at.
    pub keys_unknown: u64,
    /// Enrolment requests answered, by outcome.
    pub enrolments: BTreeMap<&'static str, u64>,
    /// Times the state could not be stored.
    pub store_failures: u64,
}

/// What is measured at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Nodes known beside this one.
    pub peers_known: u64,
    /// Nodes with a live tunnel.
    pub peers_connected: u64,
    /// Control channels with other nodes.
    pub channels: u64,
    /// Registries that answer, and all.
    pub registries: (u64, u64),
    /// Seconds until the node's certificate expires.
    pub cert_left_s: Option<u64>,
    /// Age of each organisation's state in seconds, by name.
    pub state_age_s: BTreeMap<String, u64>,
    /// Packets dropped by the data plane, by reason.
    pub drops: Vec<(&'static str, u64)>,
    /// Connections to the control port that came to nothing, by reason.
    pub connections: Vec<(&'static str, u64)>,
    /// Trains of packets that went out one by one, because a link refused them.
    pub trains_refused: u64,
    /// Bytes received from and sent to all peers.
    pub bytes: (u64, u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Org {
    org: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: String,
}

/// Writes everything in Prometheus' text format.
pub fn render(counters: &Counters, snapshot: &Snapshot) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("meshd");
    let mut gauge = |name: &str, help: &str, value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    gauge("uptime_seconds", "Seconds since the daemon started", snapshot.uptime_s);
    gauge("peers_known", "Other nodes known", snapshot.peers_known);
    gauge("peers_connected", "Other nodes with a live tunnel", snapshot.peers_connected);
    gauge("channels", "Control channels with other nodes", snapshot.channels);
    gauge("registries_connected", "Registries that answer", snapshot.registries.0);
    gauge("registries", "Registries in use", snapshot.registries.1);
    if let Some(left) = snapshot.cert_left_s {
        gauge("certificate_left_seconds", "Seconds until the node's certificate expires", left);
    }
    let ages = Family::<Org, Gauge>::default();
    for (org, age) in &snapshot.state_age_s {
        let org = Org { org: org.clone() };
        ages.get_or_create(&org).set(i64::try_from(*age).unwrap_or(i64::MAX));
    }
    registry.register("org_state_age_seconds", "Age of an organisation's signed state", ages);

    let mut counter = |name: &str, help: &str, value: u64| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    counter("records_accepted", "Records accepted", counters.records_accepted);
    counter("registry_keys_unknown", "Registry keys without a place for them", counters.keys_unknown);
    counter("store_failures", "Times the state could not be stored", counters.store_failures);
    counter("received_bytes", "Bytes received through tunnels", snapshot.bytes.0);
    counter("sent_bytes", "Bytes sent through tunnels", snapshot.bytes.1);
    counter("trains_refused", "Trains of packets that a link refused", snapshot.trains_refused);

    let drops = Family::<Reason, Counter>::default();
    for (reason, count) in &snapshot.drops {
        drops.get_or_create(&Reason { reason: (*reason).to_owned() }).inc_by(*count);
    }
    registry.register("packets_dropped", "Packets dropped, by reason", drops);
    let connections = Family::<Reason, Counter>::default();
    for (reason, count) in &snapshot.connections {
        connections.get_or_create(&Reason { reason: (*reason).to_owned() }).inc_by(*count);
    }
    let help = "Connections to the control port that came to nothing, by reason";
    registry.register("connections_dropped", help, connections);
    let refused = Family::<Reason, Counter>::default();
    for (reason, count) in &counters.records_refused {
        refused.get_or_create(&Reason { reason: (*reason).to_owned() }).inc_by(*count);
    }
    registry.register("records_refused", "Records refused, by reason", refused);
    let enrolments = Family::<Outcome, Counter>::default();
    for (outcome, count) in &counters.enrolments {
        enrolments.get_or_create(&Outcome { outcome: (*outcome).to_owned() }).inc_by(*count);
    }
    registry.register("enrolments", "Enrolment requests answered, by outcome", enrolments);

    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_line() {
        let mut counters = Counters { records_accepted: 3, ..Counters::default() };
        counters.records_refused.insert("bad-signature", 2);
        let snapshot = Snapshot {
            drops: vec![("bad-source", 7)],
            connections: vec![("handshake-late", 4)],
            trains_refused: 5,
            ..Snapshot::default()
        };
        let text = render(&counters, &snapshot).expect("renders");
        for line in [
            "meshd_records_accepted_total 3",
            "meshd_records_refused_total{reason=\"bad-signature\"} 2",
            "meshd_packets_dropped_total{reason=\"bad-source\"} 7",
            "meshd_connections_dropped_total{reason=\"handshake-late\"} 4",
            "meshd_trains_refused_total 5",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
        }
    }
}
