//! meshd down, coming up, hanging, or somebody else at its socket.

use std::thread;
use std::time::{Duration, Instant};

use meshd_api::{ApiError, ErrorCode};
use serde_json::{Value, json};

use crate::rig::{Daemon, Mood, Rig, endpoint, ids, network};

/// What a call may last, and what a busy machine adds.
const CALL_MAX: Duration = Duration::from_secs(7);

fn request_address() -> Value {
    json!({"PoolID": "meshd/10.202.0.0/16", "Address": "", "Options": null})
}

#[test]
fn what_the_plugin_is_it_says_without_meshd() {
    let rig = Rig::new();
    for name in [
        "Plugin.Activate",
        "NetworkDriver.GetCapabilities",
        "IpamDriver.GetCapabilities",
        "IpamDriver.GetDefaultAddressSpaces",
    ] {
        rig.done(name, &json!({}));
    }
}

#[test]
fn calls_that_need_meshd_say_that_it_is_down_before_docker_loses_patience() {
    let rig = Rig::new();
    let pool = json!({"AddressSpace": "meshlocal", "Pool": "10.202.0.0/16", "SubPool": "", "Options": {}, "V6": false});
    let calls = [
        ("IpamDriver.RequestPool", pool),
        ("IpamDriver.RequestAddress", request_address()),
        ("NetworkDriver.CreateNetwork", network(&json!({}))),
        ("NetworkDriver.CreateEndpoint", endpoint()),
        ("NetworkDriver.Join", ids()),
    ];
    let since = Instant::now();
    thread::scope(|scope| {
        for (name, body) in &calls {
            let rig = &rig;
            scope.spawn(move || {
                assert_eq!(rig.refusal(name, body), "meshd is not running: systemctl start meshd", "{name}");
            });
        }
    });
    assert!(since.elapsed() < CALL_MAX, "{:?}", since.elapsed());
}

#[test]
fn what_ends_a_container_succeeds_whatever_meshd_does() {
    let rig = Rig::new();
    let calls = [
        ("NetworkDriver.RevokeExternalConnectivity", ids()),
        ("NetworkDriver.Leave", ids()),
        ("NetworkDriver.DeleteEndpoint", ids()),
        ("NetworkDriver.DeleteNetwork", ids()),
        ("NetworkDriver.EndpointOperInfo", ids()),
        ("IpamDriver.ReleaseAddress", json!({"PoolID": "meshd/10.202.0.0/16", "Address": "10.202.0.101"})),
        ("IpamDriver.ReleasePool", json!({"PoolID": "meshd/10.202.0.0/16"})),
    ];
    for (name, body) in &calls {
        rig.done(name, body);
    }
    let daemon =
        Daemon::start(&rig.daemon_socket(), Mood::Garbage(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{"));
    for (name, body) in &calls {
        rig.done(name, body);
    }
    let error = ApiError::new(ErrorCode::StorageFailed, "the disk is full");
    for path in ["/detach", "/release", "/endpoints"] {
        daemon.set_mood(Mood::Refusing(path, error.clone()));
        for (name, body) in &calls {
            rig.done(name, body);
        }
    }
}

#[test]
fn a_meshd_that_comes_up_meanwhile_is_waited_for() {
    let rig = Rig::new();
    thread::scope(|scope| {
        let answer = scope.spawn(|| rig.done("IpamDriver.RequestAddress", &request_address()));
        // Long enough for the first look to find nothing.
        thread::sleep(Duration::from_millis(300));
        Daemon::start(&rig.daemon_socket(), Mood::Well);
        assert_eq!(answer.join().expect("an answer")["Address"], "10.202.0.101/32");
    });
}

#[test]
fn a_meshd_that_hangs_holds_no_call_for_long_and_others_not_at_all() {
    let rig = Rig::new();
    let daemon = Daemon::start(&rig.daemon_socket(), Mood::Silent("/claim"));
    let since = Instant::now();
    thread::scope(|scope| {
        let hanging = scope.spawn(|| rig.refusal("IpamDriver.RequestAddress", &request_address()));
        rig.done("NetworkDriver.CreateNetwork", &network(&json!({})));
        assert!(!hanging.is_finished());
        let line = hanging.join().expect("a line");
        assert_eq!(line, "meshd is too slow: no answer from the daemon within 4 s");
    });
    assert!(since.elapsed() < CALL_MAX, "{:?}", since.elapsed());
    assert!(daemon.claimed().is_empty());
}

#[test]
fn somebody_else_at_meshds_socket_is_named_as_such() {
    let rig = Rig::new();
    Daemon::start(&rig.daemon_socket(), Mood::Garbage(b"SSH-2.0-OpenSSH_9.2\r\n"));
    let line = rig.refusal("NetworkDriver.Join", &ids());
    assert!(line.starts_with("meshd answered something else: "), "{line}");
}
