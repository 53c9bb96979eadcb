//! The plugin's socket and process.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::json;

use crate::rig::{Rig, ids};

#[test]
fn the_socket_is_for_root_alone() {
    let rig = Rig::new();
    let mode = rig.socket().metadata().expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_second_plugin_at_the_same_socket_leaves_the_first_alone() {
    let rig = Rig::new();
    let second = rig.second().wait_with_output().expect("an end");
    assert_eq!(second.status.code(), Some(1));
    let words = String::from_utf8_lossy(&second.stderr);
    assert!(words.contains("another meshd-docker answers there"), "{words}");
    rig.done("Plugin.Activate", &json!({}));
}

#[test]
fn a_killed_plugin_is_replaced_and_docker_finds_its_endpoints_again() {
    let (mut rig, daemon) = Rig::with_network(&json!({}));
    rig.done("NetworkDriver.CreateEndpoint", &crate::rig::endpoint());
    rig.plugin().kill().expect("a kill");
    rig.plugin().wait().expect("an end");
    assert!(rig.socket().exists(), "Docker asks again while the socket refuses");
    rig.start_again();
    rig.done("NetworkDriver.Join", &ids());
    rig.done("NetworkDriver.DeleteEndpoint", &ids());
    assert_eq!(daemon.attached(), []);
}

#[test]
fn it_ends_in_order_and_answers_what_came_before() {
    let mut rig = Rig::new();
    let idle = UnixStream::connect(rig.socket()).expect("a connection");
    let pid = rig.plugin().id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    assert_eq!(rig.plugin().wait().expect("an end").code(), Some(0));
    assert!(rig.socket().exists());
    drop(idle);
}
