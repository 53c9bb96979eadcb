//! The kernel's packet filter: one table of ours, `inet meshd`, which nobody else writes.
//!
//! It fails closed. What comes from or goes to an endpoint's link that was not admitted is dropped, and no packet with
//! an address of the overlay enters or leaves the host by another way than the overlay device, also while the daemon
//! is down.

mod ruleset;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use meshd_wire::EndpointId;
use serde_json::Value;

use super::nft::words::counters;
use super::nft::{FirewallError, listed, run};
use ruleset::Element;

pub(super) use ruleset::TABLE;

/// What the table needs to know of this host.
#[derive(Debug, Clone)]
pub struct FirewallSettings {
    /// The overlay device.
    pub device: String,
    /// This node's IPv4 address in the mesh.
    pub addr4: Ipv4Addr,
    /// This node's IPv6 address in the mesh.
    pub addr6: Ipv6Addr,
    /// Prefixes of the mesh.
    pub prefixes: Vec<IpNet>,
    /// UDP port of the tunnels.
    pub underlay_port: u16,
    /// TCP port of stewards and registries.
    pub control_port: u16,
}

/// What one endpoint may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Addresses its packets may come from.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether it reaches what is not in the mesh under the host's address.
    pub has_egress: bool,
}

/// The table as it was installed.
#[derive(Debug)]
pub struct Firewall {
    admitted: BTreeMap<EndpointId, Admission>,
    /// Everything but the endpoints, as the kernel gave it back.
    frame: Vec<Value>,
}

impl Firewall {
    /// Writes the whole table in one transaction, in place of one that is there.
    pub fn install(
        settings: &FirewallSettings,
        admitted: BTreeMap<EndpointId, Admission>,
    ) -> Result<Self, FirewallError> {
        run(&ruleset::table(settings, &elements(&admitted)))?;
        let frame = ruleset::frame(&listed(TABLE)?);
        Ok(Self { admitted, frame })
    }

    /// Takes the table away.
    pub fn uninstall() -> Result<(), FirewallError> {
        run(&ruleset::removal())
    }

    /// Lets an endpoint's packets pass; what it was allowed before ends in the same transaction.
    pub fn admit(&mut self, id: EndpointId, admission: Admission) -> Result<(), FirewallError> {
        self.change(&BTreeMap::from([(id, Some(admission))]))
    }

    /// Isolates an endpoint; it may not be admitted at all.
    pub fn expel(&mut self, id: EndpointId) -> Result<(), FirewallError> {
        self.change(&BTreeMap::from([(id, None)]))
    }

    /// Admits and isolates many endpoints in one transaction: all, or none.
    pub fn change(&mut self, wanted: &BTreeMap<EndpointId, Option<Admission>>) -> Result<(), FirewallError> {
        let (mut gone, mut new) = (BTreeSet::new(), BTreeSet::new());
        for (id, admission) in wanted {
            gone.extend(self.admitted.get(id).into_iter().flat_map(|old| ruleset::elements_of(*id, old)));
            new.extend(admission.iter().flat_map(|admission| ruleset::elements_of(*id, admission)));
        }
        run(&ruleset::change(gone.difference(&new), new.iter()))?;
        for (id, admission) in wanted {
            match admission {
                Some(admission) => self.admitted.insert(*id, admission.clone()),
                None => self.admitted.remove(id),
            };
        }
        Ok(())
    }

    /// Who is admitted.
    pub fn admitted(&self) -> &BTreeMap<EndpointId, Admission> {
        &self.admitted
    }

    /// Reads the table back: one line for each thing that is not as it was written.
    pub fn faults(&self) -> Result<Vec<String>, FirewallError> {
        let listed = listed(TABLE)?;
        let frame = ruleset::frame(&listed);
        let mut faults = Vec::new();
        let missing = self.frame.iter().filter(|item| !frame.contains(item));
        faults.extend(missing.map(|item| format!("missing: {item}")));
        let foreign = frame.iter().filter(|item| !self.frame.contains(item));
        faults.extend(foreign.map(|item| format!("foreign: {item}")));
        if faults.is_empty() && frame != self.frame {
            faults.push("the rules are in another order".to_owned());
        }
        let (wanted, found) = (elements(&self.admitted), ruleset::elements_listed(&listed));
        faults.extend(wanted.difference(&found).map(|element| format!("missing: {element}")));
        faults.extend(found.difference(&wanted).map(|element| format!("foreign: {element}")));
        Ok(faults)
    }

    /// Reads the sets back: one line for each thing that is missing of what an endpoint may do.
    pub fn faults_of(id: EndpointId, admission: &Admission) -> Result<Vec<String>, FirewallError> {
        let found = ruleset::elements_listed(&listed(TABLE)?);
        let wanted = ruleset::elements_of(id, admission);
        Ok(wanted.difference(&found).map(|element| format!("missing: {element}")).collect())
    }

    /// Packets dropped since the table was written, by the reason.
    pub fn drops() -> Result<BTreeMap<String, u64>, FirewallError> {
        Ok(counters(&listed(TABLE)?))
    }
}

fn elements(admitted: &BTreeMap<EndpointId, Admission>) -> BTreeSet<Element> {
    admitted.iter().flat_map(|(id, admission)| ruleset::elements_of(*id, admission)).collect()
}
