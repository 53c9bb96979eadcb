//! What is refused, with which number and in which words.

use meshd_api::{ApiError, ErrorCode};
use serde_json::json;

use crate::rig::{Daemon, Mood, Rig, configuration, with};

#[test]
fn what_meshd_refuses_has_a_number_for_runtimes_and_words_for_people() {
    for (code, number) in [
        (ErrorCode::AddressTaken, 101),
        (ErrorCode::NameTaken, 101),
        (ErrorCode::InUse, 101),
        (ErrorCode::PrefixConflict, 101),
        (ErrorCode::NoAddress, 102),
        (ErrorCode::TooMany, 102),
        (ErrorCode::PermissionDenied, 100),
        (ErrorCode::Revoked, 100),
        (ErrorCode::BadRequest, 7),
        (ErrorCode::NotFound, 7),
        (ErrorCode::NotMember, 11),
        (ErrorCode::Unavailable, 11),
        (ErrorCode::TimedOut, 11),
        (ErrorCode::Internal, 999),
    ] {
        let rig = Rig::new();
        let error = ApiError::new(code, "10.202.7.7 is taken")
            .with_cause("by web of node b")
            .with_hint("choose another");
        let _daemon = Daemon::start(&rig.socket(), Mood::Refusing("/attach", error));
        let error = rig.call("ADD", &configuration("1.1.0")).error();
        assert_eq!(error["code"], number, "{code}");
        assert_eq!(error["msg"], "10.202.7.7 is taken");
        let details = error["details"].as_str().expect("details");
        assert!(details.starts_with("by web of node b; choose another"), "{details}");
    }
}

#[test]
fn a_refused_network_attaches_nothing() {
    let rig = Rig::new();
    let error =
        ApiError::new(ErrorCode::BadRequest, "10.202.0.0/16 is outside of the organisation's 10.91.0.0/16");
    let daemon = Daemon::start(&rig.socket(), Mood::Refusing("/put", error));
    let (code, words) = rig.call("ADD", &configuration("1.1.0")).refusal();
    assert_eq!((code, words.as_str()), (7, "10.202.0.0/16 is outside of the organisation's 10.91.0.0/16"));
    assert_eq!(daemon.attached(), []);
}

#[test]
fn a_network_without_pools_must_be_known_to_meshd() {
    let rig = Rig::new();
    let error = ApiError::new(ErrorCode::NotFound, "no network meshd is known");
    let daemon = Daemon::start(&rig.socket(), Mood::Refusing("/attach", error));
    let bare = json!({"cniVersion": "1.1.0", "name": "meshd", "type": "meshd"});
    let (code, words) = rig.call("ADD", &bare).refusal();
    assert_eq!(code, 7);
    assert_eq!(words, "no network meshd is known; name pool4 or pool6 in the configuration");
    assert!(daemon.asked().iter().all(|(path, _)| path != "/v1/networks/put"));
    daemon.set_mood(Mood::Well);
    rig.call("ADD", &bare).result();
}

#[test]
fn meshd_that_is_not_there_is_a_reason_to_try_again() {
    let rig = Rig::new();
    for verb in ["ADD", "CHECK", "GC"] {
        let more = json!({"prevResult": {}, "cni.dev/attachments": []});
        let (code, words) = rig.call(verb, &with(configuration("1.1.0"), &more)).refusal();
        assert_eq!(code, 11, "{verb}: {words}");
        assert!(words.starts_with("meshd is not running; can't reach the daemon at "), "{words}");
        assert!(words.ends_with("start it with: systemctl start meshd"), "{words}");
    }
}

#[test]
fn an_answer_that_is_none_is_told() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Garbage(b"SSH-2.0-x\r\n"));
    let (code, words) = rig.call("ADD", &configuration("1.1.0")).refusal();
    assert_eq!(code, 999);
    assert!(words.starts_with("meshd answered something else"), "{words}");
}

#[test]
fn a_wrong_environment_is_told_by_the_names_of_its_variables() {
    let rig = Rig::new();
    let daemon = Daemon::start(&rig.socket(), Mood::Well);
    for (verb, name, value, told) in [
        ("ADD", "CNI_CONTAINERID", "", "CNI_CONTAINERID missing"),
        ("ADD", "CNI_CONTAINERID", "../c1", "CNI_CONTAINERID is \"../c1\""),
        ("ADD", "CNI_IFNAME", "a/b", "CNI_IFNAME is \"a/b\""),
        ("ADD", "CNI_IFNAME", "sixteen-letters-", "CNI_IFNAME is \"sixteen-letters-\""),
        ("ADD", "CNI_NETNS", "", "CNI_NETNS missing"),
        ("ADD", "CNI_NETNS", "/nowhere", "CNI_NETNS: /nowhere can't be opened"),
        ("ADD", "CNI_ARGS", "IP=10.0.0", "CNI_ARGS: IP is \"10.0.0\""),
        ("CHECK", "CNI_NETNS", "/nowhere", "CNI_NETNS: /nowhere can't be opened"),
        ("DEL", "CNI_CONTAINERID", "", "CNI_CONTAINERID missing"),
        ("DEL", "CNI_IFNAME", "..", "CNI_IFNAME is \"..\""),
        ("ADD", "CNI_COMMAND", "", "CNI_COMMAND missing"),
        (
            "ADD",
            "CNI_COMMAND",
            "add",
            "CNI_COMMAND is \"add\", not one of ADD, DEL, CHECK, GC, STATUS, VERSION",
        ),
    ] {
        let mut environment = rig.environment(verb);
        environment.push((name.to_owned(), value.into()));
        let run = rig.run(&environment, configuration("1.1.0").to_string().as_bytes());
        let (code, words) = run.refusal();
        assert_eq!(code, 4, "{words}");
        assert!(words.starts_with(told), "{words}");
    }
    assert_eq!(daemon.asked(), [], "nothing is asked of meshd");
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_is_asked() {
    let rig = Rig::new();
    let daemon = Daemon::start(&rig.socket(), Mood::Well);
    for (more, number, told) in [
        (json!({"name": ""}), 7, "name is missing"),
        (json!({"name": "../x"}), 7, "name is \"../x\""),
        (json!({"name": 7}), 7, "name is 7, not a text"),
        (json!({"subnet": "10.0.0.0/8"}), 2, "unknown key \"subnet\" with \"10.0.0.0/8\""),
        (json!({"mtu": 1e9}), 7, "mtu is 1000000000.0"),
        (json!({"egress": "x"}), 7, "egress is \"x\""),
        (json!({"runtimeConfig": {"ips": "10.0.0.1"}}), 7, "runtimeConfig.ips is \"10.0.0.1\", not a list"),
        (json!({"runtimeConfig": {"mac": 7}}), 7, "runtimeConfig.mac is 7"),
        (json!({"runtimeConfig": {"dns": {"servers": [7]}}}), 7, "runtimeConfig.dns.servers is 7"),
        (json!({"socket": []}), 7, "socket is []"),
    ] {
        let mut environment = rig.environment("ADD");
        // Else the environment's socket would come before the configuration's.
        if more.get("socket").is_some() {
            environment.push(("MESHD_SOCKET".to_owned(), "".into()));
        }
        let stdin = with(configuration("1.1.0"), &more).to_string();
        let (code, words) = rig.run(&environment, stdin.as_bytes()).refusal();
        assert_eq!(code, number, "{words}");
        assert!(words.starts_with(told), "{words}");
    }
    assert_eq!(daemon.asked(), []);
}

#[test]
fn the_socket_of_the_configuration_is_used() {
    let rig = Rig::new();
    let daemon = Daemon::start(&rig.path("another.sock"), Mood::Well);
    let mut environment = rig.environment("ADD");
    environment.push(("MESHD_SOCKET".to_owned(), "".into()));
    let stdin = with(configuration("1.1.0"), &json!({"socket": rig.path("another.sock")})).to_string();
    rig.run(&environment, stdin.as_bytes()).result();
    assert_eq!(daemon.attached().len(), 1);
}
