//! Plain WireGuard peers: what is asked of the daemon, and the configuration that is printed.

use std::os::unix::fs::PermissionsExt;

use crate::canned::{EXTERNAL_ADDED, EXTERNAL_REMOVED, EXTERNALS};
use crate::{Daemon, Run, meshctl};

const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

fn daemon() -> Daemon {
    Daemon::new().answer("/v1/external/add", 200, EXTERNAL_ADDED).answer(
        "/v1/external/remove",
        200,
        EXTERNAL_REMOVED,
    )
}

/// The value of a key in a configuration.
fn value<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    config.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
}

fn asked(daemon: &Daemon) -> serde_json::Value {
    serde_json::from_str(&daemon.asked("/v1/external/add")).expect("JSON")
}

#[test]
fn a_peer_with_a_key_of_its_own_gets_a_configuration_without_one() {
    let daemon = daemon();
    let run = meshctl(&daemon, &["peer", "add-external", "phone", "--public-key", KEY, "--no-psk"]);
    insta::assert_snapshot!(run.to_text());
    let request = format!(r#"{{"name":"phone","public_key":"{KEY}","preshared_key":null}}"#);
    assert_eq!(daemon.asked("/v1/external/add"), request);
}

#[test]
fn a_new_peer_gets_a_private_key_that_only_its_configuration_holds() {
    let daemon = daemon();
    let Run { stdout, code, .. } = meshctl(&daemon, &["peer", "add-external", "phone"]);
    assert_eq!(code, 0);
    let private = value(&stdout, "PrivateKey").expect("a private key");
    let psk = value(&stdout, "PresharedKey").expect("a preshared key");
    let asked = asked(&daemon);
    assert_eq!((private.len(), asked["preshared_key"].as_str()), (44, Some(psk)));
    assert_ne!(asked["public_key"], private);
    assert!(!daemon.asked("/v1/external/add").contains(private));
    let again = meshctl(&daemon, &["peer", "add-external", "phone"]).stdout;
    assert_ne!(value(&again, "PrivateKey"), Some(private));
}

#[test]
fn the_gateway_is_where_it_is_said_to_be_and_part_of_the_mesh_is_enough() {
    let line = ["peer", "add-external", "phone", "--endpoint", "vpn.example.org:4500"];
    let allowed = ["--allowed", "10.91.0.0/24,10.92.0.0/16", "--allowed", "fd12:3456:789a:1::/64"];
    let run = meshctl(&daemon(), &[&line[..], &allowed[..]].concat());
    assert_eq!(value(&run.stdout, "Endpoint"), Some("vpn.example.org:4500"));
    let expected = "10.91.0.0/24, 10.92.0.0/16, fd12:3456:789a:1::/64";
    assert_eq!(value(&run.stdout, "AllowedIPs"), Some(expected));
}

#[test]
fn what_lies_outside_of_the_mesh_is_refused_and_nothing_is_left() {
    let daemon = daemon();
    let run = meshctl(&daemon, &["peer", "add-external", "phone", "--allowed", "0.0.0.0/0"]);
    insta::assert_snapshot!(run.to_text());
    assert_eq!(daemon.asked("/v1/external/remove"), r#"{"name":"phone"}"#);
}

#[test]
fn a_phone_can_scan_what_is_printed() {
    let run = meshctl(&daemon(), &["peer", "add-external", "phone", "--qr"]);
    assert_eq!(run.code, 0);
    assert!(run.stdout.is_ascii() && value(&run.stdout, "PrivateKey").is_some());
    let code: Vec<&str> = run.stderr.lines().filter(|line| line.contains('█')).collect();
    assert!(code.len() > 20, "{}", run.stderr);
    let width = code[0].chars().count();
    // A quiet zone of four modules, and two rows of modules a line.
    assert!(code.iter().all(|line| line.chars().count() == width), "{}", run.stderr);
    assert!(width > 50 && code.len() * 2 >= width - 1, "{width} x {}", code.len());
}

#[test]
fn a_file_is_its_owners_alone_and_never_overwritten() {
    let daemon = daemon();
    let run = meshctl(&daemon, &["peer", "add-external", "phone", "--out", "phone.conf"]);
    assert_eq!(run.stdout, "phone has 10.91.0.5 and fd12:3456:789a:1::a5b:5, through a\n");
    let path = daemon.dir().join("phone.conf");
    let text = std::fs::read_to_string(&path).expect("a file");
    assert!(value(&text, "PrivateKey").is_some());
    assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let again = meshctl(&daemon, &["peer", "add-external", "phone", "--out", "phone.conf"]);
    assert_eq!(again.code, 7, "{again:?}");
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), text);
}

#[test]
fn programs_get_the_configuration_as_a_text_in_json() {
    let run = meshctl(&daemon(), &["--json", "peer", "add-external", "phone"]);
    let made: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(
        (made["schema"].as_str(), made["addr4"].as_str()),
        (Some("meshctl.external/1"), Some("10.91.0.5"))
    );
    assert!(made["config"].as_str().is_some_and(|config| value(config, "PrivateKey").is_some()), "{made}");
    assert_eq!(run.stderr, "");
}

#[test]
fn a_gateway_without_an_address_is_told() {
    let silent = EXTERNAL_ADDED.replace(r#""192.0.2.10:51820","[2001:db8::1]:51820""#, "");
    let daemon = Daemon::new().answer("/v1/external/add", 200, &silent);
    let run = meshctl(&daemon, &["peer", "add-external", "phone"]);
    assert_eq!((run.code, value(&run.stdout, "Endpoint")), (0, None));
    assert!(run.stderr.contains("add Endpoint = HOST:PORT"), "{}", run.stderr);
}

#[test]
fn plain_peers_are_a_table() {
    let daemon = Daemon::new().answer("/v1/external", 200, EXTERNALS);
    insta::assert_snapshot!(meshctl(&daemon, &["peer", "list-external"]).to_text());
    let none = Daemon::new().answer("/v1/external", 200, r#"{"schema":"meshd.externals/1","externals":[]}"#);
    assert_eq!(meshctl(&none, &["peer", "list-external"]).stdout, "no plain WireGuard peers\n");
}

#[test]
fn a_peer_is_removed_by_its_name() {
    let daemon = daemon();
    let run = meshctl(&daemon, &["peer", "remove-external", "phone"]);
    assert_eq!(run.stdout, "removed phone, 10.91.0.5, fd12:3456:789a:1::a5b:5\n");
    assert_eq!(daemon.asked("/v1/external/remove"), r#"{"name":"phone"}"#);
}
