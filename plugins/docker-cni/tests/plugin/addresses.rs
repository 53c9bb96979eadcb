//! Addresses: the gateway's, any one, and one that is wished for.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::rig::Rig;

const POOL: &str = "meshd/10.202.0.0/16";

fn request(address: &str) -> Value {
    json!({"PoolID": POOL, "Address": address, "Options": null})
}

fn gateway(pool: &str, address: &str) -> Value {
    let options = json!({"RequestAddressType": "com.docker.network.gateway"});
    json!({"PoolID": pool, "Address": address, "Options": options})
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

#[test]
fn the_gateway_is_the_pools_first_address_on_every_host_and_nobodys() {
    let rig = Rig::new();
    for (pool, address, answer) in [
        (POOL, "", "10.202.0.1/16"),
        (POOL, "10.202.0.1", "10.202.0.1/16"),
        ("meshd/10.202.0.0/16,10.202.7.0/24", "", "10.202.0.1/16"),
        ("meshd/fd77:202::/64", "", "fd77:202::1/64"),
    ] {
        let reply = rig.done("IpamDriver.RequestAddress", &gateway(pool, address));
        assert_eq!(reply["Address"], answer);
    }
    let line = rig.refusal("IpamDriver.RequestAddress", &gateway(POOL, "10.202.0.254"));
    assert_eq!(
        line,
        "10.202.0.254 can't be the gateway, it is 10.202.0.1 on every host: leave --gateway out"
    );
    rig.done("IpamDriver.ReleaseAddress", &json!({"PoolID": POOL, "Address": "10.202.0.1"}));
}

#[test]
fn every_request_gets_another_address() {
    let (rig, daemon) = Rig::with_meshd();
    for answer in ["10.202.0.101/32", "10.202.0.102/32"] {
        assert_eq!(rig.done("IpamDriver.RequestAddress", &request(""))["Address"], answer);
    }
    assert_eq!(daemon.claimed(), addresses(&["10.202.0.101", "10.202.0.102"]));
}

#[test]
fn a_wished_address_that_is_taken_is_refused_with_its_holder() {
    let (rig, _daemon) = Rig::with_meshd();
    assert_eq!(rig.done("IpamDriver.RequestAddress", &request("10.202.7.7"))["Address"], "10.202.7.7/32");
    let line = rig.refusal("IpamDriver.RequestAddress", &request("10.202.7.7"));
    assert_eq!(line, "10.202.7.7 is taken: by web of node b");
}

#[test]
fn a_wished_address_that_can_be_nobodys_is_refused_without_a_question() {
    let (rig, daemon) = Rig::with_meshd();
    for (address, line) in [
        ("10.203.0.7", "10.203.0.7 lies outside the subnet 10.202.0.0/16"),
        ("fd77::7", "fd77::7 lies outside the subnet 10.202.0.0/16"),
        ("10.202.0.1", "10.202.0.1 stands for the gateway: choose another address"),
        ("10.202.0", r#"the address is "10.202.0", not an address"#),
    ] {
        assert_eq!(rig.refusal("IpamDriver.RequestAddress", &request(address)), line);
    }
    assert_eq!(daemon.asked(), []);
}

#[test]
fn a_released_address_goes_back_as_often_as_it_is_released() {
    let (rig, daemon) = Rig::with_meshd();
    rig.done("IpamDriver.RequestAddress", &request("10.202.7.7"));
    for pool in [POOL, POOL, "LocalDefault/10.0.0.0/8", ""] {
        rig.done("IpamDriver.ReleaseAddress", &json!({"PoolID": pool, "Address": "10.202.7.7"}));
        assert_eq!(daemon.claimed(), addresses(&[]));
    }
    rig.done("IpamDriver.ReleaseAddress", &json!({"PoolID": POOL, "Address": ""}));
}

#[test]
fn a_pool_of_another_driver_has_no_addresses() {
    let (rig, _daemon) = Rig::with_meshd();
    let line = rig
        .refusal("IpamDriver.RequestAddress", &json!({"PoolID": "LocalDefault/10.0.0.0/8", "Address": ""}));
    assert_eq!(line, r#"PoolID is "LocalDefault/10.0.0.0/8", not one of meshd's"#);
}
