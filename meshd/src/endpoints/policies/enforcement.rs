//! Holds endpoints to the rulebook.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use meshd_api::{Attachment, Labels};
use meshd_wire::EndpointId;

use super::Rulebook;
use crate::chain;
use crate::endpoints::entry::Entry;
use crate::os::{FirewallError, PolicyTable, Restriction};

/// The rulebook as it shall be, and the table as it is.
pub struct Enforcement {
    rulebook: ArcSwap<Rulebook>,
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
struct Held {
    attachment: Attachment,
    labels: Labels,
}

impl Enforcement {
    /// Writes the table, in place of what an earlier run left.
    pub fn start(rulebook: Rulebook, entries: &[Entry]) -> Result<Self, FirewallError> {
        let rulebook = Arc::new(rulebook);
        let held = entries.iter().map(|entry| (entry.id, Held::of(entry))).collect();
        let restrictions = restrictions(&rulebook, &held);
        let table = PolicyTable::install(&rulebook.apart, &restrictions)?;
        let enforced =
            Enforced { table, held, rulebook: Arc::clone(&rulebook), restrictions, is_behind: false };
        Ok(Self { rulebook: ArcSwap::new(rulebook), enforced: Mutex::new(enforced) })
    }

    /// The rulebook that holds.
    pub fn rulebook(&self) -> Arc<Rulebook> {
        self.rulebook.load_full()
    }

    /// Whether another one could hold for the endpoints that there are.
    pub fn fits(&self, rulebook: &Rulebook) -> Result<(), FirewallError> {
        PolicyTable::fits(&rulebook.apart, &restrictions(rulebook, &self.enforced().held))
    }

    /// Makes another one hold: at once for endpoints to come, with [`Enforcement::enforce`] for all.
    pub fn replace(&self, rulebook: Rulebook) {
        self.rulebook.store(Arc::new(rulebook));
    }

    /// Makes the table say what the rulebook says.
    pub fn enforce(&self) -> Result<(), FirewallError> {
        self.change(|_| {})
    }

    /// Restricts an endpoint, before its first packet.
    pub fn hold(&self, entry: &Entry) -> Result<(), FirewallError> {
        self.change(|enforced| {
            enforced.held.insert(entry.id, Held::of(entry));
            enforced.judge(entry.id);
        })
    }

    /// Judges an endpoint by other labels; one whose link is gone stays forgotten.
    pub fn relabel(&self, entry: &Entry) -> Result<(), FirewallError> {
        self.change(|enforced| {
            if let Some(held) = enforced.held.get_mut(&entry.id) {
                *held = Held::of(entry);
                enforced.judge(entry.id);
            }
        })
    }

    /// Forgets one whose link is gone.
    pub fn release(&self, id: EndpointId) -> Result<(), FirewallError> {
        self.change(|enforced| {
            enforced.held.remove(&id);
            enforced.restrictions.remove(&id);
        })
    }

    /// Takes the table away.
    pub fn stop() -> Result<(), FirewallError> {
        PolicyTable::uninstall()
    }

    /// One line for each thing in the table that is not as it shall be.
    pub fn faults(&self) -> Vec<String> {
        let enforced = self.enforced();
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
        enforced.table = PolicyTable::install(&enforced.rulebook.apart, &enforced.restrictions)?;
        enforced.is_behind = false;
        Ok(())
    }

    /// Effects may overtake each other, so each of them takes the newest rulebook.
    fn change(&self, change: impl FnOnce(&mut Enforced)) -> Result<(), FirewallError> {
        let mut enforced = self.enforced();
        enforced.follow(self.rulebook.load_full());
        change(&mut enforced);
        let Enforced { table, rulebook, restrictions, is_behind, held: _ } = &mut *enforced;
        let changed = table.change(&rulebook.apart, restrictions);
        *is_behind = changed.is_err();
        changed
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
