//! What follows the rules has no findings.

use std::num::NonZeroUsize;

use meshd_audit::{Bundle, Report, Terms, Verdict, audit};

use crate::made::{Mesh, Org, PERIOD, START, codes, terms};

#[test]
fn logs_of_two_organisations_are_clean() {
    let mesh = Mesh::lived(2, 3);
    let report = mesh.report();
    assert_eq!((report.verdict, codes(&report)), (Verdict::Clean, vec![]), "{report:#?}");
    assert_eq!(report.logs.len(), 2);
    assert_eq!(report.mesh_name, "care");
    let log = &report.logs[0];
    assert_eq!(log.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["archive", "scanner"]);
    assert_eq!(log.keys.len(), 8);
    assert!(log.keys.iter().all(|key| key.exceptions.is_empty()));
    assert_eq!(log.checkpoints[0].cosigned.len(), 1);
}

#[test]
fn a_log_of_several_tiles_is_clean_in_its_bundle() {
    let mesh = Mesh::lived(1, 50);
    assert!(mesh.orgs[0].leaves.len() > 256);
    let bytes = mesh.bundle();
    let report = audit_bundle(&bytes, &mesh);
    assert_eq!((report.verdict, codes(&report)), (Verdict::Clean, vec![]));
    assert_eq!(report, mesh.report(), "a bundle tells what the directory tells");
    assert_eq!(bytes, mesh.bundle(), "there is one bundle of a log");
}

#[test]
fn partial_files_may_be_gone_where_a_wider_one_is_there() {
    let mesh = Mesh::lived(1, 2);
    let mut later = mesh.clone();
    later.now += PERIOD;
    later.announce(0, 4);
    later.checkpoint();
    let mut dir = later.orgs[0].dir();
    // A checkpoint that lags behind the files.
    let note = mesh.orgs[0].notes.last_key_value().expect("a note").1.clone();
    dir.0.retain(|path, _| !path.starts_with("checkpoint"));
    dir.0.insert("checkpoint".to_owned(), note.into_bytes());
    let report = mesh.audit(std::slice::from_ref(&dir));
    assert_eq!((report.verdict, codes(&report)), (Verdict::Clean, vec![]), "{report:#?}");
    assert_eq!(mesh.bundle_of(&[dir]), {
        let mut short = mesh.orgs[0].dir();
        short.0.retain(|path, _| !path.starts_with("checkpoints/"));
        mesh.bundle_of(&[short])
    });
}

#[test]
fn an_aborted_rotation_is_no_gap() {
    let mut mesh = Mesh::new("care", 1);
    let node = mesh.enrol("scanner", 0);
    mesh.announce(node, 2);
    mesh.destroy(node, 2);
    mesh.announce(node, 3);
    mesh.activate(node, 3);
    mesh.destroy(node, 1);
    // Lost before anybody heard of it: only its end is told.
    mesh.destroy(node, 4);
    mesh.announce(node, 5);
    mesh.activate(node, 5);
    mesh.destroy(node, 3);
    mesh.checkpoint();
    let report = mesh.report();
    assert_eq!(codes(&report), Vec::<String>::new(), "{report:#?}");
    let states: Vec<&str> = report.logs[0].keys.iter().map(meshd_audit::KeyReport::state).collect();
    assert_eq!(states, ["destroyed", "not used, destroyed", "destroyed", "not used, destroyed", "in use"]);
}

#[test]
fn a_leaf_that_is_said_again_is_no_reuse() {
    let mut mesh = Mesh::new("care", 1);
    let node = mesh.enrol("scanner", 0);
    mesh.about(node, meshd_wire::LeafKind::RotateActivate, Some(1));
    mesh.announce(node, 2);
    mesh.about(node, meshd_wire::LeafKind::RotateAnnounce, Some(2));
    mesh.publish(node);
    mesh.about(node, meshd_wire::LeafKind::RotateAnnounce, Some(2));
    mesh.activate(node, 2);
    mesh.about(node, meshd_wire::LeafKind::RotateActivate, Some(2));
    mesh.destroy(node, 1);
    mesh.about(node, meshd_wire::LeafKind::KeyDestroy, Some(1));
    mesh.checkpoint();
    assert_eq!(codes(&mesh.report()), Vec::<String>::new());
}

#[test]
fn a_key_that_is_replaced_at_once_breaks_no_rule() {
    use meshd_wire::LeafKind::{KeyCompromised, KeyDestroy, RotateActivate, StateRollback};
    for why in [Some(KeyCompromised), Some(StateRollback), None] {
        let mut mesh = Mesh::new("care", 1);
        let node = mesh.enrol("scanner", 0);
        let keys = &mut mesh.nodes[node].keys;
        keys.compromised = why == Some(KeyCompromised);
        keys.cur.epoch = 2;
        keys.cur.key = crate::made::tunnel_key(&keys.node, 2);
        mesh.publish(node);
        mesh.about(node, KeyDestroy, Some(1));
        if let Some(why) = why {
            mesh.about(node, why, Some(if why == KeyCompromised { 1 } else { 2 }));
        }
        mesh.about(node, RotateActivate, Some(2));
        mesh.checkpoint();
        let report = mesh.report();
        assert_eq!(codes(&report), Vec::<String>::new(), "{why:?}: {report:#?}");
        assert_eq!(report.logs[0].keys[1].active_from, Some(START));
    }
}

#[test]
fn who_was_a_member_is_told_for_every_moment() {
    let mesh = Mesh::lived(1, 2);
    let report = mesh.report();
    let log = &report.logs[0];
    let at = |time: u64| -> Vec<(String, Option<u32>)> {
        log.members_at(time).into_iter().map(|member| (member.name, member.epoch)).collect()
    };
    assert_eq!(at(START - 1), []);
    let both = |epoch| vec![("archive".to_owned(), Some(epoch)), ("scanner".to_owned(), Some(epoch))];
    assert_eq!(at(START), both(1));
    assert_eq!(at(START + PERIOD + 60), both(2));
    assert_eq!(at(mesh.now), [("scanner".to_owned(), Some(3))], "the other one was revoked");
    assert_eq!(at(mesh.now + 8 * 86_400), [], "certificates end");
}

#[test]
fn a_report_survives_json() {
    let report = Mesh::lived(2, 1).report();
    let json = serde_json::to_string(&report).expect("JSON");
    assert_eq!(serde_json::from_str::<Report>(&json).expect("a report"), report);
}

/// Audits a bundle by its mesh id.
pub fn audit_bundle(bytes: &[u8], mesh: &Mesh) -> Report {
    let bundle = Bundle::read(&bytes).expect("a bundle");
    let chain = bundle.chain(Some(mesh.id)).expect("a chain");
    let logs = bundle.logs();
    assert!(logs.iter().map(meshd_audit::BundleLog::org).eq({
        let mut orgs: Vec<_> = mesh.orgs.iter().map(|org: &Org| org.id).collect();
        orgs.sort();
        orgs
    }));
    let sources: Vec<_> = logs.iter().map(meshd_audit::BundleLog::source).collect();
    audit(chain, &sources, &terms(bundle.made().0), &mut |_, _| {}).expect("in memory")
}

#[test]
fn a_report_does_not_depend_on_threads() {
    for fixture in crate::fixtures::all() {
        let Ok(bundle) = Bundle::read(&fixture.bytes) else { continue };
        let report = |threads| {
            let chain = bundle.chain(Some(fixture.mesh)).ok()?;
            let logs = bundle.logs();
            let sources: Vec<_> = logs.iter().map(meshd_audit::BundleLog::source).collect();
            let terms = Terms { threads, ..terms(bundle.made().0) };
            Some(audit(chain, &sources, &terms, &mut |_, _| {}).expect("in memory"))
        };
        let threads = NonZeroUsize::new(3).expect("some");
        assert_eq!(report(threads), report(NonZeroUsize::MIN), "{}", fixture.name);
    }
}
