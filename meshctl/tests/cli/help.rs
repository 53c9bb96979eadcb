//! Help, manual and completions.

use crate::{Run, meshctl_in};

fn run(args: &[&str]) -> Run {
    meshctl_in(&std::env::temp_dir(), args)
}

#[test]
fn every_verb_explains_itself() {
    const VERBS: [&[&str]; 47] = [
        &[],
        &["mesh"],
        &["mesh", "create"],
        &["mesh", "draft"],
        &["mesh", "sign"],
        &["org"],
        &["org", "create"],
        &["steward"],
        &["steward", "show"],
        &["steward", "renew"],
        &["invite"],
        &["join"],
        &["admit"],
        &["leave"],
        &["revoke"],
        &["status"],
        &["peers"],
        &["peer"],
        &["peer", "add-external"],
        &["peer", "list-external"],
        &["peer", "remove-external"],
        &["audit"],
        &["audit", "verify"],
        &["audit", "key"],
        &["audit", "overdue"],
        &["audit", "observed"],
        &["audit", "as-of"],
        &["audit", "watch"],
        &["audit", "split-view"],
        &["audit", "export"],
        &["audit", "bundle"],
        &["audit", "verify-bundle"],
        &["network"],
        &["network", "create"],
        &["network", "list"],
        &["network", "remove"],
        &["attach"],
        &["detach"],
        &["endpoints"],
        &["endpoints", "gc"],
        &["ping"],
        &["watch"],
        &["wait"],
        &["config"],
        &["config", "show"],
        &["completions"],
        &["man"],
    ];
    for verb in VERBS {
        let mut args = verb.to_vec();
        args.push("--help");
        let run = run(&args);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{verb:?}");
        let name = if verb.is_empty() { "meshctl".to_owned() } else { verb.join("-") };
        insta::assert_snapshot!(format!("help-{name}"), run.stdout);
    }
}

#[test]
fn the_manual_names_every_exit_code() {
    let page = run(&["man"]).stdout;
    for exit in meshd_api::Exit::ALL {
        let words = exit.meaning().replace('\'', "\\*(Aq");
        assert!(page.contains(&words) || page.contains(exit.meaning()), "{words}\n{page}");
    }
}

#[test]
fn a_manual_page_a_verb_goes_into_a_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = meshctl_in(dir.path(), &["man", "."]);
    assert_eq!(run.code, 0, "{run:?}");
    for page in ["meshctl.1", "meshctl-peers.1", "meshctl-mesh-create.1", "meshctl-peer-add-external.1"] {
        assert!(dir.path().join(page).is_file(), "{page}");
    }
}

#[test]
fn completions_know_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).stdout;
        assert!(script.contains("invite") && script.contains("passphrase-file"), "{shell}");
    }
}

#[test]
fn a_wrong_call_ends_with_its_own_code() {
    for args in [
        &["fly"][..],
        &[],
        &["ping"],
        &["ping", "b", "-c", "0"],
        &["join"],
        &["join", "TOKEN", "--import", "FILE"],
        &["join", "--request", "FILE"],
        &["wait", "b", "--peers", "3"],
        &["wait", "--timeout", "30"],
        &["invite", "--label", "Role"],
        &["mesh", "create"],
        &["mesh", "create", "../lab"],
        &["mesh", "create", "lab", "--prefix", "10.91.0.1/16"],
        &["mesh", "create", "--genesis", "FILE"],
        &["mesh", "create", "lab", "--genesis", "FILE", "--root-key", "FILE"],
        &["mesh", "draft", "lab"],
        &["peer"],
        &["peer", "add-external"],
        &["peer", "add-external", "Phone"],
        &["peer", "add-external", "phone", "--psk", "--no-psk"],
        &["peer", "add-external", "phone", "--public-key", "short"],
        &["peer", "add-external", "phone", "--endpoint", "host"],
        &["peer", "add-external", "phone", "--allowed", "10.91.0.0/33"],
        &["peer", "remove-external"],
        &["network"],
        &["network", "create", "lab"],
        &["network", "create", "lab", "--subnet", "10.91.128.1/20"],
        &["network", "create", "lab", "--subnet", "10.91.128.0/20", "--alloc", "random"],
        &["network", "create", "lab", "--subnet", "10.91.128.0/20,10.91.64.0/20"],
        &["network", "remove"],
        &["attach"],
        &["attach", "--netns", "/run/netns/x", "--pid", "1"],
        &["attach", "--pid", "0"],
        &["attach", "--pid", "1", "--ifname", "a-name-too-long-by-far"],
        &["attach", "--pid", "1", "--ip", "10.91.128.5/20"],
        &["attach", "--pid", "1", "--ip", "10.91.128.5", "--ip", "10.91.128.6"],
        &["attach", "--netns", "no/such/namespace"],
        &["detach"],
    ] {
        let run = run(args);
        assert_eq!(run.code, 2, "{args:?}: {run:?}");
        assert_eq!(run.stdout, "", "{args:?}");
    }
}
