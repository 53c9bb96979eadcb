//! Keys on the wire, held against the logs.

use meshd_audit::{FindingReport, Journal, Logged, ObservedReport, Report, Sighting, Verdict, observed};
use meshd_wire::{NodeId, Timestamp};

use crate::made::{Mesh, PERIOD, START, tunnel_key};

/// Clocks may differ by this much.
const CLOCKS: u64 = 300;

#[test]
fn keys_that_were_logged_are_clean_while_they_were_in_use() {
    let mesh = Mesh::lived(2, 2);
    let journal = Journal { sightings: all(&mesh), ..journal(&mesh) };
    let found = observe(&mesh, &journal);
    assert_eq!((found.verdict, found.audit), (Verdict::Clean, Verdict::Clean), "{found:#?}");
    assert_eq!(found.keys.len(), 9, "three nodes with three keys each");
    assert!(found.keys.iter().all(|key| key.state == Logged::Logged && key.exceptions.is_empty()));
    assert_eq!(found.keys[0].name, "scanner", "the name that the log has");
    assert_eq!(found.keys[0].org, "clinic");
}

#[test]
fn a_key_that_no_log_names_is_unlogged() {
    let mesh = Mesh::lived(2, 2);
    let right = sighting(&mesh, 0, 2);
    let node = |number: usize| mesh.nodes[number].id;
    for (wrong, what) in [
        (Sighting { key: tunnel_key(&node(0), 99), ..right.clone() }, "another key on the wire than"),
        (Sighting { epoch: 99, key: tunnel_key(&node(0), 99), ..right.clone() }, "that no log names"),
        (Sighting { key: tunnel_key(&node(0), 3), ..right.clone() }, "logged as epoch 3 of scanner"),
        (Sighting { node: node(1), ..right.clone() }, "logged as epoch 2 of scanner"),
        (Sighting { node: NodeId([7; 32]), ..right.clone() }, "logged as epoch 2 of scanner"),
        (Sighting { org: mesh.orgs[1].id, ..right.clone() }, "logged as epoch 2 of scanner"),
    ] {
        let journal = Journal { sightings: vec![wrong.clone()], ..journal(&mesh) };
        let found = observe(&mesh, &journal);
        assert_eq!((found.verdict, codes(&found)), (Verdict::Findings, vec!["UNLOGGED"]), "{wrong:?}");
        assert_eq!((found.keys[0].state, found.audit), (Logged::Unlogged, Verdict::Clean));
        assert_eq!(found.keys[0].exceptions, ["UNLOGGED"]);
        assert!(found.findings[0].text.contains(what), "{}", found.findings[0].text);
        assert_eq!(found.findings[0].time, Some(wrong.first.0));
    }
}

#[test]
fn who_has_pushed_out_its_own_keys_is_named() {
    let mesh = Mesh::lived(1, 2);
    let seen = sighting(&mesh, 0, 2);
    for (rows, forgotten, is_named) in [(256, 1, true), (255, 1, false), (256, 0, false)] {
        let journal = Journal { sightings: vec![seen.clone(); rows], forgotten, ..journal(&mesh) };
        let found = observe(&mesh, &journal);
        assert_eq!(codes(&found).contains(&"FORGOTTEN"), is_named, "{rows} {forgotten}");
    }
    let at = Timestamp(seen.first.0 + 31 * 86_400);
    let journal = Journal { sightings: vec![seen; 256], forgotten: 1, at, ..journal(&mesh) };
    assert!(!codes(&observe(&mesh, &journal)).contains(&"FORGOTTEN"), "they were pushed out by age");
}

#[test]
fn a_log_that_is_torn_accuses_nobody() {
    let mesh = Mesh::lived(1, 2);
    let mut report = mesh.report();
    let seen = sighting(&mesh, 0, 2);
    report.logs[0].keys.retain(|key| key.epoch != seen.epoch);
    let journal = Journal { sightings: vec![seen], ..journal(&mesh) };
    assert_eq!(codes(&observed(&report, &journal).expect("compared")), ["UNLOGGED"]);
    let finding = FindingReport {
        code: "MISSING".to_owned(),
        severity: Verdict::Incomplete,
        leaf: None,
        time: None,
        subject: None,
        name: None,
        epoch: None,
        text: String::new(),
    };
    report.logs[0].findings.push(finding);
    let found = observed(&report, &journal).expect("compared");
    assert_eq!((codes(&found), found.verdict), (vec!["UNSEEN"], Verdict::Incomplete));
}

#[test]
fn a_key_that_is_first_logged_when_it_is_given_up_is_late() {
    let mesh = Mesh::lived(1, 2);
    let mut report = mesh.report();
    let seen = sighting(&mesh, 0, 2);
    let key = report.logs[0].keys.iter_mut().find(|key| key.epoch == 2 && key.node == seen.node.to_string());
    let key = key.expect("a key");
    (key.announced, key.active_from) = (None, None);
    key.compromised = Some(seen.last.0 + CLOCKS + 1);
    let found = observed(&report, &Journal { sightings: vec![seen], ..journal(&mesh) }).expect("compared");
    assert_eq!(codes(&found), ["LATE-LOG"]);
}

#[test]
fn a_key_that_may_still_be_logged_is_no_finding_yet() {
    let mesh = Mesh::lived(1, 1);
    for (before, code, verdict, state) in [
        (CLOCKS, "UNLOGGED", Verdict::Findings, Logged::Unlogged),
        (CLOCKS - 1, "RECENT", Verdict::Incomplete, Logged::TooNew),
        (0, "RECENT", Verdict::Incomplete, Logged::TooNew),
    ] {
        let first = Timestamp(mesh.now - before);
        let new =
            Sighting { epoch: 99, key: tunnel_key(&mesh.nodes[0].id, 99), first, ..sighting(&mesh, 0, 2) };
        let found = observe(&mesh, &Journal { sightings: vec![new], ..journal(&mesh) });
        assert_eq!((found.verdict, codes(&found)), (verdict, vec![code]), "{before}");
        assert_eq!(found.keys[0].state, state);
    }
    // A bundle that was made before the key was seen.
    let first = Timestamp(mesh.now + PERIOD);
    let later =
        Sighting { epoch: 99, key: tunnel_key(&mesh.nodes[0].id, 99), first, ..sighting(&mesh, 0, 2) };
    let found = observe(&mesh, &Journal { sightings: vec![later], ..journal(&mesh) });
    assert_eq!(codes(&found), ["RECENT"]);
}

#[test]
fn a_key_is_used_from_its_announcement_until_it_is_destroyed() {
    let mesh = Mesh::lived(1, 2);
    let report = mesh.report();
    let key = |epoch: u32| {
        let of_scanner = report.logs[0].keys.iter().find(|key| key.name == "scanner" && key.epoch == epoch);
        of_scanner.expect("a key").clone()
    };
    let announced = key(2).announced.expect("announced");
    let destroyed = key(2).destroyed.expect("destroyed");
    assert!(announced < key(2).active_from.expect("used"));
    let at = |first: u64, last: u64| -> Vec<String> {
        let (first, last) = (Timestamp(first), Timestamp(last));
        let one = Sighting { first, last, ..sighting(&mesh, 0, 2) };
        let found = observe(&mesh, &Journal { sightings: vec![one], ..journal(&mesh) });
        let codes = codes(&found).into_iter().map(str::to_owned).collect();
        assert_eq!(found.keys[0].exceptions, codes);
        codes
    };
    assert_eq!(at(announced - CLOCKS, destroyed + CLOCKS), Vec::<String>::new());
    assert_eq!(at(announced - CLOCKS - 1, destroyed), ["LATE-LOG"]);
    assert_eq!(at(announced, destroyed + CLOCKS + 1), ["UNDESTROYED"]);
    assert_eq!(at(announced - 1000, destroyed + 1000), ["LATE-LOG", "UNDESTROYED"]);
}

#[test]
fn a_revoked_node_and_a_stolen_key_are_not_seen_again() {
    use meshd_wire::LeafKind::KeyCompromised;
    let mesh = Mesh::lived(1, 2);
    let revoked = mesh.report().logs[0].nodes[0].revoked.expect("archive was revoked");
    let of_archive = |last: u64| {
        let one = Sighting { last: Timestamp(last), ..sighting(&mesh, 1, 3) };
        let found = observe(&mesh, &Journal { sightings: vec![one], ..journal(&mesh) });
        codes(&found).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(of_archive(revoked + CLOCKS), Vec::<String>::new());
    assert_eq!(of_archive(revoked + CLOCKS + 1), ["ORPHAN-REVOKE"]);

    let mut mesh = Mesh::new("care", 1);
    let node = mesh.enrol("scanner", 0);
    mesh.now += 1000;
    mesh.about(node, KeyCompromised, Some(1));
    mesh.checkpoint();
    mesh.now += 2000;
    let stolen = Sighting { last: Timestamp(mesh.now), ..sighting(&mesh, node, 1) };
    let found = observe(&mesh, &Journal { sightings: vec![stolen], ..journal(&mesh) });
    assert_eq!(codes(&found), ["UNDESTROYED"]);
}

#[test]
fn without_the_log_of_an_organisation_its_keys_are_not_judged() {
    let mesh = Mesh::lived(2, 1);
    let report = mesh_report(&mesh, 1);
    let journal = Journal { sightings: all(&mesh), ..journal(&mesh) };
    let found = observed(&report, &journal).expect("compared");
    assert_eq!((found.verdict, codes(&found)), (Verdict::Incomplete, vec!["ABSENT"]));
    assert_eq!(found.findings[0].name.as_deref(), Some("institute"), "once, by its name");
    let unknown = found.keys.iter().filter(|key| key.state == Logged::NoLog).count();
    assert_eq!(unknown, 2, "both keys of the reader");
    assert!(found.keys.iter().filter(|key| key.org == "clinic").all(|key| key.state == Logged::Logged));
}

#[test]
fn keys_of_plain_wireguard_peers_are_listed_and_nothing_else() {
    let mesh = Mesh::lived(1, 1);
    let plain = Sighting {
        node: NodeId([8; 32]),
        name: "phone".to_owned(),
        is_external: true,
        epoch: 0,
        key: tunnel_key(&NodeId([8; 32]), 0),
        has_psk: true,
        ..sighting(&mesh, 0, 1)
    };
    let found = observe(&mesh, &Journal { sightings: vec![plain], ..journal(&mesh) });
    assert_eq!((found.verdict, found.keys[0].state), (Verdict::Clean, Logged::External));
    assert_eq!((found.keys[0].name.as_str(), found.keys[0].psk), ("phone", true));
}

#[test]
fn the_verdict_is_that_of_the_whole_audit() {
    let mesh = Mesh::lived(1, 1);
    let report = mesh.audit_at(&[mesh.orgs[0].dir()], mesh.now + 3 * PERIOD);
    assert_eq!(report.verdict, Verdict::Findings, "a key is overdue");
    let clean = Journal { sightings: vec![sighting(&mesh, 0, 1)], ..journal(&mesh) };
    let found = observed(&report, &clean).expect("compared");
    assert_eq!((found.verdict, found.audit, codes(&found)), (Verdict::Findings, Verdict::Findings, vec![]));
}

#[test]
fn the_journal_of_another_mesh_is_not_compared() {
    let mesh = Mesh::lived(1, 1);
    let other = Journal { mesh: Mesh::lived(2, 0).id, ..journal(&mesh) };
    assert!(observed(&mesh.report(), &other).is_err());
}

fn observe(mesh: &Mesh, journal: &Journal) -> ObservedReport {
    observed(&mesh.report(), journal).expect("compared")
}

/// The audit of the log of so many organisations.
fn mesh_report(mesh: &Mesh, count: usize) -> Report {
    let dirs: Vec<_> = mesh.orgs.iter().take(count).map(crate::made::Org::dir).collect();
    mesh.audit(&dirs)
}

/// The journal of the first node, empty.
fn journal(mesh: &Mesh) -> Journal {
    Journal {
        mesh: mesh.id,
        node: mesh.nodes[0].id,
        name: "scanner".to_owned(),
        at: Timestamp(mesh.now),
        since: Timestamp(START),
        forgotten: 0,
        sightings: Vec::new(),
    }
}

/// All keys that the nodes ever had, each while it was in use.
fn all(mesh: &Mesh) -> Vec<Sighting> {
    let of =
        |node: usize| (1..=mesh.nodes[node].keys.cur.epoch).map(move |epoch| sighting(mesh, node, epoch));
    (0..mesh.nodes.len()).flat_map(of).collect()
}

/// A key of a node, seen for a minute after it came into use.
fn sighting(mesh: &Mesh, node: usize, epoch: u32) -> Sighting {
    let id = mesh.nodes[node].id;
    let report = mesh.report();
    let mut keys = report.logs.iter().flat_map(|log| &log.keys);
    let from =
        keys.find(|key| key.node == id.to_string() && key.epoch == epoch).and_then(|key| key.active_from);
    let from = from.expect("a key that was used");
    Sighting {
        node: id,
        name: String::new(),
        org: mesh.orgs[mesh.nodes[node].org].id,
        is_external: false,
        epoch,
        key: tunnel_key(&id, epoch),
        suite: "wg".to_owned(),
        has_psk: false,
        first: Timestamp(from),
        last: Timestamp(from + 60),
        handshakes: 2,
    }
}

fn codes(found: &ObservedReport) -> Vec<&str> {
    found.findings.iter().map(|finding| finding.code.as_str()).collect()
}
