//! Holds endpoints to the rulebook.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use meshd_api::{Attachment, Labels};
use meshd_wire::EndpointId;

use super::Rulebook;
use crate::chain;
use crate::endpoints::entry::{Entry, Stage};
use crate::os::{Apart, FirewallError, PolicyTable, Restriction};

/// The rulebook as it shall be, and the table as it is.
pub struct Enforcement {
    rulebook: ArcSwap<Rulebook>,
    /// Endpoints whose policies are too heavy: they have none, and do nothing.
    isolated: ArcSwap<BTreeSet<EndpointId>>,
    /// What endpoints are judged by, as it was said last. Effects may overtake each other, so each takes this.
    said: Mutex<BTreeMap<EndpointId, Held>>,
    enforced: Mutex<Enforced>,
}

struct Enforced {
    table: PolicyTable,
    /// Endpoints that have a link, or may have one.
    held: BTreeMap<EndpointId, Held>,
    /// What the restrictions were made from.
    rulebook: Arc<Rulebook>,
    restrictions: BTreeMap<EndpointId, Restriction>,
    /// Whether the table is not what it should be.
    is_behind: bool,
}

/// What an endpoint is judged by.
#[derive(Clone)]
struct Held {
    attachment: Attachment,
    labels: Labels,
}

impl Enforcement {
    /// Writes the table, in place of what an earlier run left. Endpoints whose policies have become too heavy are
    /// isolated.
    pub fn start(rulebook: Rulebook, entries: &[Entry]) -> Result<Self, FirewallError> {
        let rulebook = Arc::new(rulebook);
        let held = entries.iter().map(|entry| (entry.id, Held::of(entry))).collect();
        let restrictions = restrictions(&rulebook, &held);
        let (table, isolated) = as_far_as_it_fits(
            &rulebook.apart,
            &restrictions,
            |_| true,
            |restrictions| PolicyTable::install(&rulebook.apart, restrictions),
        )?;
        tell(&BTreeSet::new(), &isolated);
        let enforced =
            Enforced { table, held, rulebook: Arc::clone(&rulebook), restrictions, is_behind: false };
        let isolated = ArcSwap::from_pointee(isolated);
        let (said, enforced) = (Mutex::default(), Mutex::new(enforced));
        Ok(Self { rulebook: ArcSwap::new(rulebook), isolated, said, enforced })
    }

    /// The rulebook that holds.
    pub fn rulebook(&self) -> Arc<Rulebook> {
        self.rulebook.load_full()
    }

    /// Whether another one could hold for the endpoints that there are, but for those that are isolated already.
    pub fn fits(&self, rulebook: &Rulebook) -> Result<(), FirewallError> {
        let restrictions = restrictions(rulebook, &self.enforced().held);
        let may_be = |heavy: &BTreeSet<EndpointId>| heavy.is_subset(&self.isolated.load());
        as_far_as_it_fits(&rulebook.apart, &restrictions, may_be, |restrictions| {
            PolicyTable::fits(&rulebook.apart, restrictions)
        })
        .map(drop)
    }

    /// Whether the policies of an endpoint are too heavy, so that it is isolated.
    pub fn isolates(&self, id: EndpointId) -> bool {
        self.isolated.load().contains(&id)
    }

    /// Makes another one hold: at once for endpoints to come, with [`Enforcement::enforce`] for all.
    pub fn replace(&self, rulebook: Rulebook) {
        self.rulebook.store(Arc::new(rulebook));
    }

    /// Makes the table say what the rulebook says.
    pub fn enforce(&self) -> Result<(), FirewallError> {
        self.change(|_| {})
    }

    /// Notes what an endpoint is judged by from now on, without waiting for the packet filter: in force with
    /// [`Enforcement::hold`], or with [`Enforcement::regard`] if it is held already.
    pub fn say(&self, entry: &Entry) {
        self.said().insert(entry.id, Held::of(entry));
    }

    /// Restricts an endpoint, before its first packet. One that is new must not be too heavy, nor make another one so.
    pub fn hold(&self, entry: &Entry) -> Result<(), FirewallError> {
        let mut enforced = self.enforced();
        enforced.follow(self.rulebook.load_full());
        enforced.held.insert(entry.id, self.newest(entry));
        enforced.judge(entry.id);
        let may_be = |heavy: &BTreeSet<EndpointId>| {
            entry.stage != Stage::Wiring || heavy.is_subset(&self.isolated.load())
        };
        let written = self.write(&mut enforced, may_be);
        if written.as_ref().is_err_and(FirewallError::is_too_much) {
            enforced.forget(entry.id);
            self.write(&mut enforced, |_| true)?;
        }
        written
    }

    /// The same, where these endpoints have other labels or are of another network; those whose link is gone stay
    /// forgotten.
    pub fn regard(&self, entries: &[Entry]) -> Result<(), FirewallError> {
        self.change(|enforced| {
            for entry in entries {
                if let Some(held) = enforced.held.get_mut(&entry.id) {
                    *held = self.newest(entry);
                    enforced.judge(entry.id);
                }
            }
        })
    }

    /// Forgets one whose link is gone.
    pub fn release(&self, id: EndpointId) -> Result<(), FirewallError> {
        self.said().remove(&id);
        self.change(|enforced| enforced.forget(id))
    }

    /// Takes the table away.
    pub fn stop() -> Result<(), FirewallError> {
        PolicyTable::uninstall()
    }

    /// One line for each thing in the table that is not as it shall be.
    pub fn faults(&self) -> Vec<String> {
        let mut enforced = self.enforced();
        let mut faults = enforced.table.faults().unwrap_or_else(|error| vec![chain::of(&error)]);
        if enforced.is_behind {
            faults.push("policies are not in force".to_owned());
        }
        faults
    }

    /// Writes the table anew.
    pub fn repair(&self) -> Result<(), FirewallError> {
        let mut enforced = self.enforced();
        enforced.follow(self.rulebook.load_full());
        let Enforced { rulebook, restrictions, .. } = &*enforced;
        let (table, isolated) = as_far_as_it_fits(
            &rulebook.apart,
            restrictions,
            |_| true,
            |restrictions| PolicyTable::install(&rulebook.apart, restrictions),
        )?;
        enforced.table = table;
        enforced.is_behind = false;
        self.isolate(isolated);
        Ok(())
    }

    /// Effects may overtake each other, so each of them takes the newest rulebook.
    fn change(&self, change: impl FnOnce(&mut Enforced)) -> Result<(), FirewallError> {
        let mut enforced = self.enforced();
        enforced.follow(self.rulebook.load_full());
        change(&mut enforced);
        self.write(&mut enforced, |_| true)
    }

    fn write(
        &self,
        enforced: &mut Enforced,
        may_be: impl Fn(&BTreeSet<EndpointId>) -> bool,
    ) -> Result<(), FirewallError> {
        let Enforced { table, rulebook, restrictions, is_behind, held: _ } = enforced;
        let written = as_far_as_it_fits(&rulebook.apart, restrictions, may_be, |restrictions| {
            table.change(&rulebook.apart, restrictions)
        });
        *is_behind = written.is_err();
        written.map(|((), isolated)| self.isolate(isolated))
    }

    fn isolate(&self, isolated: BTreeSet<EndpointId>) {
        let before = self.isolated.load();
        if **before != isolated {
            tell(&before, &isolated);
            self.isolated.store(Arc::new(isolated));
        }
    }

    fn newest(&self, entry: &Entry) -> Held {
        self.said().get(&entry.id).cloned().unwrap_or_else(|| Held::of(entry))
    }

    /// Held for a look alone, never over a run of nft.
    fn said(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Held>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic between two changes leaves nothing that the next change could not cope with.
    fn enforced(&self) -> MutexGuard<'_, Enforced> {
        self.enforced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Enforced {
    fn follow(&mut self, rulebook: Arc<Rulebook>) {
        if !Arc::ptr_eq(&self.rulebook, &rulebook) {
            self.restrictions = restrictions(&rulebook, &self.held);
            self.rulebook = rulebook;
        }
    }

    fn forget(&mut self, id: EndpointId) {
        self.held.remove(&id);
        self.restrictions.remove(&id);
    }

    fn judge(&mut self, id: EndpointId) {
        let held = self.held.get(&id);
        match held.and_then(|held| self.rulebook.restriction(&held.attachment, &held.labels)) {
            Some(restriction) => self.restrictions.insert(id, restriction),
            None => self.restrictions.remove(&id),
        };
    }
}

impl Held {
    fn of(entry: &Entry) -> Self {
        Self { attachment: entry.attachment.clone(), labels: entry.labels.clone() }
    }
}

fn restrictions(rulebook: &Rulebook, held: &BTreeMap<EndpointId, Held>) -> BTreeMap<EndpointId, Restriction> {
    let restricted =
        |(id, held): (&EndpointId, &Held)| Some((*id, rulebook.restriction(&held.attachment, &held.labels)?));
    held.iter().filter_map(restricted).collect()
}

/// Writes restrictions; if they are too much and the heaviest endpoints may be isolated, with those isolated. Returns
/// who is.
fn as_far_as_it_fits<T>(
    apart: &Apart,
    restrictions: &BTreeMap<EndpointId, Restriction>,
    may_be: impl Fn(&BTreeSet<EndpointId>) -> bool,
    mut write: impl FnMut(&BTreeMap<EndpointId, Restriction>) -> Result<T, FirewallError>,
) -> Result<(T, BTreeSet<EndpointId>), FirewallError> {
    let error = match write(restrictions) {
        Ok(written) => return Ok((written, BTreeSet::new())),
        Err(error) => error,
    };
    if !error.is_too_much() {
        return Err(error);
    }
    let heavy = PolicyTable::too_heavy(apart, restrictions);
    if !may_be(&heavy) {
        return Err(error);
    }
    let mut lighter = restrictions.clone();
    lighter.extend(heavy.iter().map(|id| (*id, Restriction::isolated())));
    Ok((write(&lighter)?, heavy))
}

fn tell(before: &BTreeSet<EndpointId>, now: &BTreeSet<EndpointId>) {
    for endpoint in now.difference(before) {
        tracing::error!(%endpoint, "its policies are too heavy for this host: it is isolated");
    }
    for endpoint in before.difference(now) {
        tracing::info!(%endpoint, "its policies are in force again");
    }
}
