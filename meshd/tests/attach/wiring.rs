//! Pairs, addresses and routes: made, made again, undone, refused.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;

use meshd::os::{
    ContainerEndError, GATEWAY4, GATEWAY6, LinkEndError, Namespace, NamespaceError, RouteError, Veth,
    VethError, VethPlace, conflicting_route, container_link, host_link, host_mac, underlay_mtu,
};

use crate::rig::*;

#[test]
fn endpoints_of_one_host_reach_each_other_their_host_and_their_gateway() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    host.attach(&a);
    host.attach(&b);
    for (family, node) in [IpAddr::from(NODE4), IpAddr::from(NODE6)].into_iter().enumerate() {
        let ((a, at_a), (b, at_b)) = ((&a.space, a.addresses[family]), (&b.space, b.addresses[family]));
        assert_reached((a, at_a), (b, at_b));
        assert_reached((a, at_a), (&host.space, node));
        assert_reached((&host.space, node), (b, at_b));
    }
    assert_reached((&a.space, a.addresses[0]), (&host.space, GATEWAY4.into()));
    let scope = |space: &Space, link: &str| {
        space.inside(|| nix::net::if_::if_nametoindex(link)).expect("the link is there")
    };
    let here = SocketAddrV6::new(GATEWAY6, 7001, 0, scope(&host.space, &host_link(a.id())));
    let there = SocketAddrV6::new(GATEWAY6, 7001, 0, scope(&a.space, IFNAME));
    let gateway = socket(&host.space, here.into());
    let asker = socket(&a.space, SocketAddr::new(a.addresses[1], 0));
    asker.send_to(b"ask", there).expect("the datagram is sent");
    assert_eq!(received(&gateway), ("ask".to_owned(), a.addresses[1]));
    assert_eq!(host.drops("spoofed"), 0);
}

#[test]
fn a_host_process_reaches_endpoints_under_the_nodes_address() {
    let Some(mut host) = Host::new() else { return };
    let a = Endpoint::new(1);
    host.attach(&a);
    for (family, (node, any)) in [(NODE4.into(), "0.0.0.0"), (NODE6.into(), "::")].into_iter().enumerate() {
        let listener = listen(&a.space, a.addresses[family]);
        send(&host.space, any.parse().expect("an address"), a.addresses[family], "probe");
        assert_eq!(received(&listener), ("probe".to_owned(), node));
    }
}

#[test]
fn a_pair_carries_its_mark_sizes_and_trains_on_both_ends() {
    let Some(mut host) = Host::new() else { return };
    let a = Endpoint::new(1);
    host.attach(&a);
    let pairs = host.pairs();
    assert_eq!(pairs.len(), 1);
    assert_eq!((&pairs[0].owner, pairs[0].mtu), (&a.owner, MTU.into()));
    assert!(pairs[0].is_handed_over && pairs[0].is_up);
    let link = |space: &Space, name: &str| -> serde_json::Value {
        let said = said(space, "ip", &format!("-j -d link show {name}"));
        serde_json::from_str::<serde_json::Value>(&said).expect("json")[0].clone()
    };
    let (outer, inner) = (link(&host.space, &host_link(a.id())), link(&a.space, IFNAME));
    assert_eq!(outer["ifalias"], format!("meshd:1:cni:{}", a.id()));
    assert_eq!(outer["inet6_addr_gen_mode"], "none");
    assert_eq!(inner["address"], "02:ee:00:00:00:01");
    for end in [outer, inner] {
        assert_eq!(end["mtu"], MTU);
        // As many packets of the overlay device as fit one send when they are sealed.
        assert_eq!(end["gso_max_segs"], 45);
        assert_eq!(end["gso_max_size"], 65_536);
    }
}

#[test]
fn doing_everything_twice_changes_nothing() {
    let Some(mut host) = Host::new() else { return };
    let a = Endpoint::new(1);
    host.attach(&a);
    wait_for("the link to be up", || host.pairs()[0].is_up);
    let (on_host, inside) = (snapshot(&host.space), snapshot(&a.space));
    host.attach(&a);
    assert_eq!(snapshot(&host.space), on_host);
    assert_eq!(snapshot(&a.space), inside);
    assert_eq!(host.faults(), [""; 0]);
    host.detach(&a);
    host.detach(&a);
    assert_eq!(host.pairs(), []);
}

#[test]
fn everything_undone_leaves_the_host_and_the_namespace_as_they_were() {
    let Some(mut host) = Host::new() else { return };
    let endpoints = [1, 2, 3].map(Endpoint::new);
    let before = snapshot(&host.space);
    let inside = endpoints.each_ref().map(|endpoint| snapshot(&endpoint.space));
    endpoints.iter().for_each(|endpoint| host.attach(endpoint));
    assert_ne!(snapshot(&host.space), before);
    endpoints.iter().for_each(|endpoint| host.detach(endpoint));
    assert_eq!(snapshot(&host.space), before);
    for (endpoint, before) in endpoints.iter().zip(inside) {
        assert_eq!(snapshot(&endpoint.space), before);
    }
    host.space.inside(meshd::os::Firewall::uninstall).expect("the table is removed");
    assert_eq!(said(&host.space, "nft", "list ruleset"), "");
}

#[test]
fn a_pair_whose_namespace_was_replaced_is_made_anew() {
    let Some(mut host) = Host::new() else { return };
    let mut a = Endpoint::new(1);
    host.attach(&a);
    let old = std::mem::replace(&mut a.space, Space::new().expect("a namespace"));
    host.attach(&a);
    assert_eq!(host.pairs().len(), 1);
    assert!(!said(&old, "ip", "-j link").contains(IFNAME));
    assert_reached((&a.space, a.addresses[0]), (&host.space, NODE4.into()));
}

#[test]
fn a_pair_that_was_made_but_not_marked_is_finished() {
    let Some(host) = Host::new() else { return };
    let a = Endpoint::new(1);
    let link = host_link(a.id());
    host.space.ip(&format!(
        "link add {link} address {} type veth peer name {}",
        host_mac(a.id()),
        container_link(a.id())
    ));
    assert_eq!(host.pairs(), []);
    let veth = host.space.inside(|| a.create(VethPlace::HandOver)).expect("the pair is taken over");
    assert_eq!(host.pairs(), [veth]);
}

#[test]
fn an_end_that_a_runtime_took_is_still_found() {
    let Some(host) = Host::new() else { return };
    let a = Endpoint::new(1);
    let made = host.space.inside(|| a.create(VethPlace::HandOver)).expect("the pair is made");
    assert!(!made.is_handed_over);
    host.space.ip(&format!("link set {} name mesh0 netns {}", container_link(a.id()), a.space.path()));
    let found = host.space.inside(|| a.create(VethPlace::HandOver)).expect("the pair is found");
    assert!(found.is_handed_over);
    assert!(said(&a.space, "ip", "-j link").contains("mesh0"));
    host.space.inside(|| Veth::remove(a.id())).expect("the pair is removed");
    assert!(!said(&a.space, "ip", "-j link").contains("mesh0"));
}

#[test]
fn pairs_are_deleted_together_and_nothing_of_others() {
    /// Where links are gathered that are deleted together.
    const GROUP: u32 = 0x6d65_7368;
    let Some(host) = Host::new() else { return };
    let [a, b, c, foreign] = [1, 2, 3, 4].map(Endpoint::new);
    let [_, _, kept] = [&a, &b, &c].map(|endpoint| {
        host.space.inside(|| endpoint.create(VethPlace::HandOver)).expect("the pair is made")
    });
    let others = [host_link(foreign.id()), "other".to_owned()];
    others.iter().for_each(|name| host.space.ip(&format!("link add {name} type veth")));
    let remove = |ids: &[&Endpoint]| {
        let ids = ids.iter().map(|endpoint| endpoint.id()).collect();
        host.space.inside(|| Veth::remove_all(&ids))
    };
    for _ in 0..2 {
        remove(&[&a, &b, &foreign]).expect("the pairs are removed");
        assert_eq!(host.pairs(), std::slice::from_ref(&kept));
    }
    let links = said(&host.space, "ip", "-j link");
    assert!(others.iter().all(|name| links.contains(name)), "{links}");

    host.space.ip(&format!("link set other group {GROUP}"));
    assert!(matches!(remove(&[&c]), Err(VethError::Foreign { link }) if link == "other"));
    assert_eq!(host.pairs(), [kept]);
    assert!(said(&host.space, "ip", "-j link").contains("other"));
}

#[test]
fn sixteen_endpoints_are_wired_at_once() {
    let Some(mut host) = Host::new() else { return };
    let endpoints: Vec<Endpoint> = (1..=16).map(Endpoint::new).collect();
    std::thread::scope(|scope| {
        for endpoint in &endpoints {
            scope.spawn(|| host.space.inside(|| endpoint.wire()));
        }
    });
    endpoints.iter().for_each(|endpoint| host.admit(endpoint, false));
    assert_eq!(host.pairs().len(), 16);
    for (here, there) in endpoints.iter().zip(endpoints.iter().cycle().skip(1)) {
        for family in 0..2 {
            assert_reached((&here.space, here.addresses[family]), (&there.space, there.addresses[family]));
        }
    }
    assert_eq!(host.faults(), [""; 0]);
}

#[test]
fn what_is_not_the_callers_namespace_is_refused() {
    let Some(host) = Host::new() else { return };
    let a = Endpoint::new(1);
    let open = |path: &str| {
        let (dev, ino) = std::fs::metadata(path).map_or((1, 2), |seen| (seen.dev(), seen.ino()));
        host.space.inside(|| Namespace::open(path, dev, ino)).expect_err("the namespace is refused")
    };
    assert!(matches!(open("/run/netns/nobody-made-this"), NamespaceError::Open { .. }));
    assert!(matches!(open("/proc/self/status"), NamespaceError::Kind { .. }));
    assert!(matches!(open("/proc/self/ns/mnt"), NamespaceError::Kind { .. }));
    assert!(matches!(open(&host.space.path()), NamespaceError::Own { .. }));
    let path = a.space.path();
    let seen = std::fs::metadata(&path).expect("the namespace is there");
    let other = Namespace::open(&path, seen.dev(), seen.ino() + 1).expect_err("another inode is refused");
    assert!(matches!(other, NamespaceError::Other { .. }));
    let text = other.to_string();
    assert!(text.contains(&path) && text.contains(&seen.ino().to_string()), "{text}");
}

#[test]
fn a_clash_of_names_or_addresses_is_refused_and_leaves_nothing() {
    let Some(mut host) = Host::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    a.space.ip("link add eth0 type veth");
    let before = snapshot(&host.space);
    let namespace = a.namespace();
    let taken = host.space.inside(|| a.create(VethPlace::Inside { namespace: &namespace, ifname: IFNAME }));
    assert!(matches!(taken, Err(VethError::IfnameTaken { ifname }) if ifname == IFNAME));
    assert_eq!(snapshot(&host.space), before);

    host.space.ip(&format!("link add {} type veth", host_link(a.id())));
    let foreign = host.space.inside(|| a.create(VethPlace::HandOver));
    assert!(matches!(foreign, Err(VethError::Foreign { .. })));
    assert!(matches!(host.space.inside(|| Veth::remove(a.id())), Err(VethError::Foreign { .. })));
    host.space.ip(&format!("link delete {}", host_link(a.id())));

    host.attach(&b);
    host.space.inside(|| {
        a.create(VethPlace::HandOver).expect("the pair is made");
        for route in b.routes() {
            let end = a.host_end(std::slice::from_ref(&route));
            end.set_up().expect("the host end is set up");
            let error = end.route().expect_err("the address is in use");
            let LinkEndError::Route { source: RouteError::Taken { holder, .. }, .. } = error else {
                panic!("{error}: not a clash of routes")
            };
            assert_eq!(holder, host_link(b.id()));
        }
    });
}

#[test]
fn a_link_that_is_gone_is_named() {
    let Some(host) = Host::new() else { return };
    let a = Endpoint::new(1);
    let namespace = a.namespace();
    host.space.inside(|| {
        let missing = a.host_end(&[]).set_up();
        assert!(matches!(missing, Err(LinkEndError::Vanished { link }) if link == host_link(a.id())));
        let missing = a.container_end(&[]).set_up(&namespace);
        let is_named =
            |error: &LinkEndError| matches!(error, LinkEndError::Vanished { link } if link == IFNAME);
        assert!(matches!(missing, Err(ContainerEndError::Link(error)) if is_named(&error)));
    });
}

#[test]
fn what_is_missing_at_either_end_is_told() {
    let Some(mut host) = Host::new() else { return };
    let a = Endpoint::new(1);
    let outer = || host_faults(&a);
    let inner = || a.container_end(&every_prefix()).faults(&a.namespace()).expect("the end is looked at");
    let missing = format!("link {} is gone", host_link(a.id()));
    assert_eq!(
        host.space.inside(|| (outer(), inner())),
        (vec![missing], vec![format!("link {IFNAME} is gone")])
    );
    host.attach(&a);
    wait_for("the link to be up", || host.pairs()[0].is_up);
    assert_eq!(host.space.inside(|| (outer(), inner())), (vec![], vec![]));

    let link = host_link(a.id());
    let (v4, v6) = (a.addresses[0], a.addresses[1]);
    host.space.ip(&format!("route del {v4} dev {link}"));
    host.space.ip(&format!("address del 169.254.1.1/32 dev {link}"));
    host.space
        .inside(|| std::fs::write(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter"), "0"))
        .expect("a setting");
    let faults = host.space.inside(outer);
    assert_eq!(
        faults,
        [
            format!("setting rp_filter of ipv4 on {link} is not 1"),
            format!("address 169.254.1.1/32 on {link} is missing"),
            format!("route to {v4}/32 from {NODE4} on {link} is missing"),
        ]
    );
    a.space.ip("-6 route del default");
    let faults = host.space.inside(inner);
    assert_eq!(faults, [format!("route to ::/0 via fe80::1 from {v6} on {IFNAME} is missing")]);
    a.space.ip(&format!("link set {IFNAME} down"));
    let faults = host.space.inside(inner);
    assert!(faults.contains(&format!("link {IFNAME} is down")), "{faults:?}");

    a.space.ip(&format!("link set {IFNAME} up"));
    host.attach(&a);
    wait_for("the link to be up", || host.pairs()[0].is_up);
    assert_eq!(host.space.inside(|| (outer(), inner())), (vec![], vec![]));
}

#[test]
fn endpoints_are_neither_a_conflict_nor_an_underlay() {
    let Some(mut host) = Host::new() else { return };
    let mesh = settings().prefixes;
    let seen = |host: &Host| {
        host.space.inside(|| {
            let conflicts =
                mesh.iter().map(|prefix| conflicting_route(*prefix, "meshd0").expect("the routes are read"));
            (conflicts.collect::<Vec<_>>(), underlay_mtu().expect("the links are read"))
        })
    };
    assert_eq!(seen(&host), (vec![None, None], 1500));
    let a = Endpoint::new(1);
    host.attach(&a);
    assert_eq!(seen(&host), (vec![None, None], 1500));
}

fn host_faults(endpoint: &Endpoint) -> Vec<String> {
    endpoint.host_end(&endpoint.routes()).faults().expect("the end is looked at")
}
