//! What has to be done again and again: renew before it expires, repeat before it is forgotten.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meshd_trust::{Freshness, Standing};
use meshd_wire::enrol::RegistryHint;
use meshd_wire::record::NodeCert;
use meshd_wire::{PublicKey, Timestamp};

use super::{Mesh, RegistryLink};
use crate::clock::boot;
use crate::enrol::{Claimed, Renewed};
use crate::membership::Membership;
use crate::metrics::Counters;

/// How often time alone may change who is in force.
const STANDING_EVERY: Duration = Duration::from_secs(5);
/// How often a head steward signs its organisation's state; nodes warn when 15 were missed.
const STATE_EVERY: Duration = Duration::from_secs(60);
/// Age at which a node signs its paths again; they are a mere hint after ten minutes.
const PATHS_AGE_S: u64 = 5 * 60;
/// Age of the own organisation's state at which a node asks the steward itself: half the soft limit.
const STATE_AGE_ASK_S: u64 = 450;
/// Wait between tries to reach a steward, doubled up to the longest.
const ERRAND_WAIT_FIRST: Duration = Duration::from_secs(15);
/// Longest wait between tries to renew: many of them fit into the second half of a certificate's life.
const RENEW_WAIT_LONGEST: Duration = Duration::from_secs(3600);
/// Longest wait between other tries: what they heal is felt until they succeed.
const HEAL_WAIT_LONGEST: Duration = Duration::from_secs(5 * 60);

/// Work that needs the network; the daemon does it beside the event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Errand {
    /// Ask a steward for a new certificate.
    Renew,
    /// Ask a steward for its organisation's newest records.
    Refresh,
    /// Ask a steward for the addresses of the externals, or give them back.
    Claim,
    /// Show this node's records to the host of a registry that does not let it in yet.
    Introduce,
}

/// A request for a new certificate.
#[derive(Debug)]
pub struct RenewalRequest {
    /// Its envelope.
    pub request: Vec<u8>,
    /// Envelope of the tunnel keys in it: the node's own from the moment the steward has taken them.
    pub keys: Vec<u8>,
}

/// What a steward gave.
#[derive(Debug, Default)]
pub struct Help {
    /// Whether the errand has to be done again, with these records.
    pub is_halfway: bool,
    /// Envelopes.
    pub records: Vec<Vec<u8>>,
    /// Where registries are; none if that was not asked.
    pub registries: Vec<RegistryHint>,
    /// Where stewards are; none if that was not asked.
    pub stewards: Vec<String>,
    /// Addresses of the externals; none if that was not asked.
    pub claimed: Option<Claimed>,
}

impl Help {
    /// Records alone.
    pub fn of(records: Vec<Vec<u8>>) -> Self {
        Self { records, ..Self::default() }
    }

    /// A new certificate, and the tunnel keys it was asked with.
    pub fn renewed(renewed: Renewed, keys: Vec<u8>) -> Self {
        let Renewed { cert, mut records, registries, stewards } = renewed;
        records.extend([cert, keys]);
        Self { records, registries, stewards, ..Self::default() }
    }
}

/// When each duty is due.
#[derive(Debug)]
pub struct Duties {
    addresses: Vec<SocketAddr>,
    standing_at: Instant,
    state_at: Instant,
    errands: BTreeMap<Errand, Pace>,
    errand_runs: bool,
    introduced: bool,
}

/// When an errand may be tried again: one that fails does not hold up the others.
#[derive(Debug, Clone, Copy)]
struct Pace {
    at: Instant,
    wait: Duration,
}

impl Pace {
    fn after(before: Option<Self>, errand: Errand, succeeded: bool, now: Instant) -> Self {
        let longest = match errand {
            Errand::Renew => RENEW_WAIT_LONGEST,
            Errand::Refresh | Errand::Claim | Errand::Introduce => HEAL_WAIT_LONGEST,
        };
        let wait = match before {
            Some(before) if !succeeded => (before.wait * 2).min(longest),
            Some(_) | None => ERRAND_WAIT_FIRST,
        };
        Self { at: now + wait, wait }
    }
}

impl Duties {
    /// Everything is due at once.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            addresses: Vec::new(),
            standing_at: now,
            state_at: now,
            errands: BTreeMap::new(),
            errand_runs: false,
            introduced: false,
        }
    }

    /// Underlay addresses published last.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Mesh {
    /// Does what is due; comes every second. Gives back what needs the network; no other errand is given
    /// until [`Mesh::errand_done`].
    #[must_use]
    pub fn on_tick(&mut self, counters: &mut Counters) -> Option<Errand> {
        let tick = Instant::now();
        self.clock_floor.reserve(boot());
        if self.unsaved || self.unsaved_paths {
            self.commit(counters);
        }
        if tick >= self.duties.standing_at {
            self.duties.standing_at = tick + STANDING_EVERY;
            self.apply();
            self.whereabouts.replace(self.control_hosts());
        }
        if tick >= self.duties.state_at {
            self.duties.state_at = tick + STATE_EVERY;
            self.roster.forget_expired(self.clock.now());
            self.sign_state(counters);
            self.renew_at_own_desk(counters);
        }
        self.heal_claim_at_own_desk(counters);
        self.look_after_endpoints(tick);
        self.count_carried(counters);
        self.keep_journal();
        self.rotate_keys(counters);
        self.renew_own(counters);
        self.errand(tick)
    }

    /// Publishes the addresses this host has now, if they differ from those published.
    pub fn on_addresses(&mut self, addresses: Vec<SocketAddr>, counters: &mut Counters) -> bool {
        if self.duties.addresses == addresses {
            return false;
        }
        self.duties.addresses = addresses;
        let addresses = self.duties.addresses.clone();
        self.sign_paths(&addresses, counters);
        true
    }

    fn renew_own(&mut self, counters: &mut Counters) {
        let now = self.clock.now();
        let Some(view) = self.roster.node(&self.node) else { return };
        // Nobody accepts a word of a node that is out, and the own roster refuses it each second.
        if !self.roster.standing(&self.node, now).may_speak() {
            // Registries tell it nothing either, and it needs signed keys to come in again.
            return self.own_keys_sought(counters);
        }
        let keys_are_behind = self.rotation.is_ahead_of(view.keys());
        let age = |issued_at: Option<Timestamp>| issued_at.map_or(u64::MAX, |at| now.since(at));
        let paths_age = age(view.paths().map(|paths| paths.issued_at));
        if keys_are_behind {
            self.accept_own_keys(counters);
        }
        self.renew_claims(Instant::now());
        if paths_age >= PATHS_AGE_S && !self.duties.addresses.is_empty() {
            let addresses = self.duties.addresses.clone();
            self.sign_paths(&addresses, counters);
        }
    }

    fn errand(&mut self, tick: Instant) -> Option<Errand> {
        if self.duties.errand_runs {
            return None;
        }
        let may_try = |errand: &Errand| self.duties.errands.get(errand).is_none_or(|pace| tick >= pace.at);
        let all = [Errand::Renew, Errand::Refresh, Errand::Claim, Errand::Introduce];
        let errand = all.into_iter().filter(may_try).find(|errand| self.needs(*errand))?;
        self.duties.errand_runs = true;
        Some(errand)
    }

    fn needs(&self, errand: Errand) -> bool {
        match errand {
            Errand::Renew => {
                self.steward.is_none() && self.renewal_is_due() && self.rotation.signed().is_some()
            }
            Errand::Refresh => {
                let now = self.clock.now();
                let Some(org) = self.roster.org(&self.membership.org) else { return false };
                let old = org.state_age(now).is_none_or(|age| age >= STATE_AGE_ASK_S);
                self.steward.is_none() && (old || org.freshness(now) != Freshness::Fresh)
            }
            Errand::Claim => self.steward.is_none() && self.claim_is_due(),
            // The steward of another organisation may serve the registry and know nothing of this node.
            Errand::Introduce => {
                let unknown_there = !self.duties.introduced && self.registry_is_foreign();
                unknown_there || self.links.iter().any(is_shut_out)
            }
        }
    }

    /// Whether the certificate has passed the half of its life, or its steward is gone, and it may still be renewed.
    pub(super) fn renewal_is_due(&self) -> bool {
        let now = self.clock.now();
        let Some(view) = self.roster.node(&self.node) else { return false };
        match self.roster.standing(&self.node, now) {
            Standing::Revoked => false,
            // The root has replaced the steward, and the next one has not signed for this node yet.
            Standing::StewardGone => true,
            _ => half_of_life(view.cert()) <= now,
        }
    }

    fn registry_is_foreign(&self) -> bool {
        let Some(org) = self.roster.org(&self.membership.org) else { return false };
        let own = org.tls_keys();
        let is_ours = |key: &PublicKey| own.contains(key);
        let hints = self.membership.registries.iter().filter_map(|hint| hint.tls_key);
        hints.map(|key| self.server_keys.after(&key)).any(|keys| !keys.iter().any(is_ours))
    }

    /// What proves this node to a host that knows only the mesh.
    pub fn introduction(&self) -> Vec<Vec<u8>> {
        let mut records = self.roster.chain();
        if let Some(view) = self.roster.node(&self.node) {
            records.push(view.cert_envelope().to_vec());
            records.extend(view.keys_envelope().map(<[u8]>::to_vec));
        }
        records
    }

    /// A request for a new certificate with the keys in use.
    pub fn renewal_request(&self) -> RenewalRequest {
        let Membership { mesh, org, secrets, .. } = &self.membership;
        let name = self.roster.node(&self.node).map_or_else(String::new, |view| view.cert().name.clone());
        let keys = self.keys_to_show();
        let request = secrets.sign_request(*mesh, *org, name, keys.clone(), self.clock.now()).to_bytes();
        RenewalRequest { request, keys }
    }

    /// Notes how an errand ended, so that a steward that is away is not asked all the time.
    pub fn errand_done(&mut self, errand: Errand, succeeded: bool) {
        let duties = &mut self.duties;
        duties.introduced |= succeeded && errand == Errand::Introduce;
        duties.errand_runs = false;
        let before = duties.errands.get(&errand).copied();
        duties.errands.insert(errand, Pace::after(before, errand, succeeded, Instant::now()));
    }
}

fn half_of_life(cert: &NodeCert) -> Timestamp {
    cert.not_before.plus(cert.not_after.since(cert.not_before) / 2)
}

/// Whether an embedded registry does not let this node in, or is gone.
fn is_shut_out(link: &RegistryLink) -> bool {
    link.connected == Some(false) && link.url.starts_with("meshd://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errand_that_fails_waits_longer_and_one_that_succeeds_starts_anew() {
        let now = Instant::now();
        let fail = |before, errand| Pace::after(before, errand, false, now);
        for (errand, longest) in [(Errand::Renew, RENEW_WAIT_LONGEST), (Errand::Refresh, HEAL_WAIT_LONGEST)] {
            let first = fail(None, errand);
            assert_eq!((first.at, first.wait), (now + ERRAND_WAIT_FIRST, ERRAND_WAIT_FIRST));
            assert_eq!(fail(Some(first), errand).wait, 2 * ERRAND_WAIT_FIRST);
            let late = (0..20).fold(first, |pace, _| fail(Some(pace), errand));
            assert_eq!(late.wait, longest);
            assert_eq!(Pace::after(Some(late), errand, true, now).wait, ERRAND_WAIT_FIRST);
        }
    }
}
