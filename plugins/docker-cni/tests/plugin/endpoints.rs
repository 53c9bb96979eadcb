//! Containers' links: made once, told as often as Docker asks, taken away without fail.

use meshd_api::{ApiError, ErrorCode};
use serde_json::{Value, json};

use crate::rig::{ENDPOINT, Mood, NETWORK, Rig, endpoint, ids, network};

#[test]
fn an_endpoint_asked_for_twice_is_one() {
    let (rig, daemon) = Rig::with_network(&json!({}));
    for _ in 0..2 {
        rig.done("NetworkDriver.CreateEndpoint", &endpoint());
        let link = rig.done("NetworkDriver.Join", &ids());
        assert_eq!(link["InterfaceName"], json!({"SrcName": "msc1f0c9d2b7a4c", "DstPrefix": "mesh"}));
        assert_eq!(daemon.attached().len(), 1);
    }
}

#[test]
fn the_way_out_follows_the_networks_egress() {
    for (options, gateways, is_closed) in [
        (json!({}), (Value::Null, Value::Null), Value::Null),
        (json!({"meshd.egress": "docker"}), (Value::Null, Value::Null), Value::Null),
        (json!({"meshd.egress": "mesh"}), (json!("169.254.1.1"), json!("fe80::1")), Value::Null),
        (json!({"meshd.egress": "none"}), (Value::Null, Value::Null), json!(true)),
    ] {
        let (rig, _daemon) = Rig::with_network(&options);
        rig.done("NetworkDriver.CreateEndpoint", &endpoint());
        let link = rig.done("NetworkDriver.Join", &ids());
        assert_eq!((link["Gateway"].clone(), link["GatewayIPv6"].clone()), gateways, "{options}");
        assert_eq!(link["DisableGatewayService"], is_closed, "{options}");
        assert_eq!(link["StaticRoutes"].as_array().map(Vec::len), Some(4), "{options}");
    }
}

#[test]
fn every_network_has_its_own_way_out() {
    let (rig, _daemon) = Rig::with_network(&json!({"meshd.egress": "none"}));
    let mut second = network(&json!({"meshd.egress": "mesh"}));
    second["NetworkID"] = "second".into();
    rig.done("NetworkDriver.CreateNetwork", &second);
    let (mut endpoint, mut ids) = (endpoint(), ids());
    endpoint["NetworkID"] = "second".into();
    ids["NetworkID"] = "second".into();
    rig.done("NetworkDriver.CreateEndpoint", &endpoint);
    let link = rig.done("NetworkDriver.Join", &ids);
    assert_eq!((&link["Gateway"], &link["DisableGatewayService"]), (&json!("169.254.1.1"), &Value::Null));
}

#[test]
fn routes_are_of_the_families_that_the_container_has() {
    let (rig, _daemon) = Rig::with_network(&json!({}));
    let mut alone = endpoint();
    alone["Interface"]["Address"] = "".into();
    rig.done("NetworkDriver.CreateEndpoint", &alone);
    let link = rig.done("NetworkDriver.Join", &ids());
    assert_eq!(
        link["StaticRoutes"],
        json!([
            {"Destination": "fe80::1/128", "RouteType": 1},
            {"Destination": "fd77:202::/64", "RouteType": 0, "NextHop": "fe80::1"},
        ])
    );
}

#[test]
fn ports_are_published_only_where_somebody_does_it() {
    let ports = json!([{"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 80, "HostPortEnd": 80}]);
    let mut published = endpoint();
    published["Options"]["com.docker.network.portmap"] = ports;
    for (egress, is_possible) in [("docker", true), ("mesh", false), ("none", false)] {
        let (rig, daemon) = Rig::with_network(&json!({"meshd.egress": egress}));
        if is_possible {
            rig.done("NetworkDriver.CreateEndpoint", &published);
        } else {
            let line = rig.refusal("NetworkDriver.CreateEndpoint", &published);
            assert!(line.starts_with("ports can be published only with meshd.egress=docker"), "{line}");
        }
        assert_eq!(daemon.attached().len(), usize::from(is_possible), "{egress}");
    }
}

#[test]
fn a_container_without_an_address_of_the_mesh_is_refused() {
    let (rig, daemon) = Rig::with_network(&json!({}));
    for interface in
        [json!({}), Value::Null, json!({"Address": "", "AddressIPv6": "", "MacAddress": "02:00:00:00:00:07"})]
    {
        let mut bare = endpoint();
        bare["Interface"] = interface;
        let line = rig.refusal("NetworkDriver.CreateEndpoint", &bare);
        assert!(line.contains("--ipam-driver meshd"), "{line}");
    }
    assert_eq!(daemon.attached(), []);
}

#[test]
fn what_meshd_does_not_know_is_said_with_the_way_out() {
    let (rig, daemon) = Rig::with_network(&json!({}));
    rig.done("NetworkDriver.CreateEndpoint", &endpoint());
    daemon.forget();
    let line = rig.refusal("NetworkDriver.Join", &ids());
    assert_eq!(line, "meshd does not know this endpoint: start the container again");
    let line = rig.refusal("NetworkDriver.CreateEndpoint", &endpoint());
    assert!(line.starts_with("meshd does not know this network: "), "{line}");
}

#[test]
fn a_refused_attachment_is_told_and_nothing_of_it_is_touched() {
    let (rig, daemon) = Rig::with_network(&json!({}));
    let error = ApiError::new(ErrorCode::AddressTaken, "10.202.0.101 is taken").with_cause("by db of node c");
    daemon.set_mood(Mood::Refusing("/attach", error));
    let line = rig.refusal("NetworkDriver.CreateEndpoint", &endpoint());
    assert_eq!(line, "10.202.0.101 is taken: by db of node c");
    assert!(daemon.asked().iter().all(|(path, _)| path != "/v1/endpoints/detach"));
}

#[test]
fn an_attachment_with_an_unknown_end_is_undone() {
    let (rig, daemon) = Rig::with_network(&json!({}));
    daemon.set_mood(Mood::Silent("/attach"));
    let line = rig.refusal("NetworkDriver.CreateEndpoint", &endpoint());
    assert!(line.starts_with("meshd is too slow"), "{line}");
    let (path, body) = daemon.asked().pop().expect("a last question");
    assert_eq!(path, "/v1/endpoints/detach");
    assert_eq!(
        (&body["attachment"]["network"], &body["attachment"]["container"]),
        (&json!(NETWORK), &json!(ENDPOINT))
    );
}

#[test]
fn an_endpoint_is_deleted_as_often_as_it_is_asked_for() {
    let (rig, daemon) = Rig::with_network(&json!({}));
    rig.done("NetworkDriver.CreateEndpoint", &endpoint());
    for _ in 0..3 {
        rig.done("NetworkDriver.Leave", &ids());
        rig.done("NetworkDriver.DeleteEndpoint", &ids());
        assert_eq!(daemon.attached(), []);
    }
}

#[test]
fn a_link_stays_until_docker_has_taken_it_out_of_the_container() {
    let (rig, daemon) = Rig::with_network(&json!({}));
    rig.done("NetworkDriver.CreateEndpoint", &endpoint());
    rig.done("NetworkDriver.Leave", &ids());
    assert_eq!(daemon.attached().len(), 1);
}

#[test]
fn what_there_is_to_know_holds_no_key_of_docker() {
    let (rig, _daemon) = Rig::with_network(&json!({}));
    assert_eq!(rig.done("NetworkDriver.EndpointOperInfo", &ids()), json!({"Value": {}}));
    rig.done("NetworkDriver.CreateEndpoint", &endpoint());
    let info = rig.done("NetworkDriver.EndpointOperInfo", &ids());
    assert_eq!(info, json!({"Value": {"meshd.address": "10.202.0.101"}}));
}
