//! A network policy.

use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};

use super::rule::Rule;
use super::selector::Selector;

/// A network policy. Whatever can't be read of one makes it stricter, never laxer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Pods of its namespace that it is about.
    pub subject: Selector,
    /// What may come to them, if it restricts that.
    pub ingress: Option<Vec<Rule>>,
    /// What may come from them, if it restricts that.
    pub egress: Option<Vec<Rule>>,
    /// What could not be read.
    pub faults: Vec<String>,
}

impl Policy {
    /// Reads an object.
    pub fn read(policy: &NetworkPolicy) -> Self {
        let nothing = NetworkPolicySpec::default();
        let spec = policy.spec.as_ref().unwrap_or(&nothing);
        let mut faults = Vec::new();
        let (is_ingress, is_egress) = directions(spec, &mut faults);
        let subject = spec.pod_selector.as_ref().map_or(Ok(Selector::default()), Selector::read);
        let subject = subject.unwrap_or_else(|fault| {
            faults.push(fault);
            Selector::default()
        });
        let ingress = spec.ingress.iter().flatten();
        let ingress: Vec<Rule> =
            ingress.map(|rule| Rule::read(rule.from.as_ref(), rule.ports.as_ref(), &mut faults)).collect();
        let egress = spec.egress.iter().flatten();
        let egress: Vec<Rule> =
            egress.map(|rule| Rule::read(rule.to.as_ref(), rule.ports.as_ref(), &mut faults)).collect();
        Self { subject, ingress: is_ingress.then_some(ingress), egress: is_egress.then_some(egress), faults }
    }
}

/// Which directions are restricted. The API server fills the types in; a file may lack them.
fn directions(spec: &NetworkPolicySpec, faults: &mut Vec<String>) -> (bool, bool) {
    let types = spec.policy_types.iter().flatten();
    let mut found = (false, false);
    let mut is_absent = true;
    for kind in types {
        is_absent = false;
        match kind.as_str() {
            "Ingress" => found.0 = true,
            "Egress" => found.1 = true,
            other => {
                faults.push(format!("unknown policy type {other:?}"));
                found = (true, true);
            }
        }
    }
    if is_absent { (true, spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())) } else { found }
}
