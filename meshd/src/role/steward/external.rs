//! Addresses of the plain WireGuard peers that nodes serve.
//!
//! A node names all of them; each name it adds gets an address of the organisation, each it leaves out gives its own
//! back. The addresses stand in the node's certificate, so every node of the mesh sends to them through it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use meshd_trust::address::{external_addr6, external_id};
use meshd_trust::join::{self, ExternalsRefusal};
use meshd_wire::enrol::{EnrolReply, ExternalAddress, Refused};
use meshd_wire::record::{NodeExternals, Prefix};
use meshd_wire::{Envelope, NodeId, PublicKey, Timestamp};

use super::book::Page;
use super::decide::{self, ADDRESS_REST_S};
use super::entry::{Admitted, External, Externals, Hold, Station};
use super::{Answer, Declined, Steward, prefix4};

impl Steward {
    /// Gives the externals that a node names their addresses. Asking again with the same names changes nothing.
    pub(super) fn claim(
        &mut self,
        peer: &PublicKey,
        claim: &[u8],
        now: Timestamp,
    ) -> Result<Answer, Declined> {
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        let (node, externals) = self.book.write(|page| self.claim_in(page, station, peer, claim, now))?;
        tracing::info!(node = %node.cert.node.short(), externals = externals.held.len(), "externals named");
        let addresses = externals.held.into_iter().map(|External { name, addr4 }| {
            let addr6 = external_addr6(&station.mesh, station.subnet6, addr4.into()).octets();
            ExternalAddress { name, addr4, addr6 }
        });
        let reply = EnrolReply::Claimed { cert: node.envelope.clone(), externals: addresses.collect() };
        self.catch_up(now)?;
        let mut publish = self.freshen(now)?;
        publish.push(node.envelope);
        Ok(Answer::publishing(reply, publish))
    }

    fn claim_in(
        &self,
        page: &Page,
        station: &Station,
        peer: &PublicKey,
        claim: &[u8],
        now: Timestamp,
    ) -> Result<(Admitted, Externals), Declined> {
        let asked: NodeExternals = Envelope::from_bytes(claim)
            .and_then(|envelope| envelope.record())
            .map_err(|_| Refused::Malformed)?;
        let node = page.node(&asked.node)?.filter(|node| node.revoked_at.is_none());
        let node = node.ok_or(Refused::NotMember)?;
        let identity = node.cert.identity;
        join::verify_externals(claim, &station.mesh, now, |_| Some(identity)).map_err(
            |refusal| match refusal {
                ExternalsRefusal::Clock { .. } => Refused::Clock,
                ExternalsRefusal::Malformed(_)
                | ExternalsRefusal::UnknownNode(_)
                | ExternalsRefusal::Signature
                | ExternalsRefusal::Names => Refused::Malformed,
            },
        )?;
        if node.cert.transport != *peer || self.is_taken_back(station, &asked.node) {
            return Err(Refused::NotMember.into());
        }
        let before = page.externals(&asked.node)?.unwrap_or_default();
        if asked.seq < before.seq {
            return Err(Refused::Clock.into());
        }
        let gone = before.held.iter().filter(|one| !asked.names.contains(&one.name));
        rest_externals(page, &asked.node, gone, now)?;
        let externals = Externals { seq: asked.seq, held: address_all(page, station, &asked, now)? };
        page.put_externals(&asked.node, &externals)?;
        let prefixes = prefixes(station, &externals);
        if node.cert.prefixes == prefixes {
            return Ok((node, externals));
        }
        let cert = meshd_wire::record::NodeCert { prefixes, ..node.cert };
        Ok((self.issue(page, station, cert, now)?, externals))
    }
}

/// The prefixes that stand in a node's certificate for its externals.
pub(super) fn prefixes(station: &Station, externals: &Externals) -> Vec<Prefix> {
    let both = |one: &External| {
        let addr4 = Ipv4Addr::from(one.addr4);
        let addr6 = external_addr6(&station.mesh, station.subnet6, addr4);
        [Prefix::v4(addr4, 32), Prefix { addr: addr6.octets().to_vec(), len: 128 }]
    };
    externals.held.iter().flat_map(both).collect()
}

/// Holds names and addresses of a node's externals for as long as its certificate, and a rest, last.
pub(super) fn hold_externals(page: &Page, node: &NodeId, until: Timestamp) -> Result<(), Declined> {
    for External { name, addr4 } in page.externals(node)?.unwrap_or_default().held {
        let hold = Hold { node: external_id(node, &name), until };
        page.put_name(&name, &hold)?;
        page.put_address(u32::from_be_bytes(addr4), &hold)?;
    }
    Ok(())
}

/// Takes back what the externals of a node that leaves have held.
pub(super) fn release_externals(page: &Page, node: &NodeId, now: Timestamp) -> Result<(), Declined> {
    rest_externals(page, node, page.externals(node)?.unwrap_or_default().held.iter(), now)?;
    Ok(page.remove_externals(node)?)
}

/// Frees names, and lets addresses rest before somebody else gets them.
fn rest_externals<'a>(
    page: &Page,
    node: &NodeId,
    gone: impl Iterator<Item = &'a External>,
    now: Timestamp,
) -> Result<(), Declined> {
    for External { name, addr4 } in gone {
        let hold = Hold { node: external_id(node, name), until: now.plus(ADDRESS_REST_S) };
        page.put_address(u32::from_be_bytes(*addr4), &hold)?;
        page.remove_name(name)?;
    }
    Ok(())
}

/// Each name with the address it had, or the lowest that is free.
fn address_all(
    page: &Page,
    station: &Station,
    asked: &NodeExternals,
    now: Timestamp,
) -> Result<Vec<External>, Declined> {
    let prefix = prefix4(station).ok_or(Refused::Unavailable)?;
    let mut holds: BTreeMap<u32, Hold> = page.addresses()?.into_iter().collect();
    let mut held = Vec::new();
    for name in &asked.names {
        let id = external_id(&asked.node, name);
        if page.name(name)?.is_some_and(|hold| hold.excludes(&id, now)) {
            return Err(Refused::NameTaken.into());
        }
        let had = holds.iter().find(|(_, hold)| hold.node == id).map(|(address, _)| Ipv4Addr::from(*address));
        let free = || {
            let holds = holds.iter().map(|(address, hold)| (*address, *hold));
            decide::lowest_free_address(prefix, holds, &id, now)
        };
        let addr4 = had.or_else(free).ok_or(Refused::NoAddress)?;
        let until = now.plus(ADDRESS_REST_S);
        holds.insert(addr4.into(), Hold { node: id, until });
        held.push(External { name: name.clone(), addr4: addr4.octets() });
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use meshd_trust::{EXTERNALS_MAX, Standing};
    use meshd_wire::enrol::EnrolRequest;
    use meshd_wire::record::NodeCert;

    use super::super::decide::DAY_S;
    use super::super::fixture::{EXPORTER, Home, NOW, cert_of, refusal_of, secrets};
    use super::*;

    /// Asks as the host with a number, over its own connection.
    fn ask(home: &mut Home, number: u16, seq: u64, names: &[&str], now: Timestamp) -> Answer {
        ask_over(home, number, number, seq, names, now)
    }

    fn ask_over(
        home: &mut Home,
        number: u16,
        connection: u16,
        seq: u64,
        names: &[&str],
        now: Timestamp,
    ) -> Answer {
        let names = names.iter().map(ToString::to_string).collect();
        let claim = secrets(number).sign_externals(&home.mesh, seq, names, now).to_bytes();
        let peer = secrets(connection).transport().public();
        home.steward.answer(&peer, &EXPORTER, &EnrolRequest::Claim { claim }, now)
    }

    /// The certificate and the last byte of each IPv4 address given.
    fn given(answer: &Answer) -> (NodeCert, Vec<(String, u8)>) {
        let EnrolReply::Claimed { cert, externals } = &answer.reply else {
            panic!("refused: {:?}", answer.reply)
        };
        let cert = Envelope::from_bytes(cert).expect("envelope").record().expect("certificate");
        (cert, externals.iter().map(|one| (one.name.clone(), one.addr4[3])).collect())
    }

    fn named(pairs: &[(&str, u8)]) -> Vec<(String, u8)> {
        pairs.iter().map(|(name, last)| ((*name).to_owned(), *last)).collect()
    }

    #[test]
    fn externals_get_addresses_that_every_node_believes() {
        let mut home = Home::found(1, 16);
        let admitted = home.admit(&secrets(1), "one");
        let answer = ask(&mut home, 1, 1, &["phone", "router"], NOW);
        let (cert, externals) = given(&answer);
        assert_eq!(externals, named(&[("phone", 2), ("router", 3)]));
        let mut roster = home.roster(NOW);
        for record in admitted.publish.iter().chain(&answer.publish) {
            roster.accept(record, NOW).expect("verifies");
        }
        let node = secrets(1).node();
        assert_eq!(roster.standing(&node, NOW), Standing::InForce);
        let prefixes: Vec<String> = cert.prefixes.iter().filter_map(Prefix::parts).map(text).collect();
        assert_eq!((prefixes[0].as_str(), prefixes[2].as_str()), ("10.91.0.2/32", "10.91.0.3/32"));
        assert!(prefixes[1].ends_with(":1::a5b:2/128") && prefixes[3].ends_with(":1::a5b:3/128"));
        assert_eq!(roster.node(&node).expect("node").cert(), &cert);
    }

    fn text((addr, len): (std::net::IpAddr, u8)) -> String {
        format!("{addr}/{len}")
    }

    #[test]
    fn a_lost_answer_is_given_again() {
        let mut home = Home::found(1, 16);
        home.admit(&secrets(1), "one");
        let first = ask(&mut home, 1, 1, &["phone"], NOW);
        for (seq, now) in [(1, NOW), (2, NOW.plus(3600))] {
            let again = ask(&mut home, 1, seq, &["phone"], now);
            assert_eq!(again.reply, first.reply);
        }
        // Another set in between leaves the others where they are.
        assert_eq!(
            given(&ask(&mut home, 1, 3, &["alpha", "phone"], NOW)).1,
            named(&[("alpha", 3), ("phone", 2)])
        );
    }

    #[test]
    fn an_older_set_never_replaces_a_newer_one() {
        let mut home = Home::found(1, 16);
        home.admit(&secrets(1), "one");
        given(&ask(&mut home, 1, 7, &["phone"], NOW));
        assert_eq!(refusal_of(&ask(&mut home, 1, 6, &[], NOW)), Some(Refused::Clock));
        assert_eq!(given(&ask(&mut home, 1, 8, &["phone"], NOW)).1, named(&[("phone", 2)]));
    }

    #[test]
    fn a_name_that_is_left_out_is_free_and_its_address_rests() {
        let mut home = Home::found(1, 16);
        home.admit(&secrets(1), "one");
        home.admit(&secrets(2), "two");
        given(&ask(&mut home, 1, 1, &["phone"], NOW));
        let (cert, externals) = given(&ask(&mut home, 1, 2, &[], NOW));
        assert_eq!((cert.prefixes, externals), (Vec::new(), Vec::new()));
        let elsewhere = ask(&mut home, 2, 1, &["phone"], NOW.plus(60));
        assert_eq!(given(&elsewhere).1, named(&[("phone", 4)]));
        // Who had the address gets it back as long as it rests.
        assert_eq!(refusal_of(&ask(&mut home, 1, 3, &["phone"], NOW)), Some(Refused::NameTaken));
        given(&ask(&mut home, 2, 2, &[], NOW.plus(60)));
        assert_eq!(given(&ask(&mut home, 1, 3, &["phone"], NOW.plus(60))).1, named(&[("phone", 3)]));
        given(&ask(&mut home, 1, 4, &[], NOW.plus(60)));
        let later = NOW.plus(60 + 7 * DAY_S);
        assert_eq!(given(&ask(&mut home, 2, 3, &["b"], later)).1, named(&[("b", 5)]));
        assert_eq!(given(&ask(&mut home, 2, 4, &["b", "c"], later.plus(1))).1, named(&[("b", 5), ("c", 3)]));
    }

    #[test]
    fn names_are_unique_among_nodes_and_externals() {
        let mut home = Home::found(1, 16);
        home.admit(&secrets(1), "one");
        home.admit(&secrets(2), "two");
        for name in ["one", "two"] {
            assert_eq!(refusal_of(&ask(&mut home, 1, 1, &[name], NOW)), Some(Refused::NameTaken));
        }
        given(&ask(&mut home, 1, 1, &["phone"], NOW));
        assert_eq!(refusal_of(&ask(&mut home, 2, 1, &["phone"], NOW)), Some(Refused::NameTaken));
        assert_eq!(refusal_of(&home.admit(&secrets(3), "phone")), Some(Refused::NameTaken));
        // What was refused has changed nothing.
        assert_eq!(given(&ask(&mut home, 2, 1, &["tablet"], NOW)).1, named(&[("tablet", 4)]));
    }

    #[test]
    fn a_node_asks_for_itself_alone() {
        let mut home = Home::found(1, 16);
        home.admit(&secrets(1), "one");
        home.admit(&secrets(2), "two");
        assert_eq!(refusal_of(&ask(&mut home, 3, 1, &["phone"], NOW)), Some(Refused::NotMember));
        let foreign = ask_over(&mut home, 1, 2, 1, &["phone"], NOW);
        assert_eq!(refusal_of(&foreign), Some(Refused::NotMember));
        let forged = NodeExternals {
            version: 1,
            node: secrets(1).node(),
            seq: 1,
            issued_at: NOW,
            names: vec!["phone".into()],
        };
        let claim = meshd_trust::sign(&forged, &home.mesh, &[&secrets(2).identity()]).to_bytes();
        let own = secrets(1).transport().public();
        let answer = home.steward.answer(&own, &EXPORTER, &EnrolRequest::Claim { claim }, NOW);
        assert_eq!(refusal_of(&answer), Some(Refused::Malformed));
        let claim = secrets(1).sign_externals(&home.mesh, 1, Vec::new(), NOW).to_bytes();
        let late = home.steward.answer(&own, &EXPORTER, &EnrolRequest::Claim { claim }, NOW.plus(301));
        assert_eq!(refusal_of(&late), Some(Refused::Clock));
    }

    #[test]
    fn there_are_as_many_as_a_certificate_holds_and_the_prefix_has_room_for() {
        let mut home = Home::found(1, 16);
        home.admit(&secrets(1), "one");
        let names: Vec<String> = (0..=EXTERNALS_MAX).map(|number| format!("x{number:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(refusal_of(&ask(&mut home, 1, 1, &names, NOW)), Some(Refused::Malformed));
        let answer = ask(&mut home, 1, 1, &names[1..], NOW);
        assert_eq!(given(&answer).0.prefixes.len(), 2 * EXTERNALS_MAX);
        let mut roster = home.roster(NOW);
        for record in &answer.publish {
            roster.accept(record, NOW).expect("verifies");
        }
        let mut narrow = Home::found(1, 30);
        narrow.admit(&secrets(1), "one");
        assert_eq!(refusal_of(&ask(&mut narrow, 1, 1, &["a", "b"], NOW)), Some(Refused::NoAddress));
        assert_eq!(given(&ask(&mut narrow, 1, 1, &["b"], NOW)).1, named(&[("b", 2)]));
    }

    #[test]
    fn externals_live_as_long_as_their_node() {
        let mut home = Home::found(1, 16);
        home.admit(&secrets(1), "one");
        home.admit(&secrets(2), "two");
        let (before, _) = given(&ask(&mut home, 1, 1, &["phone"], NOW));
        let later = NOW.plus(4 * DAY_S);
        let renewal = EnrolRequest::Renew { request: home.request(&secrets(1), "one", later) };
        let own = secrets(1).transport().public();
        let renewed = home.steward.answer(&own, &EXPORTER, &renewal, later);
        let cert: NodeCert =
            Envelope::from_bytes(&cert_of(&renewed)).expect("envelope").record().expect("record");
        assert!(cert.not_after > before.not_after && cert.prefixes == before.prefixes);
        // The name is held beyond the first certificate, and the sweep leaves all of it.
        let much_later = NOW.plus(10 * DAY_S);
        home.steward.state(much_later).expect("sweeps");
        assert_eq!(refusal_of(&ask(&mut home, 2, 1, &["phone"], much_later)), Some(Refused::NameTaken));
        let leave = secrets(1).sign_leave(&home.mesh, much_later).to_bytes();
        home.steward.answer(&own, &EXPORTER, &EnrolRequest::Leave { leave }, much_later);
        assert_eq!(refusal_of(&ask(&mut home, 1, 2, &["phone"], much_later)), Some(Refused::NotMember));
        assert_eq!(given(&ask(&mut home, 2, 1, &["phone"], much_later)).1, named(&[("phone", 4)]));
    }

    #[test]
    fn a_book_of_an_earlier_release_takes_them_too() {
        let mut home = Home::found(1, 16);
        home.admit(&secrets(1), "one");
        home.steward.book.forget_externals_table();
        given(&ask(&mut home, 1, 1, &["phone"], NOW));
        home.steward.state(NOW.plus(2 * 3600)).expect("sweeps");
    }
}
