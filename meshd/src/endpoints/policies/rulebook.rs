//! What holds for the endpoints of this host now.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshd_api::{Attachment, Labels};

use super::{Compiled, NetworkKey};
use crate::os::{Apart, Restriction};

/// Everything that endpoints are judged by. It is replaced as a whole.
#[derive(Debug, Default)]
pub struct Rulebook {
    /// Networks that keep to themselves.
    pub apart: Apart,
    /// Networks whose endpoints may be restricted.
    pub networks: BTreeMap<NetworkKey, Ruled>,
}

/// What holds for one network.
#[derive(Debug, Default)]
pub struct Ruled {
    /// Whether an endpoint that no policy selects is isolated.
    pub is_policed: bool,
    /// Its policies.
    pub policies: Arc<Vec<Compiled>>,
}

impl Rulebook {
    /// What restricts an endpoint; nothing, if nothing does.
    pub fn restriction(&self, attachment: &Attachment, labels: &Labels) -> Option<Restriction> {
        if attachment.network.is_empty() {
            return self.rules_some_of(&attachment.runtime).then(Restriction::isolated);
        }
        let ruled = self.ruled(attachment)?;
        let mut selecting = ruled.policies.iter().filter(|policy| policy.selects(labels)).peekable();
        if selecting.peek().is_none() {
            return ruled.is_policed.then(Restriction::isolated);
        }
        let mut restriction = Restriction::default();
        for policy in selecting {
            let sides =
                [(&policy.ingress, &mut restriction.ingress), (&policy.egress, &mut restriction.egress)];
            for (allowance, side) in sides {
                if let Some(allowance) = allowance {
                    side.get_or_insert_default().push(Arc::clone(allowance));
                }
            }
        }
        (restriction.ingress.is_some() || restriction.egress.is_some()).then_some(restriction)
    }

    /// Whether a policy selects an endpoint.
    pub fn selects(&self, attachment: &Attachment, labels: &Labels) -> bool {
        self.ruled(attachment).is_some_and(|ruled| ruled.policies.iter().any(|policy| policy.selects(labels)))
    }

    /// Whether this one says the same as another one.
    pub fn is_as(&self, other: &Self) -> bool {
        let is_same = |((one_key, one), (other_key, other)): ((_, &Ruled), (_, &Ruled))| {
            one_key == other_key
                && one.is_policed == other.is_policed
                && Arc::ptr_eq(&one.policies, &other.policies)
        };
        self.apart == other.apart
            && self.networks.len() == other.networks.len()
            && self
                .networks
                .iter()
                .zip(&other.networks)
                .all(|(one, other): ((&NetworkKey, _), (&NetworkKey, _))| is_same((one, other)))
    }

    /// Whether a network of a runtime restricts. An endpoint that was taken over after the state was lost may be of that
    /// one: nobody knows until its network is said again.
    fn rules_some_of(&self, runtime: &str) -> bool {
        let of_runtime = self.networks.iter().filter(|((of, _), _)| of == runtime);
        of_runtime.into_iter().any(|(_, ruled)| ruled.is_policed || !ruled.policies.is_empty())
    }

    fn ruled(&self, attachment: &Attachment) -> Option<&Ruled> {
        self.networks.get(&(attachment.runtime.clone(), attachment.network.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::policies::{Policy, Rule};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn attachment(network: &str) -> Attachment {
        Attachment {
            runtime: "cni".into(),
            network: network.into(),
            container: "c".into(),
            ifname: "eth0".into(),
        }
    }

    fn rulebook(is_policed: bool, policies: &[Policy]) -> Rulebook {
        let ruled = Ruled { is_policed, policies: Compiled::of(policies) };
        Rulebook {
            networks: BTreeMap::from([(("cni".to_owned(), "pods".to_owned()), ruled)]),
            ..Rulebook::default()
        }
    }

    fn policy(select: &[(&str, &str)], ingress: Option<Vec<Rule>>, egress: Option<Vec<Rule>>) -> Policy {
        Policy { select: labels(select), ingress, egress }
    }

    /// How many policies allow something, by direction.
    fn counts(restriction: Option<Restriction>) -> Option<(Option<usize>, Option<usize>)> {
        let of = |side: Option<Vec<_>>| side.map(|one| one.len());
        restriction.map(|Restriction { ingress, egress }| (of(ingress), of(egress)))
    }

    #[test]
    fn an_endpoint_of_an_unknown_network_is_isolated_where_its_runtime_restricts_any() {
        let none = Labels::new();
        let closed = [policy(&[("ns", "shop")], Some(Vec::new()), None)];
        for book in [rulebook(true, &[]), rulebook(false, &closed)] {
            assert_eq!(counts(book.restriction(&attachment(""), &none)), Some((Some(0), Some(0))));
        }
        assert_eq!(counts(rulebook(false, &[]).restriction(&attachment(""), &none)), None);
        let foreign = Attachment { runtime: "docker".into(), ..attachment("") };
        assert_eq!(counts(rulebook(true, &closed).restriction(&foreign, &none)), None);
    }

    #[test]
    fn an_endpoint_may_do_what_any_policy_allows_that_selects_it() {
        let any = || Some(vec![Rule { peers: None, ports: None }]);
        let book = rulebook(
            false,
            &[
                policy(&[("ns", "shop")], Some(Vec::new()), None),
                policy(&[("ns", "shop"), ("app", "db")], any(), any()),
                policy(&[("ns", "bank")], any(), any()),
                policy(&[("app", "free")], None, None),
            ],
        );
        let of = |pairs: &[(&str, &str)]| counts(book.restriction(&attachment("pods"), &labels(pairs)));
        assert_eq!(of(&[("ns", "shop")]), Some((Some(1), None)));
        assert_eq!(of(&[("ns", "shop"), ("app", "db"), ("x", "y")]), Some((Some(2), Some(1))));
        assert_eq!(of(&[("app", "db")]), None);
        assert_eq!(of(&[("app", "free")]), None);
        assert_eq!(counts(book.restriction(&attachment("other"), &labels(&[("ns", "shop")]))), None);
        assert!(book.selects(&attachment("pods"), &labels(&[("ns", "shop")])));
        assert!(!book.selects(&attachment("pods"), &labels(&[("ns", "sho")])));
    }

    #[test]
    fn where_policies_are_required_an_endpoint_without_one_is_isolated() {
        let book = rulebook(true, &[policy(&[("app", "free")], None, None)]);
        let of = |pairs: &[(&str, &str)]| counts(book.restriction(&attachment("pods"), &labels(pairs)));
        assert_eq!(of(&[]), Some((Some(0), Some(0))));
        assert_eq!(of(&[("app", "free")]), None);
    }
}
