//! The plain WireGuard peers that this node serves: phones, routers, servers without meshd.
//!
//! The address of one is the organisation's word: a steward puts it into this node's certificate, and the other nodes
//! send to it, and believe what comes from it, through this node. So an external is served only as long as the
//! certificate holds its addresses, and what the certificate holds for nobody is given back.

mod file;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use data_encoding::BASE64;
use ipnet::IpNet;
use meshd_api::{AddExternalReply, AddExternalRequest, ApiError, ErrorCode, RemoveExternalReply};
use meshd_trust::{EXTERNALS_MAX, Standing, address, is_tunnel_key};
use meshd_tunnel::{Psk, Suite};
use meshd_wire::enrol::{EnrolRequest, ExternalAddress, Refused};
use meshd_wire::name::is_host_name;
use meshd_wire::{NodeId, PublicKey};
use zeroize::Zeroizing;

use super::Mesh;
use super::publish::next_seq;
use crate::dataplane::{PeerConfig, PeerKeys};
use crate::enrol::{Claimed, StewardCallError};
use crate::metrics::Counters;

pub use file::{External, ExternalsFile, PresharedKey, forget_externals};

/// Somebody who asks to be served.
#[derive(Clone)]
pub struct Newcomer {
    name: String,
    key: PublicKey,
    psk: Option<PresharedKey>,
}

impl Newcomer {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What becomes of a request to serve somebody.
pub enum Wanted {
    /// It is served already.
    Served(Box<AddExternalReply>),
    /// A steward has to give it addresses.
    New(Newcomer),
}

impl Mesh {
    /// Judges a request to serve somebody.
    pub fn wanted_external(&self, request: &AddExternalRequest) -> Result<Wanted, ApiError> {
        let newcomer = newcomer(request)?;
        let all = self.externals.all();
        if let Some(served) = all.iter().find(|one| one.name == newcomer.name) {
            if served.key == newcomer.key && served.psk == newcomer.psk {
                return self.added(served).map(|reply| Wanted::Served(Box::new(reply)));
            }
            let error = format!("an external named {} exists", newcomer.name);
            return Err(ApiError::new(ErrorCode::NameTaken, error)
                .with_hint("give another name, or remove it first: `meshctl peer remove-external`"));
        }
        if all.iter().any(|one| one.key == newcomer.key) || self.is_key_of_a_node(&newcomer.key) {
            return Err(ApiError::new(ErrorCode::KeyTaken, "another peer has this key")
                .with_hint("make a key for this peer alone"));
        }
        if all.len() >= EXTERNALS_MAX {
            let error =
                format!("this node serves {EXTERNALS_MAX} externals, and no more fit its certificate");
            return Err(ApiError::new(ErrorCode::TooMany, error).with_hint("add it on another node"));
        }
        Ok(Wanted::New(newcomer))
    }

    /// Signs what a steward is to be asked: addresses for everybody served, and for a newcomer.
    pub fn external_claim(&mut self, newcomer: Option<&Newcomer>) -> Vec<u8> {
        let seq = next_seq(Some(self.externals.seq));
        self.externals.seq = seq;
        let served = self.externals.all().iter().map(|one| &one.name);
        let mut names: Vec<String> = served.chain(newcomer.map(|one| &one.name)).cloned().collect();
        names.sort();
        let secrets = &self.membership.secrets;
        secrets.sign_externals(&self.membership.mesh, seq, names, self.clock.now()).to_bytes()
    }

    /// Asks the steward on this host; none if there is none.
    pub fn claim_at_own_desk(
        &mut self,
        claim: Vec<u8>,
        counters: &mut Counters,
    ) -> Option<Result<Claimed, StewardCallError>> {
        let own_key = self.membership.secrets.transport().public();
        let now = self.clock.now();
        let steward = self.steward.as_mut()?;
        if self.clock.is_suspect() {
            return Some(Err(StewardCallError::Refused(Refused::Unavailable)));
        }
        let answer = steward.answer(&own_key, &[0; 32], &EnrolRequest::Claim { claim }, now);
        self.take_records(&answer.publish, counters);
        Some(Claimed::of(answer.reply))
    }

    /// Puts right what the certificate of the steward's own host says of its externals.
    pub(super) fn heal_claim_at_own_desk(&mut self, counters: &mut Counters) {
        if self.steward.is_none() || !self.claim_is_due() {
            return;
        }
        let claim = self.external_claim(None);
        match self.claim_at_own_desk(claim, counters) {
            Some(Ok(claimed)) => self.take_claimed(&claimed, counters),
            Some(Err(error)) => {
                let error = crate::chain::of(&error);
                tracing::error!(
                    error,
                    "the steward can't give the externals of its own host their addresses"
                );
            }
            None => {}
        }
    }

    /// Serves a newcomer that a steward has given addresses to: stored first, used afterwards.
    pub fn serve(
        &mut self,
        newcomer: Newcomer,
        claimed: Claimed,
        counters: &mut Counters,
    ) -> Result<AddExternalReply, ApiError> {
        self.take_claimed(&claimed, counters);
        let given = claimed.externals.into_iter().find(|given| given.name == newcomer.name);
        let addrs = given.map(|given| (Ipv4Addr::from(given.addr4), Ipv6Addr::from(given.addr6)));
        let addrs = addrs.filter(|addrs| self.holds(*addrs)).ok_or_else(|| {
            ApiError::new(ErrorCode::RecordRefused, "the steward's certificate does not hold the addresses")
                .with_hint("look at this daemon's log for the reason, and try again")
        })?;
        if self.unsaved {
            return Err(not_stored("the new certificate can't be stored"));
        }
        let Newcomer { name, key, psk } = newcomer;
        let external = External::new(name, key, psk, addrs, self.clock.now());
        let mut all = self.externals.all().to_vec();
        all.push(external.clone());
        self.store_externals(all)?;
        tracing::info!(name = external.name, "external added");
        self.apply();
        self.added(&external)
    }

    /// Serves somebody no longer, at once; a steward hears of it as soon as one can be told.
    pub fn remove_external(&mut self, name: &str) -> Result<RemoveExternalReply, ApiError> {
        let mut all = self.externals.all().to_vec();
        let Some(at) = all.iter().position(|one| one.name == name) else {
            return Err(ApiError::new(
                ErrorCode::NotFound,
                format!("this node serves no external named `{name}`"),
            )
            .with_hint("`meshctl peer list-external` on the node where it was added lists them"));
        };
        let gone = all.remove(at);
        self.store_externals(all)?;
        tracing::info!(name, "external removed");
        self.apply();
        Ok(RemoveExternalReply { name: gone.name.clone(), addr4: gone.addr4(), addr6: gone.addr6() })
    }

    /// Takes in a certificate with the addresses of externals, and other addresses than those they had.
    pub fn take_claimed(&mut self, claimed: &Claimed, counters: &mut Counters) {
        self.take_records(std::slice::from_ref(&claimed.cert), counters);
        let mut all = self.externals.all().to_vec();
        let mut moved = false;
        for ExternalAddress { name, addr4, addr6 } in &claimed.externals {
            let Some(external) = all.iter_mut().find(|one| one.name == *name) else { continue };
            if external.readdress(*addr4, *addr6) {
                tracing::warn!(name, "the steward has given an external other addresses: configure it anew");
                moved = true;
            }
        }
        if moved && self.store_externals(all).is_ok() {
            self.apply();
        }
    }

    /// Whether the certificate holds other addresses than those of the externals.
    pub(super) fn claim_is_due(&self) -> bool {
        let now = self.clock.now();
        let Some(view) = self.roster.node(&self.node) else { return false };
        if self.claiming || !self.roster.standing(&self.node, now).may_speak() {
            return false;
        }
        let held = view.cert().prefixes.iter().filter_map(|prefix| prefix.parts());
        let mut held: Vec<(IpAddr, u8)> = held.collect();
        let wanted = |one: &External| [(one.addr4().into(), 32), (one.addr6().into(), 128)];
        let mut wanted: Vec<(IpAddr, u8)> = self.externals.all().iter().flat_map(wanted).collect();
        held.sort_unstable();
        wanted.sort_unstable();
        held != wanted
    }

    /// The externals as the tunnels know them.
    pub(super) fn external_peers(&self) -> Vec<PeerConfig> {
        // Of a node that is out, and of an organisation that fell silent, nothing is carried: not of theirs either.
        if self.roster.standing(&self.node, self.clock.now()) != Standing::InForce {
            return Vec::new();
        }
        let served = self.externals.all().iter().filter(|one| self.holds((one.addr4(), one.addr6())));
        served.map(|one| self.external_peer(one)).collect()
    }

    fn external_peer(&self, external: &External) -> PeerConfig {
        PeerConfig {
            node: self.external_id(external),
            org: self.membership.org,
            name: external.name.clone(),
            keys: PeerKeys::external(external.key.0),
            addrs: vec![
                IpNet::from(IpAddr::from(external.addr4())),
                IpNet::from(IpAddr::from(external.addr6())),
            ],
            candidates: Vec::<SocketAddr>::new(),
            psk: external.psk.as_ref().map(|psk| Psk::new(psk.0)),
            suite: Suite::Wg,
            is_external: true,
        }
    }

    /// The externals for tables, sorted by name.
    pub fn external_table(&self) -> Vec<meshd_api::External> {
        let stats = self.plane.peers();
        let row = |one: &External| {
            let id = self.external_id(one);
            let stats = stats.iter().find(|stats| stats.node == id);
            meshd_api::External {
                name: one.name.clone(),
                addr4: one.addr4(),
                addr6: one.addr6(),
                public_key: BASE64.encode(&one.key.0),
                preshared: one.psk.is_some(),
                certified: self.holds((one.addr4(), one.addr6())),
                path: stats.and_then(|stats| stats.endpoint).map(|at| format!("udp {at}")),
                last_handshake_s: stats.and_then(|stats| stats.last_handshake).map(|ago| ago.as_secs()),
                rx_bytes: stats.map_or(0, |stats| stats.rx_bytes),
                tx_bytes: stats.map_or(0, |stats| stats.tx_bytes),
                added_at: one.added_at.0,
            }
        };
        self.externals.all().iter().map(row).collect()
    }

    /// Name of the external that the tunnels know by an id.
    pub(super) fn external_name(&self, id: &NodeId) -> Option<&str> {
        let found = self.externals.all().iter().find(|one| self.external_id(one) == *id);
        found.map(|one| one.name.as_str())
    }

    fn external_id(&self, external: &External) -> NodeId {
        address::external_id(&self.node, &external.name)
    }

    /// Whether this node's certificate holds both addresses.
    fn holds(&self, (addr4, addr6): (Ipv4Addr, Ipv6Addr)) -> bool {
        let Some(view) = self.roster.node(&self.node) else { return false };
        let has = |wanted| view.cert().prefixes.iter().any(|prefix| prefix.parts() == Some(wanted));
        has((addr4.into(), 32)) && has((addr6.into(), 128))
    }

    fn is_key_of_a_node(&self, key: &PublicKey) -> bool {
        let of_nodes = self.roster.nodes().filter_map(|view| view.keys()).flat_map(|keys| keys.all());
        of_nodes.map(|of_node| of_node.key).chain([self.external_key()]).any(|taken| taken == *key)
    }

    /// The key that externals know this node by.
    fn external_key(&self) -> PublicKey {
        PublicKey(self.membership.secrets.external().public())
    }

    fn store_externals(&mut self, all: Vec<External>) -> Result<(), ApiError> {
        self.externals.replace(all).map_err(|error| {
            let error = crate::chain::of(&error);
            tracing::error!(error, "the externals can't be stored");
            not_stored("the externals can't be stored").with_cause(error)
        })
    }

    fn added(&self, external: &External) -> Result<AddExternalReply, ApiError> {
        let view = self.roster.node(&self.node);
        let cert = view
            .as_ref()
            .map(|view| view.cert())
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the own certificate is not in the roster"))?;
        let external = self.external_table().into_iter().find(|row| row.name == external.name);
        Ok(AddExternalReply {
            external: external
                .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the new external is not stored"))?,
            gateway: cert.name.clone(),
            gateway_key: BASE64.encode(&self.external_key().0),
            endpoints: self.duties.addresses().iter().map(ToString::to_string).collect(),
            prefixes: self.overlay().iter().map(ToString::to_string).collect(),
            mtu: self.plane.mtu(),
        })
    }
}

/// Reads a request; what it says is a person's typing.
fn newcomer(request: &AddExternalRequest) -> Result<Newcomer, ApiError> {
    let AddExternalRequest { name, public_key, preshared_key } = request;
    if !is_host_name(name) {
        return Err(ApiError::new(ErrorCode::BadRequest, format!("`{name}` can't name an external"))
            .with_hint("give one of 1 to 63 letters a-z, digits and `-`"));
    }
    let key = key_of(public_key).map(PublicKey).filter(is_tunnel_key).ok_or_else(|| {
        ApiError::new(ErrorCode::BadRequest, "that is no WireGuard public key")
            .with_hint("it is what `wg pubkey` prints: 44 letters of base64")
    })?;
    let psk = preshared_key.as_ref().map(|text| {
        key_of(&text.0).map(PresharedKey).ok_or_else(|| {
            ApiError::new(ErrorCode::BadRequest, "that is no WireGuard preshared key")
                .with_hint("it is what `wg genpsk` prints: 44 letters of base64")
        })
    });
    Ok(Newcomer { name: name.clone(), key, psk: psk.transpose()? })
}

fn key_of(text: &str) -> Option<[u8; 32]> {
    let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).ok()?);
    bytes.as_slice().try_into().ok()
}

fn not_stored(error: &str) -> ApiError {
    ApiError::new(ErrorCode::StorageFailed, error)
        .with_hint("make room in the state directory or mend its disk; nothing has changed")
}

/// Words for a steward that gave an external no address.
pub fn claim_error(name: &str, error: &StewardCallError) -> ApiError {
    let api = match error {
        StewardCallError::Refused(why) => super::desk::refused(*why),
        StewardCallError::NoSteward
        | StewardCallError::Unreachable(_)
        | StewardCallError::NoAnswer(_)
        | StewardCallError::NotDelegated { .. }
        | StewardCallError::OutOfTurn => {
            ApiError::new(ErrorCode::StewardUnreachable, format!("no steward gives {name} an address"))
                .with_cause(crate::chain::of(error))
                .with_hint("is its control port (51820/tcp by default) open to this host? Then run it again")
        }
    };
    match api.code {
        ErrorCode::NameTaken => {
            ApiError::new(ErrorCode::NameTaken, format!("another node or external is named {name}"))
                .with_hint("names are unique in the organisation: give another one")
        }
        _ => api,
    }
}

#[cfg(test)]
mod tests {
    use meshd_api::Secret;

    use super::*;

    fn request(name: &str, key: &[u8], psk: Option<&str>) -> AddExternalRequest {
        let preshared_key = psk.map(|text| Secret(text.to_owned()));
        AddExternalRequest { name: name.to_owned(), public_key: BASE64.encode(key), preshared_key }
    }

    fn code(request: &AddExternalRequest) -> Option<ErrorCode> {
        newcomer(request).err().map(|error| error.code)
    }

    #[test]
    fn a_newcomer_has_a_name_and_keys_that_are_keys() {
        let psk = BASE64.encode(&[7; 32]);
        assert_eq!(code(&request("phone", &[9; 32], None)), None);
        assert_eq!(code(&request("phone", &[9; 32], Some(&psk))), None);
        for name in ["", "Phone", "-a", "a.b", "a b", &"x".repeat(64)] {
            assert_eq!(code(&request(name, &[9; 32], None)), Some(ErrorCode::BadRequest), "{name}");
        }
        // No key of 32 bytes, a point of small order, and a second form of a key.
        for key in [&[9; 31][..], &[9; 33], &[], &[0; 32], &[0xff; 32]] {
            assert_eq!(code(&request("phone", key, None)), Some(ErrorCode::BadRequest), "{key:?}");
        }
        for psk in ["", "x", &psk[..43], &BASE64.encode(&[7; 31])] {
            assert_eq!(code(&request("phone", &[9; 32], Some(psk))), Some(ErrorCode::BadRequest), "{psk}");
        }
    }

    #[test]
    fn a_steward_that_says_no_is_told_from_one_that_says_nothing() {
        let code = |error| claim_error("phone", &error).code;
        assert_eq!(code(StewardCallError::Refused(Refused::NameTaken)), ErrorCode::NameTaken);
        assert_eq!(code(StewardCallError::Refused(Refused::NoAddress)), ErrorCode::NoAddress);
        assert_eq!(code(StewardCallError::NoSteward), ErrorCode::StewardUnreachable);
        assert_eq!(code(StewardCallError::OutOfTurn), ErrorCode::StewardUnreachable);
    }
}
