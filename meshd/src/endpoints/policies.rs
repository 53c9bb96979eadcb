//! What endpoints of this host may do, as those say who know what the endpoints are for.
//!
//! ```text
//! request ─judge─▶ Policy ─stored─▶ Compiled ─with options of networks─▶ Rulebook ─of each endpoint─▶ Enforcement
//! ```

mod compiled;
mod enforcement;
mod file;
mod rulebook;

use std::collections::BTreeSet;

use ipnet::IpNet;
use meshd_api::{
    ApiError, EndpointPolicy, ErrorCode, Labels, POLICIES_MAX, POLICY_EXCEPT_MAX, POLICY_LABELS_MAX,
    POLICY_PEERS_MAX, POLICY_PORTS_MAX, POLICY_RULES_MAX, PolicyPeer, PolicyPorts, PolicyRule,
    SetPoliciesRequest,
};

use super::networks::{judge_word, read};

pub use compiled::Compiled;
pub use enforcement::Enforcement;
pub use file::{PoliciesFile, forget_policies};
pub use rulebook::{Rulebook, Ruled};

/// A network, as its runtime and the name there say it.
pub type NetworkKey = (String, String);

/// A policy that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Labels that an endpoint has to have.
    pub select: Labels,
    /// What others may open to it.
    pub ingress: Option<Vec<Rule>>,
    /// What it may open.
    pub egress: Option<Vec<Rule>>,
}

/// One rule of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Everybody, if there are none.
    pub peers: Option<Vec<Peer>>,
    /// Everything, if there are none.
    pub ports: Option<BTreeSet<PolicyPorts>>,
}

/// Addresses on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// These.
    pub net: IpNet,
    /// But for those.
    pub except: Vec<IpNet>,
}

/// Reads what was asked for; what makes no sense is refused as a whole, so that nothing is open that was meant not
/// to be.
pub fn judge_policies(request: SetPoliciesRequest) -> Result<(NetworkKey, Vec<Policy>), ApiError> {
    let SetPoliciesRequest { runtime, network, policies } = request;
    judge_word("runtime", &runtime)?;
    judge_word("network", &network)?;
    bounded("policies", policies.len(), POLICIES_MAX)?;
    let policies = policies.into_iter().map(policy).collect::<Result<_, _>>()?;
    Ok(((runtime, network), policies))
}

fn policy(policy: EndpointPolicy) -> Result<Policy, ApiError> {
    let EndpointPolicy { select, ingress, egress } = policy;
    bounded("labels to select by", select.len(), POLICY_LABELS_MAX)?;
    for (key, value) in &select {
        judge_word("label", key)?;
        judge_word("label", value)?;
    }
    let direction = |rules: Option<Vec<PolicyRule>>| {
        let Some(rules) = rules else { return Ok(None) };
        bounded("rules", rules.len(), POLICY_RULES_MAX)?;
        rules.into_iter().map(rule).collect::<Result<Vec<_>, ApiError>>().map(Some)
    };
    Ok(Policy { select, ingress: direction(ingress)?, egress: direction(egress)? })
}

fn rule(rule: PolicyRule) -> Result<Rule, ApiError> {
    let PolicyRule { peers, ports } = rule;
    bounded("peers", peers.as_ref().map_or(0, Vec::len), POLICY_PEERS_MAX)?;
    bounded("ports", ports.as_ref().map_or(0, Vec::len), POLICY_PORTS_MAX)?;
    let peers = peers.map(|peers| peers.into_iter().map(peer).collect::<Result<_, _>>()).transpose()?;
    if let Some(PolicyPorts { first, last, .. }) =
        ports.iter().flatten().find(|ports| ports.first > ports.last)
    {
        return Err(bad(format!("ports {first} to {last} are none")));
    }
    Ok(Rule { peers, ports: ports.map(BTreeSet::from_iter) })
}

fn peer(peer: PolicyPeer) -> Result<Peer, ApiError> {
    let PolicyPeer { net, except } = peer;
    bounded("exceptions", except.len(), POLICY_EXCEPT_MAX)?;
    let except = except.iter().map(|text| Ok(read(text)?.trunc())).collect::<Result<_, ApiError>>()?;
    Ok(Peer { net: read(&net)?.trunc(), except })
}

fn bounded(what: &str, count: usize, max: usize) -> Result<(), ApiError> {
    if count <= max {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::TooMany, format!("{count} {what}, where {max} fit")))
}

fn bad(error: String) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, error)
}

#[cfg(test)]
mod tests {
    use meshd_api::PolicyProtocol;

    use super::*;

    fn request(rule: PolicyRule) -> SetPoliciesRequest {
        let policy = EndpointPolicy { select: Labels::new(), ingress: Some(vec![rule]), egress: None };
        SetPoliciesRequest { runtime: "cni".into(), network: "pods".into(), policies: vec![policy] }
    }

    fn peers(net: &str, except: &[&str]) -> PolicyRule {
        let except = except.iter().map(|text| (*text).to_owned()).collect();
        PolicyRule { peers: Some(vec![PolicyPeer { net: net.to_owned(), except }]), ports: None }
    }

    fn refused(request: SetPoliciesRequest) -> ErrorCode {
        judge_policies(request).expect_err("refused").code
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [peers("10.0.0.0", &[]), peers("10.0.0.0/33", &[]), peers("10.0.0.0/8", &["ten"])] {
            assert_eq!(refused(request(wrong)), ErrorCode::BadRequest);
        }
        let turned = PolicyPorts { protocol: PolicyProtocol::Tcp, first: 81, last: 80 };
        let turned = PolicyRule { peers: None, ports: Some(vec![turned]) };
        assert_eq!(refused(request(turned)), ErrorCode::BadRequest);
        let nameless = SetPoliciesRequest { network: String::new(), ..request(PolicyRule::default()) };
        assert_eq!(refused(nameless), ErrorCode::BadRequest);
    }

    #[test]
    fn more_than_fits_is_refused() {
        let peer = PolicyPeer { net: "10.0.0.0/8".into(), except: Vec::new() };
        let many = vec!["10.1.0.0/16"; POLICY_EXCEPT_MAX + 1];
        let ports = PolicyPorts { protocol: PolicyProtocol::Udp, first: 1, last: 1 };
        let mut wide = request(PolicyRule::default());
        wide.policies = vec![wide.policies[0].clone(); POLICIES_MAX + 1];
        let mut long = request(PolicyRule::default());
        long.policies[0].egress = Some(vec![PolicyRule::default(); POLICY_RULES_MAX + 1]);
        let mut picky = request(PolicyRule::default());
        picky.policies[0].select = (0..=POLICY_LABELS_MAX).map(|n| (n.to_string(), "x".to_owned())).collect();
        for many in [
            request(peers("10.0.0.0/8", &many)),
            request(PolicyRule { peers: Some(vec![peer; POLICY_PEERS_MAX + 1]), ports: None }),
            request(PolicyRule { peers: None, ports: Some(vec![ports; POLICY_PORTS_MAX + 1]) }),
            wide,
            long,
            picky,
        ] {
            assert_eq!(refused(many), ErrorCode::TooMany);
        }
    }

    #[test]
    fn a_host_of_a_prefix_means_the_prefix() {
        let (key, policies) = judge_policies(request(peers("10.0.0.7/8", &["10.1.2.3/16"]))).expect("judged");
        assert_eq!(key, ("cni".to_owned(), "pods".to_owned()));
        let rules = policies[0].ingress.as_ref().expect("restricted");
        let peer = &rules[0].peers.as_ref().expect("peers")[0];
        assert_eq!(
            (peer.net.to_string(), peer.except[0].to_string()),
            ("10.0.0.0/8".into(), "10.1.0.0/16".into())
        );
    }
}
