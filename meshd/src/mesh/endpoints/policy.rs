//! What endpoints may do: as it is said, and as the networks and the mesh make it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use meshd_api::{ApiError, ErrorCode, PoliciesReply, Policing, Reach, SetPoliciesRequest};

use super::{Mesh, wiring_failed};
use crate::control::Answer;
use crate::endpoints::{
    Compiled, Entry, NETWORKS_MAX, Pools, Report, Rulebook, Ruled, Wiring, WiringError, judge_policies,
};
use crate::os::Apart;

impl Mesh {
    /// Sets the policies of a network: stored first, then in force, then answered.
    pub fn set_policies(&mut self, request: SetPoliciesRequest, answer: Answer<PoliciesReply>) {
        let stored = judge_policies(request).and_then(|(key, policies)| {
            let known = self.endpoints.policies.compiled();
            if !known.contains_key(&key) && known.len() >= NETWORKS_MAX {
                let error = format!("this node has policies of {NETWORKS_MAX} networks, and no more fit");
                return Err(ApiError::new(ErrorCode::TooMany, error));
            }
            // Judged before it is stored: what can't hold would keep everything else from holding, too.
            if let Some(wiring) = &self.endpoints.wiring {
                let mut rulebook = self.rulebook();
                rulebook.networks.entry(key.clone()).or_default().policies = Compiled::of(&policies);
                wiring.policies().fits(&rulebook).map_err(|error| {
                    ApiError::new(ErrorCode::TooMany, "the policies are too heavy for this host")
                        .with_cause(crate::chain::of(&error))
                })?;
            }
            let replaced = self.endpoints.policies.replace(key.clone(), policies);
            replaced.map_err(|error| {
                ApiError::new(ErrorCode::StorageFailed, "the policies can't be stored")
                    .with_cause(crate::chain::of(&error))
            })?;
            Ok(key)
        });
        let (runtime, network) = match stored {
            Ok(key) => key,
            Err(error) => return answer.send(Err(error)),
        };
        let rulebook = self.rulebook();
        let entries = &self.endpoints.file.content().entries;
        let of_network = entries
            .iter()
            .filter(|entry| (&entry.attachment.runtime, &entry.attachment.network) == (&runtime, &network));
        let selected = of_network.filter(|entry| rulebook.selects(&entry.attachment, &entry.labels));
        let endpoints = selected.count();
        self.enforce_then(Vec::new(), move |enforced| {
            answer.send(enforced.map(|()| PoliciesReply { endpoints }));
        });
    }

    /// Makes what is said now hold, also for endpoints that are judged by something else from now on, and tells then
    /// that it does.
    pub(super) fn enforce_then(
        &mut self,
        changed: Vec<Entry>,
        tell: impl FnOnce(Result<(), ApiError>) + Send + 'static,
    ) {
        let Some(wiring) = self.endpoints.wiring.clone() else {
            // Nothing is attached that could be restricted; what comes finds it.
            return tell(Ok(()));
        };
        let rulebook = self.rulebook();
        if !rulebook.is_as(&wiring.policies().rulebook()) {
            wiring.policies().replace(rulebook);
        }
        changed.iter().for_each(|entry| wiring.policies().say(entry));
        let effect = move |wiring: &Wiring| {
            let result = wiring.policies().regard(&changed).map_err(WiringError::Policies);
            Report::Ruled { result, tell: Box::new(tell) }
        };
        self.endpoints.run(&wiring, effect, None);
    }

    pub(super) fn on_ruled(
        result: Result<(), WiringError>,
        tell: impl FnOnce(Result<(), ApiError>) + Send + 'static,
    ) {
        tell(result.map_err(|error| {
            tracing::warn!(error = crate::chain::of(&error), "policies are stored and not in force");
            wiring_failed(&error)
        }));
    }

    /// Lets the rules of endpoints follow what networks say of themselves, and who is in the mesh.
    pub(in crate::mesh) fn rules_may_have_changed(&mut self) {
        let Some(wiring) = self.endpoints.wiring.clone() else { return };
        let rulebook = self.rulebook();
        if rulebook.is_as(&wiring.policies().rulebook()) {
            return;
        }
        wiring.policies().replace(rulebook);
        self.repair(|wiring| wiring.policies().enforce().map_err(WiringError::Policies));
    }

    pub(super) fn rulebook(&self) -> Rulebook {
        let compiled = self.endpoints.policies.compiled();
        let mut networks: BTreeMap<_, Ruled> = BTreeMap::new();
        for (key, policies) in compiled {
            networks.entry(key.clone()).or_default().policies = policies.clone();
        }
        let mut pools = BTreeSet::new();
        for network in &self.endpoints.file.content().networks {
            match network.policy {
                Policing::Optional => {}
                Policing::Required => {
                    let key = (network.runtime.clone(), network.network.clone());
                    networks.entry(key).or_default().is_policed = true;
                }
            }
            match network.reach {
                Reach::Mesh => {}
                // Judged when it came.
                Reach::Network => {
                    pools.extend(Pools::of(network).map(|pools| pools.nets).unwrap_or_default())
                }
            }
        }
        let apart = if pools.is_empty() {
            Apart::default()
        } else {
            Apart { own: self.scope().own, nodes: self.node_addresses(), pools }
        };
        Rulebook { apart, networks }
    }

    /// Addresses of the organisation's nodes.
    fn node_addresses(&self) -> BTreeSet<IpAddr> {
        let own = self.roster.nodes().filter(|view| view.org() == self.membership.org);
        own.flat_map(|view| [IpAddr::from(view.cert().ipv4()), view.cert().ipv6().into()]).collect()
    }
}
