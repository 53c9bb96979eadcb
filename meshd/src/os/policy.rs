//! What endpoints may do beyond being themselves: a second table of ours, `inet meshd_policy`.
//!
//! Every hop of an endpoint passes the host's forward hook, wherever its other side is, so that everything is judged
//! here, and at this place alone. What its own node sends and receives does not pass it.
//!
//! ```text
//! apart     addresses of pools that keep to themselves ─▶ the other side is one of the pool, a node, or elsewhere
//! leaving   link, direction of the connection ─▶ endpoint's chain ─▶ what each policy allows ─▶ accept, or drop
//! reaching  the same for the link that a packet leaves by
//! ```
//!
//! Packets are judged by their connection each time, so a change cuts those that are not allowed any more, and no
//! others. What is not the connection's, but an error about it, is judged as the connection is.

mod allowance;
mod ranges;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use meshd_wire::EndpointId;

use super::nft::words::{counters, removal};
use super::nft::{FirewallError, listed, run};
use table::Table;

pub(super) use table::TABLE;

pub use allowance::{Allowance, Direction, Permit};
pub use ranges::Ranges;

/// Rules and elements of the table: more would take the kernel seconds to change.
const WEIGHT_MAX: usize = 262_144;
/// Rules of one endpoint that one packet meets at most: so many take tens of microseconds, as long as all the rest of
/// its way.
const RULES_MET_MAX: usize = 4096;

/// What restricts one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Restriction {
    /// What others may open to it: what any of these allows; not restricted if there is none.
    pub ingress: Option<Vec<Arc<Allowance>>>,
    /// What it may open.
    pub egress: Option<Vec<Arc<Allowance>>>,
}

impl Restriction {
    /// Nothing but its node.
    pub fn isolated() -> Self {
        Self { ingress: Some(Vec::new()), egress: Some(Vec::new()) }
    }
}

/// Networks that keep to themselves within their organisation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apart {
    /// Prefixes of the organisation.
    pub own: Vec<IpNet>,
    /// Addresses of its nodes, which everybody may reach.
    pub nodes: BTreeSet<IpAddr>,
    /// Pools of those networks.
    pub pools: BTreeSet<IpNet>,
}

/// The table as it was written.
#[derive(Debug)]
pub struct PolicyTable {
    written: Table,
    /// Fingerprints of the chains, as far as they were looked at.
    seen: BTreeMap<String, u64>,
}

impl PolicyTable {
    /// Writes the whole table in one transaction, in place of one that is there.
    pub fn install(
        apart: &Apart,
        restricted: &BTreeMap<EndpointId, Restriction>,
    ) -> Result<Self, FirewallError> {
        let written = bounded(Table::new(apart, restricted))?;
        run(&written.whole())?;
        Ok(Self { written, seen: BTreeMap::new() })
    }

    /// Whether a table is small enough to be written.
    pub fn fits(apart: &Apart, restricted: &BTreeMap<EndpointId, Restriction>) -> Result<(), FirewallError> {
        bounded(Table::new(apart, restricted)).map(drop)
    }

    /// Who has to be isolated so that all others can be written: the heaviest ones.
    pub fn too_heavy(apart: &Apart, restricted: &BTreeMap<EndpointId, Restriction>) -> BTreeSet<EndpointId> {
        // Isolated endpoints are never lighter in anything but their chains.
        let isolated = restricted.keys().map(|id| (*id, Restriction::isolated())).collect();
        let mut all = Table::new(apart, &isolated);
        let alone = |(id, one): (&EndpointId, &Restriction)| {
            (*id, Table::new(&Apart::default(), &BTreeMap::from([(*id, one.clone())])))
        };
        let mut by_weight: Vec<(EndpointId, Table)> = restricted.iter().map(alone).collect();
        by_weight.sort_by_key(|(id, table)| (table.weight(), *id));
        let mut weight = all.weight();
        let mut heavy = BTreeSet::new();
        for (id, table) in by_weight {
            let beside = table.weight_beside(&all);
            if table.met_max() > RULES_MET_MAX || weight + beside > WEIGHT_MAX {
                heavy.insert(id);
            } else {
                weight += beside;
                all.take_chains(table);
            }
        }
        heavy
    }

    /// Changes what differs, in one transaction; if that fails, all is as it was.
    pub fn change(
        &mut self,
        apart: &Apart,
        restricted: &BTreeMap<EndpointId, Restriction>,
    ) -> Result<(), FirewallError> {
        let new = bounded(Table::new(apart, restricted))?;
        run(&self.written.change(&new))?;
        self.seen.retain(|name, _| new.has_always(name));
        self.written = new;
        Ok(())
    }

    /// Takes the table away.
    pub fn uninstall() -> Result<(), FirewallError> {
        run(&removal(TABLE))
    }

    /// Reads the table back: one line for each thing that is not as it was written.
    pub fn faults(&mut self) -> Result<Vec<String>, FirewallError> {
        let listed = listed(TABLE)?;
        let mut faults = self.written.faults(&listed);
        let now = table::fingerprints(&listed);
        let is_other = |(name, seen): &(&String, &u64)| now.get(*name) != Some(*seen);
        faults.extend(self.seen.iter().filter(is_other).map(|(name, _)| format!("other rules in {name}")));
        if faults.is_empty() {
            self.seen = now;
        }
        Ok(faults)
    }

    /// Packets dropped since the table was written, by the reason.
    pub fn drops() -> Result<BTreeMap<String, u64>, FirewallError> {
        Ok(counters(&listed(TABLE)?))
    }
}

fn bounded(table: Table) -> Result<Table, FirewallError> {
    let (weight, met) = (table.weight(), table.met_max());
    if weight > WEIGHT_MAX {
        return Err(FirewallError::TooMany { weight, max: WEIGHT_MAX });
    }
    if met > RULES_MET_MAX {
        return Err(FirewallError::TooLong { met, max: RULES_MET_MAX });
    }
    Ok(table)
}
