//! Whatever comes in, a document comes out.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::rig::{Daemon, Mood, Rig, Run, configuration, with};

const VARIABLES: [&str; 5] = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];

const VERBS: [&str; 6] = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"];

#[test]
fn input_without_bound_is_not_read_to_the_end() {
    let rig = Rig::new();
    let (code, words) = rig.run(&rig.environment("ADD"), &vec![b' '; 4 * 1024 * 1024]).refusal();
    assert_eq!((code, words.as_str()), (5, "standard input is longer than 1048576 bytes"));
}

#[test]
fn input_that_is_no_object_can_not_be_decoded() {
    let rig = Rig::new();
    let deep = "[".repeat(100_000);
    for stdin in ["", "{", "[]", "7", "null", "{}{}", "{\"name\":\"\\ud800\"}", "\u{feff}{}", &deep] {
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let (code, _) = rig.run(&rig.environment(verb), stdin.as_bytes()).refusal();
            assert_eq!(code, 6, "{verb} {stdin:.20}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn arbitrary_bytes_on_standard_input_end_in_a_document(
        verb in prop::sample::select(&VERBS[..]),
        stdin in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let rig = rig();
        is_document(rig.run(&rig.environment(verb), &stdin))?;
    }

    #[test]
    fn arbitrary_values_of_known_keys_end_in_a_document(
        verb in prop::sample::select(&VERBS[..]),
        version in prop::sample::select(&["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"][..]),
        key in prop::sample::select(&[
            "cniVersion", "cniVersions", "name", "type", "prevResult", "runtimeConfig", "args", "dns", "ipam", "pool4",
            "allocation", "egress", "reach", "policy", "mtu", "cni.dev/valid-attachments", "cni.dev/attachments", "else",
        ][..]),
        value in value(),
    ) {
        let rig = rig();
        let mut more = json!({"prevResult": {}, "cni.dev/attachments": []});
        more[key] = value;
        is_document(rig.call(verb, &with(configuration(version), &more)))?;
    }

    #[test]
    fn arbitrary_variables_end_in_a_document(
        verb in prop::sample::select(&VERBS[..]),
        name in prop::sample::select(&VARIABLES[..]),
        value in prop::collection::vec(1u8.., 0..40),
    ) {
        let rig = rig();
        let mut environment = rig.environment(verb);
        environment.push((name.to_owned(), OsString::from_vec(value)));
        is_document(rig.run(&environment, configuration("1.1.0").to_string().as_bytes()))?;
    }

    #[test]
    fn arbitrary_arguments_end_in_a_document(arguments in "((IP|MAC|K8S_POD_NAME|K8S_POD_NAMESPACE|x)=?[0-9a-f:./,]{0,9};?){0,5}") {
        let rig = rig();
        let mut environment = rig.environment("ADD");
        environment.push(("CNI_ARGS".to_owned(), arguments.into()));
        is_document(rig.run(&environment, configuration("1.1.0").to_string().as_bytes()))?;
    }
}

/// JSON with the keys that are looked for in it, in either case.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9a-f:./]{0,20}|\\PC{0,9}".prop_map(Value::from),
        prop::sample::select(&["10.0.0.1/32", "fd77::1", "eth0", "1.0.0", "0.0.0.0/0", "mesh", "blocks"][..])
            .prop_map(Value::from),
    ];
    let key = prop::sample::select(
        &[
            "ips",
            "Ips",
            "mac",
            "dns",
            "Servers",
            "search",
            "aliases",
            "meshd",
            "io.kubernetes.cri.pod-annotations",
            "meshd.ips",
            "meshd.label.a",
            "interfaces",
            "interface",
            "routes",
            "dst",
            "address",
            "name",
            "sandbox",
            "cni",
            "containerID",
            "ifname",
            "type",
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

/// Exit code 0 with nothing or a document, or 1 with an error's document; never anything else.
fn is_document(run: Run) -> Result<(), TestCaseError> {
    prop_assert!(!run.stderr.contains("panicked"), "{run:?}");
    match run.exit {
        Some(0) if run.stdout.is_empty() => {}
        Some(0) => {
            let result: Value =
                serde_json::from_str(&run.stdout).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(result["cniVersion"].is_string(), "{run:?}");
        }
        Some(1) => {
            let error: Value =
                serde_json::from_str(&run.stdout).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(error["cniVersion"].is_string(), "{run:?}");
            prop_assert!(error["msg"].as_str().is_some_and(|words| !words.is_empty()), "{run:?}");
            let code = error["code"].as_u64();
            prop_assert!(code.is_some_and(|code| [1, 2, 3, 4, 5, 6, 7, 101, 103].contains(&code)), "{run:?}");
        }
        _ => prop_assert!(false, "{run:?}"),
    }
    Ok(())
}

/// One daemon for all cases.
fn rig() -> &'static Rig {
    static RIG: OnceLock<Rig> = OnceLock::new();
    RIG.get_or_init(|| {
        let rig = Rig::new();
        Daemon::start(&rig.socket(), Mood::Well);
        rig
    })
}
