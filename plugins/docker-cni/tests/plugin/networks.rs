//! Networks and pools: what is refused, in words that say what to type instead.

use meshd_api::{Allocation, ApiError, Egress, ErrorCode, Reach};
use serde_json::{Value, json};

use crate::rig::{Daemon, ENDPOINT, Mood, NETWORK, Rig, endpoint, network};

fn pool(pool: &str) -> Value {
    json!({"AddressSpace": "meshlocal", "Pool": pool, "SubPool": "", "Options": {}, "V6": pool.contains(':')})
}

#[test]
fn a_network_without_a_subnet_is_refused_at_once_and_without_meshd() {
    let rig = Rig::new();
    for is_ipv6 in [false, true] {
        let request =
            json!({"AddressSpace": "meshlocal", "Pool": "", "SubPool": "", "Options": {}, "V6": is_ipv6});
        let line = rig.refusal("IpamDriver.RequestPool", &request);
        assert!(line.contains("--subnet"), "{line}");
        assert_eq!(line.contains("--ipv6"), is_ipv6, "{line}");
    }
}

#[test]
fn a_subnet_outside_the_organisation_is_refused_with_its_prefix() {
    let (rig, _daemon) = Rig::with_meshd();
    for (subnet, line) in [
        (
            "10.91.0.0/16",
            "subnet 10.91.0.0/16 lies outside your organisation's prefixes: choose one inside 10.200.0.0/14",
        ),
        (
            "10.0.0.0/8",
            "subnet 10.0.0.0/8 lies outside your organisation's prefixes: choose one inside 10.200.0.0/14",
        ),
        (
            "fd00::/64",
            "subnet fd00::/64 lies outside your organisation's prefixes: choose one inside fd77:202::/48",
        ),
        ("10.202.0.7/16", "the subnet is 10.202.0.7/16, which is not its first address: write 10.202.0.0/16"),
        ("10.202.0.0", r#"the subnet is "10.202.0.0", not a prefix"#),
    ] {
        assert_eq!(rig.refusal("IpamDriver.RequestPool", &pool(subnet)), line);
    }
}

#[test]
fn a_subnet_that_overlaps_a_known_one_is_refused_and_an_equal_one_is_the_same_network() {
    let (rig, _daemon) = Rig::with_network(&json!({}));
    for overlapping in ["10.202.0.0/17", "10.202.128.0/24", "10.200.0.0/14", "fd77:202::/56", "fd77:202::/80"]
    {
        let line = rig.refusal("IpamDriver.RequestPool", &pool(overlapping));
        assert!(line.starts_with(&format!("subnet {overlapping} overlaps ")), "{line}");
    }
    for good in ["10.202.0.0/16", "10.203.0.0/16", "fd77:202::/64", "fd77:202:0:1::/64"] {
        rig.done("IpamDriver.RequestPool", &pool(good));
    }
}

#[test]
fn a_range_lies_in_its_subnet_and_stands_in_the_name_of_the_pool() {
    let (rig, daemon) = Rig::with_meshd();
    let ranged = |range: &str| {
        let mut request = pool("10.202.0.0/16");
        request["SubPool"] = range.into();
        request
    };
    let line = rig.refusal("IpamDriver.RequestPool", &ranged("10.203.0.0/24"));
    assert_eq!(line, "--ip-range 10.203.0.0/24 lies outside the subnet 10.202.0.0/16");
    let answer = rig.done("IpamDriver.RequestPool", &ranged("10.202.7.0/24"));
    assert_eq!(answer["Pool"], "10.202.0.0/16");
    daemon.asked();
    rig.done("IpamDriver.RequestAddress", &json!({"PoolID": answer["PoolID"], "Address": ""}));
    assert_eq!(daemon.claimed(), ["10.202.7.101".parse::<std::net::IpAddr>().expect("an address")]);
}

#[test]
fn an_option_of_the_network_given_to_ipam_is_refused() {
    let (rig, _daemon) = Rig::with_meshd();
    let mut request = pool("10.202.0.0/16");
    request["Options"] = json!({"meshd.alloc": "sequential"});
    let line = rig.refusal("IpamDriver.RequestPool", &request);
    assert_eq!(line, r#""meshd.alloc" is no option of IPAM: give it to the network, behind -o"#);
}

#[test]
fn a_network_whose_addresses_come_from_elsewhere_is_refused_with_the_option() {
    let (rig, daemon) = Rig::with_meshd();
    let with = |data: Value| json!({"NetworkID": NETWORK, "Options": {}, "IPv4Data": data, "IPv6Data": []});
    for data in [
        // Without --ipam-driver, with --ipam-driver null, and with none at all.
        json!([{"AddressSpace": "LocalDefault", "Pool": "172.20.0.0/16", "Gateway": "172.20.0.1/16"}]),
        json!([{"AddressSpace": "null", "Pool": "0.0.0.0/0"}]),
        json!([{"AddressSpace": "meshlocal", "Pool": "0.0.0.0/0"}]),
        json!([]),
        Value::Null,
    ] {
        let line = rig.refusal("NetworkDriver.CreateNetwork", &with(data));
        assert_eq!(line, "addresses of the mesh come from meshd: add --ipam-driver meshd and a --subnet");
    }
    assert_eq!(daemon.networks(), []);
}

#[test]
fn what_meshd_could_not_keep_is_refused() {
    let (rig, daemon) = Rig::with_meshd();
    let subnet = |pool: &str| json!({"AddressSpace": "meshlocal", "Pool": pool});
    let mut two = network(&json!({}));
    two["IPv4Data"] = json!([subnet("10.202.0.0/16"), subnet("10.203.0.0/16")]);
    let line = rig.refusal("NetworkDriver.CreateNetwork", &two);
    assert_eq!(line, "a network of the mesh has one subnet of each family");
    let mut reserved = network(&json!({}));
    reserved["IPv4Data"][0]["AuxAddresses"] = json!({"printer": "10.202.0.9/16"});
    let line = rig.refusal("NetworkDriver.CreateNetwork", &reserved);
    assert!(line.starts_with("--aux-address reserves nothing"), "{line}");
    let line = rig.refusal("NetworkDriver.CreateNetwork", &network(&json!({"meshd.speed": "high"})));
    assert!(line.starts_with(r#"unknown option "meshd.speed": known are meshd.alloc"#), "{line}");
    assert_eq!(daemon.networks(), []);
}

#[test]
fn options_and_pools_of_a_network_reach_meshd() {
    let (_rig, daemon) = Rig::with_network(&json!({
        "meshd.alloc": "sequential", "meshd.egress": "mesh", "meshd.reach": "mesh", "com.docker.network.driver.mtu": "1400"
    }));
    let [network] = &daemon.networks()[..] else { panic!("one network") };
    assert_eq!((network.runtime.as_str(), network.network.as_str()), ("docker", NETWORK));
    assert_eq!(network.pool4.as_deref(), Some("10.202.0.0/16"));
    assert_eq!(network.pool6.as_deref(), Some("fd77:202::/64"));
    assert_eq!((network.allocation, network.egress), (Allocation::Sequential, Egress::Mesh));
    assert_eq!((network.reach, network.mtu), (Reach::Mesh, Some(1400)));
}

#[test]
fn a_network_of_ipv6_alone_is_possible() {
    let (rig, daemon) = Rig::with_meshd();
    let mut alone = network(&json!({}));
    alone["IPv4Data"] = json!([]);
    rig.done("NetworkDriver.CreateNetwork", &alone);
    assert_eq!(daemon.networks()[0].pool4, None);
}

#[test]
fn what_meshd_refuses_is_told_in_its_words() {
    let rig = Rig::new();
    let error =
        ApiError::new(ErrorCode::NotMember, "the node belongs to no mesh").with_hint("meshctl join TOKEN");
    let daemon = Daemon::start(&rig.daemon_socket(), Mood::Refusing("/networks", error.clone()));
    let line = rig.refusal("IpamDriver.RequestPool", &pool("10.202.0.0/16"));
    assert_eq!(line, "the node belongs to no mesh: meshctl join TOKEN");
    daemon.set_mood(Mood::Refusing("/put", error));
    assert_eq!(rig.refusal("NetworkDriver.CreateNetwork", &network(&json!({}))), line);
}

#[test]
fn a_removed_network_leaves_nothing_in_meshd() {
    let (rig, daemon) = Rig::with_network(&json!({}));
    rig.done("NetworkDriver.CreateEndpoint", &endpoint());
    let mut other = endpoint();
    other["NetworkID"] = "other".into();
    rig.done("NetworkDriver.CreateNetwork", &{
        let mut network = network(&json!({}));
        network["NetworkID"] = "other".into();
        network
    });
    rig.done("NetworkDriver.CreateEndpoint", &other);
    rig.done("NetworkDriver.DeleteNetwork", &json!({"NetworkID": NETWORK}));
    let left: Vec<_> = daemon.attached().into_iter().map(|one| (one.network, one.container)).collect();
    assert_eq!(left, [("other".to_owned(), ENDPOINT.to_owned())]);
    assert_eq!(daemon.networks().len(), 1);
    rig.done("NetworkDriver.DeleteNetwork", &json!({"NetworkID": NETWORK}));
}
