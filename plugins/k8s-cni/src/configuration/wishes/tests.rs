use serde_json::json;

use super::*;
use crate::configuration::parse;

#[test]
fn the_same_wish_may_be_said_in_every_way() {
    let ways = [
        (r#"{"runtimeConfig":{"ips":["10.0.0.7/16","fd77::7/64"]}}"#, ""),
        (r#"{"runtimeConfig":{"Ips":["fd77::7","10.0.0.7"]}}"#, ""),
        (r#"{"args":{"cni":{"ips":["10.0.0.7","fd77::7"]}}}"#, ""),
        (r#"{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"meshd.ips":"10.0.0.7, fd77::7"}}}"#, ""),
        ("{}", "IP=10.0.0.7;IP=fd77::7"),
        (r#"{"runtimeConfig":{"ips":["10.0.0.7/16"]}}"#, "IP=10.0.0.7;IP=fd77::7"),
    ];
    for (configuration, arguments) in ways {
        let wishes = of(configuration, arguments).expect(configuration);
        let addresses: Vec<String> = wishes.addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(addresses, ["10.0.0.7", "fd77::7"], "{configuration} {arguments}");
    }
}

#[test]
fn two_addresses_of_one_family_are_refused() {
    let failure = of(r#"{"runtimeConfig":{"ips":["10.0.0.7/16"]}}"#, "IP=10.0.0.8").expect_err("two");
    assert_eq!(failure.line(), "both 10.0.0.7 and 10.0.0.8 are wanted, an interface has one of each family");
}

#[test]
fn what_is_no_address_is_refused_with_its_path() {
    let failure = of(r#"{"runtimeConfig":{"ips":["10.0.0"]}}"#, "").expect_err("no address");
    assert_eq!(failure.line(), r#"runtimeConfig.ips is "10.0.0", not an address"#);
    let annotated = r#"{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"meshd.ips":"x"}}}"#;
    assert_eq!(of(annotated, "").expect_err("no address").code(), Code::Configuration);
}

#[test]
fn a_pod_is_named_by_itself_and_its_namespace() {
    let wishes = of("{}", "K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop;K8S_POD_UID=u-1").expect("wishes");
    assert_eq!(wishes.name.as_deref(), Some("web-0.shop"));
    let labels: Vec<_> = wishes.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(labels, ["k8s.namespace=shop", "k8s.pod-uid=u-1"]);
}

#[test]
fn a_container_is_named_by_its_users_alias_or_else_by_itself() {
    let aliases = r#"{"runtimeConfig":{"aliases":{"n":["c0ffee000000","db"],"other":["x"]}}}"#;
    assert_eq!(of(aliases, "K8S_POD_NAME=Web").expect("wishes").name.as_deref(), Some("db"));
    let only_id = r#"{"runtimeConfig":{"aliases":{"n":["c0ffee000000"]}}}"#;
    assert_eq!(of(only_id, "K8S_POD_NAME=Web").expect("wishes").name.as_deref(), Some("web"));
    let elsewhere = r#"{"runtimeConfig":{"aliases":{"N":["x"]}}}"#;
    assert_eq!(of(elsewhere, "").expect("wishes").name, None);
}

#[test]
fn a_made_up_name_that_dns_can_not_have_is_no_wish() {
    for made_up in ["adoring_banach", "-a", "a-", "a..b", "ä", &"a".repeat(64), &"a.".repeat(127)] {
        assert_eq!(of("{}", &format!("K8S_POD_NAME={made_up}")).expect("wishes").name, None, "{made_up}");
    }
}

#[test]
fn annotations_with_the_prefix_become_labels() {
    let text =
        r#"{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"meshd.label.role":"db","role":"x"}}}"#;
    let wishes = of(text, "").expect("wishes");
    assert_eq!(wishes.labels, Labels::from([("role".to_owned(), "db".to_owned())]));
}

#[test]
fn an_annotation_can_not_say_what_only_the_runtime_knows() {
    for key in ["k8s.namespace", "k8s.pod-uid", "k8s.some-later-key"] {
        let text = format!(
            r#"{{"runtimeConfig":{{"io.kubernetes.cri.pod-annotations":{{"meshd.label.{key}":"kube-system"}}}}}}"#
        );
        let failure = of(&text, "K8S_POD_NAMESPACE=shop").expect_err(key);
        assert_eq!(failure.line(), format!("no annotation may say {key}"));
    }
}

#[test]
fn what_no_label_can_have_is_left_out() {
    let long = "a".repeat(64);
    for bad in ["Shop", "a_b", "a b", "ä", &long] {
        let wishes = of("{}", &format!("K8S_POD_NAMESPACE={bad};K8S_POD_UID=u-1")).expect(bad);
        assert_eq!(wishes.labels.keys().collect::<Vec<_>>(), ["k8s.pod-uid"], "{bad}");
    }
}

#[test]
fn a_pod_whose_name_is_too_long_has_an_address_but_no_name() {
    let (longest, part) = ("p".repeat(63), "n".repeat(63));
    let name = |pod: &str| of("{}", &format!("K8S_POD_NAME={pod};K8S_POD_NAMESPACE={part}")).expect(pod).name;
    assert_eq!(name(&longest), Some(format!("{longest}.{part}")));
    assert_eq!(name(&format!("a.{longest}")), None);
}

#[test]
fn a_mac_address_is_taken_from_either_place() {
    let runtime = r#"{"runtimeConfig":{"mac":"02:00:00:00:00:01"}}"#;
    assert_eq!(of(runtime, "").expect("wishes").mac.as_deref(), Some("02:00:00:00:00:01"));
    assert_eq!(of("{}", "MAC=02:00:00:00:00:02").expect("wishes").mac.as_deref(), Some("02:00:00:00:00:02"));
}

#[test]
fn resolvers_are_understood_in_every_spelling() {
    let expected =
        json!({"nameservers": ["10.96.0.10"], "search": ["svc.cluster.local"], "options": ["ndots:5"]});
    for text in [
        r#"{"runtimeConfig":{"dns":{"Servers":["10.96.0.10"],"Searches":["svc.cluster.local"],"Options":["ndots:5"]}}}"#,
        r#"{"runtimeConfig":{"dns":{"servers":["10.96.0.10"],"searches":["svc.cluster.local"],"options":["ndots:5"]}}}"#,
        r#"{"dns":{"nameservers":["10.96.0.10"],"search":["svc.cluster.local"],"options":["ndots:5"]}}"#,
        r#"{"dns":{"nameservers":["192.0.2.1"]},"runtimeConfig":{"dns":{"Servers":["10.96.0.10"],
            "Searches":["svc.cluster.local"],"Options":["ndots:5"]}}}"#,
    ] {
        assert_eq!(of(text, "").expect(text).dns.document(), expected, "{text}");
    }
    let domain = of(r#"{"dns":{"domain":"example.org","search":null}}"#, "").expect("wishes");
    assert_eq!(domain.dns.document(), json!({"domain": "example.org"}));
    assert_eq!(of("{}", "").expect("wishes").dns.document(), json!({}));
}

fn of(configuration: &str, arguments: &str) -> Result<Wishes, Failure> {
    let fields = parse(configuration.as_bytes()).expect("an object");
    let place = Place { container: format!("c0ffee{}", "0".repeat(58)), ifname: "eth0".to_owned() };
    Wishes::read(&Object::root(&fields), Arguments::parse(arguments)?, "n", &place)
}
