//! What the kernel tells and forgets: vanished links, tracked connections, addresses without a holder.

use std::net::{IpAddr, UdpSocket};

use ipnet::IpNet;
use meshd::os::{
    LinkNews, LinkWatch, VethPlace, container_link, forget_connections, hold_prefix, release_prefix,
};

use crate::rig::*;

#[test]
fn the_end_of_a_namespace_is_told_with_its_endpoint() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    host.attach(&a);
    host.space.inside(|| b.create(VethPlace::HandOver)).expect("the pair is made");
    let told = host.space.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let watch = LinkWatch::open().expect("the links are watched");
            // Neither a link of others nor an end that is taken is an end of ours.
            host.space.ip("link add other type veth");
            host.space.ip("link delete other");
            host.space.ip(&format!("link set {} netns {}", container_link(b.id()), b.space.path()));
            let owner = a.owner.clone();
            drop(a);
            let news = tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time");
            (news.expect("the watch goes on"), owner)
        })
    });
    assert_eq!(told.0, LinkNews::Vanished(vec![told.1]));
    assert_eq!(host.pairs().len(), 1);
}

#[test]
fn tracked_connections_of_an_address_are_forgotten_and_no_others() {
    let Some(mut host) = Host::new() else { return };
    let [a, b, c] = [1, 2, 3].map(Endpoint::new);
    [&a, &b, &c].into_iter().for_each(|endpoint| host.attach(endpoint));
    for family in 0..2 {
        assert_reached((&a.space, a.addresses[family]), (&b.space, b.addresses[family]));
        assert_reached((&b.space, b.addresses[family]), (&c.space, c.addresses[family]));
        let forget =
            |address: IpAddr| host.space.inside(|| forget_connections(&[address].into())).expect("forgotten");
        assert_eq!(forget(a.addresses[family]), 1);
        assert_eq!(forget(a.addresses[family]), 0);
        // It was the answering end of one that is gone, and the asking end of one that is left.
        assert_eq!(forget(c.addresses[family]), 1);
        assert_eq!(forget(b.addresses[family]), 0);
    }
}

#[test]
fn what_nobody_holds_is_unreachable_and_does_not_follow_the_default_route() {
    let Some(host) = Host::new() else { return };
    host.space.ip("link add uplink type veth");
    host.space.ip("link set uplink up");
    host.space.ip("route add default dev uplink");
    host.space.ip("-6 route add default dev uplink");
    let before = snapshot(&host.space);
    let prefixes = ["10.91.0.0/16", "fd91::/48"].map(|prefix| prefix.parse::<IpNet>().expect("a prefix"));
    let connects = || {
        ["10.91.7.7", "fd91::7:7"].map(|absent| {
            let any = if absent.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let absent: IpAddr = absent.parse().expect("an address");
            host.space
                .inside(|| UdpSocket::bind(any)?.connect((absent, 9)))
                .map_err(|error| error.raw_os_error())
        })
    };
    assert_eq!(connects(), [Ok(()), Ok(())]);
    for _ in 0..2 {
        for prefix in prefixes {
            host.space.inside(|| hold_prefix(prefix)).expect("the prefix is held");
        }
    }
    assert_eq!(connects(), [Err(Some(libc::EHOSTUNREACH)), Err(Some(libc::EHOSTUNREACH))]);
    assert!(said(&host.space, "ip", "route").contains("unreachable 10.91.0.0/16 proto static metric 9999"));
    for _ in 0..2 {
        for prefix in prefixes {
            host.space.inside(|| release_prefix(prefix)).expect("the prefix is released");
        }
    }
    assert_eq!(snapshot(&host.space), before);
}
