//! Whatever comes in, an answer comes out.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::rig::{Rig, endpoint, ids, network};

const CALLS: [&str; 19] = [
    "Plugin.Activate",
    "NetworkDriver.GetCapabilities",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
    "IpamDriver.RequestPool",
    "IpamDriver.ReleasePool",
    "IpamDriver.RequestAddress",
    "IpamDriver.ReleaseAddress",
    "NetworkDriver.CreateNetwork",
    "NetworkDriver.DeleteNetwork",
    "NetworkDriver.CreateEndpoint",
    "NetworkDriver.DeleteEndpoint",
    "NetworkDriver.EndpointOperInfo",
    "NetworkDriver.Join",
    "NetworkDriver.Leave",
    "NetworkDriver.ProgramExternalConnectivity",
    "NetworkDriver.RevokeExternalConnectivity",
    "NetworkDriver.DiscoverNew",
    "NetworkDriver.DiscoverDelete",
];

const KEYS: [&str; 13] = [
    "NetworkID",
    "EndpointID",
    "Options",
    "IPv4Data",
    "IPv6Data",
    "Interface",
    "PoolID",
    "Address",
    "Pool",
    "SubPool",
    "V6",
    "AddressSpace",
    "SandboxKey",
];

#[test]
fn a_body_that_is_no_object_is_an_error() {
    let rig = Rig::new();
    let deep = "[".repeat(100_000);
    for body in ["{", "7", "\"x\"", "{}{}", "\u{feff}{}", &deep] {
        for call in CALLS {
            let line = rig.refusal_of(call, body.as_bytes());
            assert!(line.starts_with("the call can't be read: "), "{call} {body:.20}: {line}");
        }
    }
}

#[test]
fn a_text_that_is_none_is_an_error_where_it_is_read() {
    let rig = Rig::new();
    for body in [&br#"{"NetworkID":"\ud800"}"#[..], b"{\"NetworkID\":\"\xff\"}", br#"{"NetworkID":7}"#] {
        let line = rig.refusal_of("NetworkDriver.CreateNetwork", body);
        assert!(line.starts_with("the call can't be read: "), "{line}");
    }
}

#[test]
fn a_body_without_bound_is_not_read_to_the_end() {
    let rig = Rig::new();
    let body = json!({"SandboxKey": "x".repeat(1024 * 1024)}).to_string();
    let line = rig.refusal_of("NetworkDriver.Leave", body.as_bytes());
    assert!(line.starts_with("the call can't be read: "), "{line}");
}

#[test]
fn a_call_that_is_unknown_is_not_found() {
    let rig = Rig::new();
    for call in ["NetworkDriver.AllocateNetwork", "NetworkDriver.GwAllocCheck", "Plugin.", ""] {
        let (status, answer) = rig.send(call, b"{}");
        let answer: Value = serde_json::from_str(&answer).expect("a document");
        assert_eq!((status, &answer["Err"]), (404, &json!(format!("no such call: /{call}"))));
    }
}

#[test]
fn ids_that_are_none_are_refused() {
    let (rig, daemon) = Rig::with_meshd();
    for id in [json!(""), json!(null), json!("a/b"), json!("a b"), json!("é"), json!("x".repeat(129))] {
        for call in ["NetworkDriver.CreateNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.Join"] {
            for key in ["NetworkID", "EndpointID"] {
                let mut body = if call.ends_with("Network") { network(&json!({})) } else { endpoint() };
                if body.get(key).is_some() {
                    body[key] = id.clone();
                    let line = rig.refusal(call, &body);
                    assert!(line.starts_with(&format!("{key} is ")) && line.ends_with("not an id"), "{line}");
                }
            }
        }
    }
    assert_eq!(daemon.asked(), []);
}

#[test]
fn arbitrary_bytes_end_in_an_answer() {
    let call = prop::sample::select(&CALLS[..]);
    let body = prop::collection::vec(any::<u8>(), 0..200);
    check((call, body), |rig, (call, body)| is_answer(rig.send(call, &body)));
}

#[test]
fn arbitrary_values_of_known_keys_end_in_an_answer() {
    let call = prop::sample::select(&CALLS[..]);
    let key = prop::sample::select(&KEYS[..]);
    check((call, key, value()), |rig, (call, key, value)| {
        let mut body = match call {
            "NetworkDriver.CreateNetwork" => network(&json!({})),
            "NetworkDriver.CreateEndpoint" => endpoint(),
            "IpamDriver.RequestAddress" | "IpamDriver.ReleaseAddress" => {
                json!({"PoolID": "meshd/10.202.0.0/16", "Address": ""})
            }
            "IpamDriver.RequestPool" => json!({"Pool": "10.202.0.0/16"}),
            _ => ids(),
        };
        body[key] = value;
        is_answer(rig.send(call, body.to_string().as_bytes()))
    });
}

/// Tries many cases on one plugin, which ends with them.
fn check<S: Strategy>(cases: S, test: impl Fn(&Rig, S::Value) -> Result<(), TestCaseError>) {
    let (rig, _daemon) = Rig::with_meshd();
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) });
    let checked = runner.run(&cases, |case| test(&rig, case));
    checked.unwrap_or_else(|error| panic!("{error}"));
}

/// JSON with the keys and values that are looked for in it.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9a-f:./,]{0,20}|\\PC{0,9}".prop_map(Value::from),
        prop::sample::select(
            &[
                "10.202.0.0/16",
                "meshd/10.202.0.0/16",
                "meshd/10.202.0.0/16,10.202.7.0/24",
                "meshd/255.255.255.255/32",
                "meshd/::/0",
                "fd77:202::/64",
                "10.202.0.7",
                "meshlocal",
                "sequential",
                "com.docker.network.gateway",
            ][..]
        )
        .prop_map(Value::from),
    ];
    let key = prop::sample::select(
        &[
            "Address",
            "AddressIPv6",
            "MacAddress",
            "AddressSpace",
            "Pool",
            "AuxAddresses",
            "RequestAddressType",
            "com.docker.network.generic",
            "com.docker.network.internal",
            "com.docker.network.portmap",
            "com.docker.network.driver.mtu",
            "meshd.alloc",
            "meshd.egress",
            "meshd.reach",
            "\u{130}",
        ][..],
    );
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A success with an object, and an error in it is one line.
fn is_answer((status, answer): (u16, String)) -> Result<(), TestCaseError> {
    prop_assert_eq!(status, 200, "{}", answer);
    let answer: Value =
        serde_json::from_str(&answer).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert!(answer.is_object(), "{}", answer);
    if let Some(error) = answer.get("Err") {
        let line = error.as_str().unwrap_or_default();
        prop_assert!(!line.is_empty() && !line.chars().any(char::is_control), "{}", answer);
    }
    Ok(())
}
