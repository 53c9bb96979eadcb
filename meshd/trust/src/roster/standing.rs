//! Whether a node counts right now, and if not, why.

use meshd_wire::record::Revocations;
use meshd_wire::{NodeId, OrgId, Timestamp};

use super::Roster;
use super::limits::CLOCK_SKEW_S;
use super::node::NodeView;
use super::org::Freshness;
use super::timing::Timing;

/// Whether a node is to be talked to. Only one in force gets a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Everything holds.
    InForce,
    /// No certificate of it was accepted.
    Unknown,
    /// Its organisation took it, or its certificate, back.
    Revoked,
    /// Its organisation and the own one do not talk to each other any more.
    Severed,
    /// The steward that signed its certificate was replaced.
    StewardGone,
    /// Its certificate begins later.
    NotYetValid,
    /// Its certificate is over.
    Expired,
    /// The agreement that forms the mesh is over or has not begun.
    AgreementOver,
    /// Its organisation was not heard within the hard limit.
    OrgStale,
    /// It has published no tunnel keys.
    NoKeys,
    /// Its tunnel keys are too old.
    KeysExpired,
}

impl Standing {
    /// Whether a node may act on the control plane: one without (fresh) tunnel keys may come to publish them.
    pub fn may_speak(self) -> bool {
        match self {
            Self::InForce | Self::NoKeys | Self::KeysExpired | Self::OrgStale => true,
            Self::Unknown
            | Self::Revoked
            | Self::Severed
            | Self::StewardGone
            | Self::NotYetValid
            | Self::Expired
            | Self::AgreementOver => false,
        }
    }
}

impl Roster {
    /// Says whether a node counts right now; the gravest reason first.
    pub fn standing(&self, node: &NodeId, now: Timestamp) -> Standing {
        let Some(view) = self.node(node) else { return Standing::Unknown };
        let (Some(org), Some(agreement)) = (self.org(&view.org()), self.agreement()) else {
            return Standing::Unknown;
        };
        let cert = view.cert();
        if org.revocations().is_some_and(|revocations| revokes(revocations, &view)) {
            return Standing::Revoked;
        }
        if self.is_severed(&view.org()) {
            return Standing::Severed;
        }
        let signer = view.node.cert.signer;
        if !org.delegations().any(|steward| steward.record_key.key_id() == signer) {
            return Standing::StewardGone;
        }
        if cert.not_before > now.plus(CLOCK_SKEW_S) {
            return Standing::NotYetValid;
        }
        if cert.not_after < now {
            return Standing::Expired;
        }
        if agreement.not_before > now.plus(CLOCK_SKEW_S) || agreement.not_after < now {
            return Standing::AgreementOver;
        }
        if org.freshness(now) == Freshness::Expired {
            return Standing::OrgStale;
        }
        match view.keys_end(agreement.key_age_max_s) {
            None => Standing::NoKeys,
            Some(end) if end < now => Standing::KeysExpired,
            Some(_) => Standing::InForce,
        }
    }

    /// Whether a node's claims still bind others: neither over nor taken back.
    pub(super) fn is_live(&self, node: &NodeId, now: Timestamp) -> bool {
        match self.standing(node, now) {
            Standing::Unknown | Standing::Revoked | Standing::StewardGone | Standing::Expired => false,
            Standing::InForce
            | Standing::Severed
            | Standing::NotYetValid
            | Standing::AgreementOver
            | Standing::OrgStale
            | Standing::NoKeys
            | Standing::KeysExpired => true,
        }
    }

    /// Whether what a node holds stays its own against a newcomer; a state file holds no two claims.
    pub(super) fn still_binds(&self, holder: &NodeId, newcomer: &OrgId, timing: Timing) -> bool {
        match timing {
            Timing::Arrives(now) => {
                let is_outranked =
                    self.node(holder).is_some_and(|holder| self.outranks(newcomer, &holder.org()));
                self.is_live(holder, now) && !is_outranked
            }
            Timing::Restored => true,
        }
    }

    /// Whether one organisation's word about a key or node id counts more than another's. Public keys can be
    /// copied into any certificate, and nothing in it proves who holds them; so the own organisation, which
    /// did ask for a proof, is believed before a foreign one, whichever came first.
    pub(super) fn outranks(&self, one: &OrgId, other: &OrgId) -> bool {
        one != other && self.floor.org == Some(*one)
    }

    fn is_severed(&self, other: &OrgId) -> bool {
        let Some(own) = self.floor.org else { return false };
        let severs = |org: &OrgId, from: &OrgId| {
            let revocations = self.orgs.get(org).and_then(|org| org.revocations.as_ref());
            revocations.is_some_and(|held| held.record.severed.binary_search(from).is_ok())
        };
        own != *other && (severs(&own, other) || severs(other, &own))
    }
}

/// Whether revocations name a node, or the certificate it holds. Serials start anew with each root
/// version, so a revoked serial never meets a certificate of a later one.
pub(super) fn revokes(revocations: &Revocations, view: &NodeView<'_>) -> bool {
    revokes_cert(revocations, &view.id(), view.cert().root_version, view.cert().serial)
}

/// Whether revocations name a node or a serial of its certificate.
pub(super) fn revokes_cert(revocations: &Revocations, node: &NodeId, root_version: u32, serial: u64) -> bool {
    revocations.nodes.binary_search(node).is_ok()
        || root_version <= revocations.root_version && revocations.certs.binary_search(&serial).is_ok()
}
