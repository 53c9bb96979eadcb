//! Who holds which address, block and name of endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use meshd_wire::record::Endpoint;
use meshd_wire::{EndpointId, NodeId, OrgId, Timestamp};

use crate::roster::overlay;

/// An endpoint of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::roster) struct Holder {
    pub(in crate::roster) node: NodeId,
    pub(in crate::roster) endpoint: EndpointId,
}

impl From<&Endpoint> for Holder {
    fn from(record: &Endpoint) -> Self {
        Self { node: record.node, endpoint: record.endpoint }
    }
}

/// Index of what endpoints hold. Blocks never overlap each other; addresses may lie in them.
#[derive(Debug, Default)]
pub(in crate::roster) struct EndpointClaims {
    hosts: BTreeMap<IpAddr, Holder>,
    blocks: BTreeMap<IpAddr, (u8, Holder)>,
    names: BTreeMap<(OrgId, String), Holder>,
    /// What was given back, and when; who claims it anew does not wait for that to be forgotten.
    given_back: BTreeMap<(IpAddr, u8), (Timestamp, Holder)>,
}

impl EndpointClaims {
    /// Other endpoints whose claim or name cannot stand beside a claim.
    pub(in crate::roster) fn rivals(&self, claim: &Endpoint, org: &OrgId) -> Vec<Holder> {
        let addresses = claim.prefixes().flat_map(|(addr, len)| self.address_rivals(claim, addr, len));
        addresses.chain(self.name_rival(claim, org)).collect()
    }

    /// Other endpoints that have an address of a claim, or a block that overlaps one of it.
    pub(in crate::roster) fn address_rivals(
        &self,
        claim: &Endpoint,
        addr: IpAddr,
        len: u8,
    ) -> impl Iterator<Item = Holder> + use<'_> {
        let own = Holder::from(claim);
        let is_host = overlay::is_host(addr, len);
        let host = self.host(addr).filter(|_| is_host);
        let blocks = self.blocks_on(addr, len).filter(move |_| !is_host).map(|(_, _, holder)| holder);
        host.into_iter().chain(blocks).filter(move |holder| *holder != own)
    }

    /// Another endpoint of the organisation that has the name of a claim.
    pub(in crate::roster) fn name_rival(&self, claim: &Endpoint, org: &OrgId) -> Option<Holder> {
        let name = claim.name.as_deref()?;
        self.named(org, name).filter(|holder| *holder != Holder::from(claim))
    }

    pub(in crate::roster) fn named(&self, org: &OrgId, name: &str) -> Option<Holder> {
        self.names.get(&(*org, name.to_owned())).copied()
    }

    pub(in crate::roster) fn host(&self, addr: IpAddr) -> Option<Holder> {
        self.hosts.get(&addr).copied()
    }

    /// The block that an address lies in.
    pub(in crate::roster) fn block_around(&self, addr: IpAddr) -> Option<(IpAddr, u8, Holder)> {
        let (block, (len, holder)) = self.blocks.range(..=addr).next_back()?;
        overlay::is_inside(*block, *len, addr).then_some((*block, *len, *holder))
    }

    /// Addresses inside a prefix.
    pub(in crate::roster) fn hosts_in(
        &self,
        addr: IpAddr,
        len: u8,
    ) -> impl Iterator<Item = (IpAddr, Holder)> {
        self.hosts.range(addr..=overlay::last_of(addr, len)).map(|(host, holder)| (*host, *holder))
    }

    /// Blocks that share an address with a prefix.
    pub(in crate::roster) fn blocks_on(
        &self,
        addr: IpAddr,
        len: u8,
    ) -> impl Iterator<Item = (IpAddr, u8, Holder)> + use<'_> {
        let around = self.block_around(addr).filter(|(block, ..)| *block != addr);
        let inside = self.blocks.range(addr..=overlay::last_of(addr, len));
        around.into_iter().chain(inside.map(|(block, (len, holder))| (*block, *len, *holder)))
    }

    /// What was given back inside a prefix.
    pub(in crate::roster) fn given_back_on(
        &self,
        addr: IpAddr,
        len: u8,
    ) -> impl Iterator<Item = (IpAddr, u8, Holder)> {
        let inside = self.given_back.range((addr, len)..=(overlay::last_of(addr, len), u8::MAX));
        inside.map(|((addr, len), (_, holder))| (*addr, *len, *holder))
    }

    /// Endpoints that lose their claim to a certificate: on an address of it, or in a wider prefix of it that
    /// is not their own node's.
    pub(in crate::roster) fn displaced_by(
        &self,
        node: &NodeId,
        prefixes: impl Iterator<Item = (IpAddr, u8)>,
    ) -> Vec<Holder> {
        let mut displaced = Vec::new();
        for (addr, len) in prefixes {
            if overlay::is_host(addr, len) {
                displaced.extend(self.host(addr));
            } else {
                let blocks = self.blocks_on(addr, len).map(|(_, _, holder)| holder);
                let all = self.hosts_in(addr, len).map(|(_, holder)| holder).chain(blocks);
                displaced.extend(all.filter(|holder| holder.node != *node));
            }
        }
        displaced
    }

    pub(in crate::roster) fn add(&mut self, claim: &Endpoint, org: &OrgId) {
        let holder = Holder::from(claim);
        for (addr, len) in claim.prefixes() {
            if claim.withdrawn {
                let latest = self.given_back.entry((addr, len)).or_insert((claim.issued_at, holder));
                *latest = (*latest).max((claim.issued_at, holder));
            } else if overlay::is_host(addr, len) {
                self.hosts.insert(addr, holder);
            } else {
                self.blocks.insert(addr, (len, holder));
            }
        }
        if let Some(name) = claim.name.clone().filter(|_| !claim.withdrawn) {
            self.names.insert((*org, name), holder);
        }
    }

    pub(in crate::roster) fn remove(&mut self, claim: &Endpoint, org: &OrgId) {
        let holder = Holder::from(claim);
        for (addr, len) in claim.prefixes() {
            if claim.withdrawn {
                if self.given_back.get(&(addr, len)).is_some_and(|(_, latest)| *latest == holder) {
                    self.given_back.remove(&(addr, len));
                }
            } else if overlay::is_host(addr, len) {
                self.hosts.remove(&addr);
            } else {
                self.blocks.remove(&addr);
            }
        }
        if let Some(name) = claim.name.clone().filter(|_| !claim.withdrawn) {
            self.names.remove(&(*org, name));
        }
    }
}
