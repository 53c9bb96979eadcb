//! Policies of endpoints, and networks apart from each other, by real traffic on two hosts.

#[path = "policy/place.rs"]
mod place;
#[path = "policy/scenes.rs"]
mod scenes;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, Mesh, sctp, story, wait};
use serde_json::{Value, json};

use place::{DEADLINE, Place, Places, Service};

/// How soon the daemon puts right what others did to its tables: sooner than it looks at them by itself.
const REPAIRED: Duration = Duration::from_secs(8);
/// Fewer lines than this would not be the table that was promised.
const CASES_MIN: usize = 60;
const NETWORK: &str = "pods";

#[test]
fn policies_mean_what_they_say() {
    story("policy-table", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let pools = pools(&mesh, 128)?;
        let has_sctp = sctp::is_followed(a.namespace())?;
        let mut places = Places::new();
        let mut is_known_as = None;
        for host in [&a, &b] {
            put_network(host, &pools, json!({}))?;
        }
        for (host, names) in [(&a, &["t", "s"][..]), (&b, &["r"][..])] {
            for name in names {
                let mut place = Place::new(host, name)?;
                let who = format!("who={name}");
                place.attach(host, NETWORK, &["--label", &who, "--label", "app=x"])?;
                places.insert(*name, place);
            }
        }
        for (name, host) in [("A", &a), ("B", &b)] {
            let member = mesh.member(host.name())?;
            places.insert(name, Place::node(host, vec![member.addr4.into(), member.addr6.into()])?);
        }
        let mut cases = 0;
        for scene in scenes::scenes(&places, &pools) {
            for host in [&a, &b] {
                if is_known_as != Some(scene.is_policed) {
                    let policy = if scene.is_policed { "required" } else { "optional" };
                    put_network(host, &pools, json!({ "policy": policy }))?;
                }
                set_policies(host, &scene.policies)?;
            }
            is_known_as = Some(scene.is_policed);
            let mut probes = Vec::new();
            for line in scene.lines {
                probes.extend(read_line(line)?.into_iter().filter(|probe| has_sctp || !probe.is_sctp()));
            }
            cases += probes.len();
            let places = &places;
            let results: Vec<Result<Option<String>>> = thread::scope(|scope| {
                let ask = |probe: &Probe| probe.ask(places, DEADLINE);
                let running: Vec<_> = probes.iter().map(|probe| scope.spawn(move || ask(probe))).collect();
                running.into_iter().map(|one| one.join().expect("a probe ends")).collect()
            });
            let wrong: Vec<String> =
                results.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
            ensure!(wrong.is_empty(), "{}: {wrong:?}", scene.name);
        }
        ensure!(cases >= CASES_MIN, "{cases} cases");
        eprintln!("{cases} cases");
        Ok(())
    });
}

#[test]
fn a_change_cuts_what_is_not_allowed_any_more_and_nothing_else() {
    story("policy-cut", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let pools = pools(&mesh, 128)?;
        put_network(&a, &pools, json!({}))?;
        put_network(&b, &pools, json!({}))?;
        let (mut t, mut s, mut r) = (Place::new(&a, "t")?, Place::new(&a, "s")?, Place::new(&b, "r")?);
        for (place, host, label) in [(&mut t, &a, "who=t"), (&mut s, &a, "who=s"), (&mut r, &b, "who=r")] {
            place.attach(host, NETWORK, &["--label", label])?;
        }
        let at = |place: &Place, n: usize, port| SocketAddr::new(place.addresses[n], port);
        // From both hosts and in both directions, over both families, to two ports.
        let mut cut = Vec::new();
        let mut kept = Vec::new();
        for n in 0..2 {
            cut.extend([s.opens(at(&t, n, 81))?, r.opens(at(&t, n, 81))?, t.opens(at(&r, n, 80))?]);
            kept.extend([s.opens(at(&t, n, 80))?, r.opens(at(&t, n, 80))?]);
            kept.extend([t.opens(at(&s, n, 80))?, s.opens(at(&r, n, 80))?]);
        }
        ensure!(
            cut.iter_mut().chain(&mut kept).all(place::Connection::answers),
            "all work before the change"
        );
        let only = |names: &[&Place]| -> Vec<Value> {
            let nets = names.iter().flat_map(|place| &place.addresses);
            nets.map(|net| json!({ "net": format!("{net}/{}", if net.is_ipv4() { 32 } else { 128 }) }))
                .collect()
        };
        let port = json!([{ "protocol": "tcp", "first": 80, "last": 80 }]);
        let policy = json!({ "select": { "who": "t" }, "ingress": [{ "ports": port }],
            "egress": [{ "peers": only(&[&s]) }] });
        set_policies(&a, &json!([policy]))?;
        // The answer says that it is so; no connection is asked twice.
        let alive = thread::scope(|scope| {
            let asked = cut.iter_mut().map(|one| scope.spawn(move || one.answers()));
            let asked: Vec<_> = asked.collect();
            asked.into_iter().map(|one| one.join().expect("it ends")).filter(|alive| *alive).count()
        });
        ensure!(alive == 0, "{alive} connections go on that are not allowed");
        for (n, one) in kept.iter_mut().enumerate() {
            ensure!(one.answers(), "connection {n} is allowed and was cut");
        }
        // What was cut goes on when it is allowed again: nothing was taken from the kernel.
        set_policies(&a, &json!([]))?;
        for one in &mut kept {
            ensure!(one.answers(), "a connection that nobody meant was cut");
        }
        for (n, one) in cut.iter_mut().enumerate() {
            wait::until(DEADLINE, &format!("connection {n} goes on"), || one.answers())?;
        }
        Ok(())
    });
}

#[test]
fn policies_that_are_too_heavy_are_refused_and_keep_nothing_from_coming_and_going() {
    story("policy-heavy", |lab| {
        let a = lab.host("a")?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        put_network(&a, &pools(&mesh, 128)?, json!({}))?;
        let mut t = Place::new(&a, "t")?;
        t.attach(&a, NETWORK, &["--label", "who=t"])?;
        // Within every bound of a single field.
        let except =
            |n: usize| -> Vec<String> { (0..256).map(|m| format!("fd00:{n:x}:{:x}::/48", 2 * m)).collect() };
        let peers = (0..1024).map(|n| json!({ "net": format!("fd00:{n:x}::/32"), "except": except(n) }));
        let rule = json!({ "peers": peers.collect::<Vec<_>>() });
        let policy = json!({ "select": { "who": "t" }, "ingress": [rule] });
        let refused = set_policies(&a, &json!([policy])).err().context("it is refused")?.to_string();
        ensure!(refused.contains("too heavy"), "{refused}");
        let mut s = Place::new(&a, "s")?;
        s.attach(&a, NETWORK, &[])?;
        wait::until(DEADLINE, "nothing restricts it", || s.pings(t.addresses[0]).unwrap_or(false))?;
        a.ctl(&["detach", "--netns", &s.path, "--network", NETWORK])?.ok()?;
        let member = mesh.member_mut("a")?;
        member.daemon.kill()?;
        member.daemon = a.meshd("")?;
        a.ctl(&["endpoints"])?.ok().map(drop)
    });
}

#[test]
fn an_endpoint_is_restricted_from_its_first_packet_on_and_when_the_daemon_is_gone() {
    story("policy-first", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let pools = pools(&mesh, 128)?;
        for host in [&a, &b] {
            put_network(host, &pools, json!({ "policy": "required" }))?;
        }
        let open = json!([{ "select": { "who": "s" } }]);
        ensure!(set_policies(&a, &open)? == 0, "nothing is attached that it could select");
        let (mut s, mut t) = (Place::new(&a, "s")?, Place::new(&a, "t")?);
        s.attach(&a, NETWORK, &["--label", "who=s"])?;
        ensure!(set_policies(&a, &open)? == 1, "one endpoint is selected");
        let IpAddr::V4(own) = s.addresses[0] else { anyhow::bail!("no IPv4 address") };
        let next = IpAddr::from((u32::from(own) + 9).to_be_bytes());
        // Somebody is at it all the time while it comes.
        let target = SocketAddr::new(next, 5000);
        let heard_while = |doing: &mut dyn FnMut() -> Result<()>| -> Result<usize> {
            let (is_over, heard) = (AtomicBool::new(false), AtomicUsize::new(0));
            thread::scope(|scope| {
                let flood = scope.spawn(|| s.floods(target, &is_over, &heard));
                let done = doing();
                is_over.store(true, Ordering::Relaxed);
                done.and(flood.join().expect("it ends"))
            })?;
            Ok(heard.into_inner())
        };
        let heard = heard_while(&mut || {
            t.attach(&a, NETWORK, &["--label", "who=t", "--ip", &next.to_string()])?;
            wait::until(DEADLINE, "its node reaches it", || a.pings(&next.to_string(), 1).unwrap_or(false))
        })?;
        ensure!(heard == 0, "it was reached before anybody had allowed it");
        let open = json!([{ "select": { "who": "s" } }, { "select": { "who": "t" } }]);
        let heard = heard_while(&mut || {
            set_policies(&a, &open)?;
            wait::until(DEADLINE, "it is heard", || s.asks(&t, true, Service::Udp(5000)).unwrap_or(false))
        })?;
        ensure!(heard > 0, "nothing was asked");
        let may = json!([{ "select": { "who": "s" } }, { "select": { "who": "t" },
            "ingress": [{ "ports": [{ "protocol": "tcp", "first": 80, "last": 80 }] }], "egress": [] }]);
        ensure!(set_policies(&a, &may)? == 2, "two endpoints are selected");
        let holds = |when: &str| -> Result<()> {
            let asks = |port| s.asks(&t, true, Service::Tcp(port)).unwrap_or(false);
            wait::until(DEADLINE, &format!("what is allowed works {when}"), || asks(80))?;
            ensure!(!asks(81), "what is not allowed works {when}");
            ensure!(!t.asks(&s, true, Service::Tcp(80))?, "it may not open anything {when}");
            Ok(())
        };
        holds("at first")?;
        mesh.member_mut("a")?.daemon.kill()?;
        holds("while the daemon is gone")?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        holds("after the daemon came back")?;
        // Nobody has said anything since.
        let mut u = Place::new(&a, "u")?;
        u.attach(&a, NETWORK, &["--label", "who=t"])?;
        ensure!(!s.asks(&u, true, Service::Tcp(81))?, "a new one like it");
        wait::until(DEADLINE, "a new one like it is asked", || {
            s.asks(&u, true, Service::Tcp(80)).unwrap_or(false)
        })?;
        // Whoever changes the table is undone at once, and its own changes are none of others.
        let mut call = s.opens(SocketAddr::new(t.addresses[0], 80))?;
        for line in ["flush table inet meshd_policy\n", "delete table inet meshd_policy\n"] {
            let before = handle(&a)?;
            a.namespace().nft(line)?;
            wait::until(REPAIRED, "the table is written anew", || {
                handle(&a).is_ok_and(|now| now != before)
                    && !s.asks(&t, true, Service::Tcp(81)).unwrap_or(true)
            })?;
            ensure!(call.answers(), "what is allowed goes on");
        }
        let before = handle(&a)?;
        for policies in [&may, &open, &may] {
            set_policies(&a, policies)?;
        }
        ensure!(handle(&a)? == before, "it undoes what it does itself");
        b.ctl(&["leave"])?.ok()?;
        let tables = b.run(&["nft", "list", "tables"])?.ok()?;
        ensure!(!tables.contains("meshd"), "{tables}");
        Ok(())
    });
}

#[test]
fn labels_that_are_told_while_an_endpoint_comes_hold_when_it_is_there() {
    story("policy-told", |lab| {
        let a = lab.host("a")?;
        let mesh = lab.mesh("clinics", &[&a])?;
        put_network(&a, &pools(&mesh, 128)?, json!({}))?;
        set_policies(&a, &json!([{ "select": { "who": "told" }, "ingress": [] }]))?;
        let mut s = Place::new(&a, "s")?;
        s.attach(&a, NETWORK, &[])?;
        for n in 0..8 {
            let mut t = Place::new(&a, &format!("t{n}"))?;
            thread::scope(|scope| -> Result<()> {
                let attached = scope.spawn(|| t.attach(&a, NETWORK, &["--label", "who=asked"]));
                let described = wait::until(DEADLINE, "it is known", || {
                    a.call("GET", "/v1/endpoints", &json!({})).is_ok_and(|table| {
                        let coming = |one: &&Value| one["labels"]["who"] == "asked";
                        table["endpoints"].as_array().and_then(|all| all.iter().find(coming)).is_some_and(
                            |one| {
                                let request = json!({ "attachment": one["attachment"],
                                "identity": { "labels": { "who": "told" } } });
                                a.call("POST", "/v1/endpoints/describe", &request).is_ok()
                            },
                        )
                    })
                });
                attached.join().expect("it ends").and(described)
            })?;
            let node = mesh.member("a")?.addr4.into();
            wait::until(DEADLINE, "it is there", || t.pings(node).unwrap_or(false))?;
            ensure!(!s.asks(&t, true, Service::Tcp(80))?, "{n}: it is judged by what was told before");
        }
        Ok(())
    });
}

#[test]
fn a_published_port_is_judged_by_who_really_calls() {
    story("policy-nat", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let pools = pools(&mesh, 128)?;
        put_network(&a, &pools, json!({ "egress": "mesh" }))?;
        let (mut t, mut s) = (Place::new(&a, "t")?, Place::new(&a, "s")?);
        t.attach(&a, NETWORK, &["--label", "who=t", "--default-route"])?;
        s.attach(&a, NETWORK, &["--label", "who=s", "--default-route"])?;
        // As portmap and kube-proxy do it: the port of the host is the endpoint's, and who calls its own port comes
        // back as the host.
        let to = t.addresses[0];
        a.namespace().nft(&format!(
            "table ip portmap {{
                chain in {{
                    type nat hook prerouting priority -100
                    tcp dport 9080 dnat to {to}:80
                }}
                chain out {{
                    type nat hook postrouting priority 100
                    ip saddr {to} ip daddr {to} masquerade
                }}
            }}\n"
        ))?;
        let published = SocketAddr::new(a.addr4().into(), 9080);
        let outside = Place { namespace: b.namespace().clone(), path: "b".to_owned(), addresses: Vec::new() };
        outside.opens(published)?;
        let policy = |peer: &str| {
            json!([{ "select": { "who": "t" }, "ingress": [{ "peers": [{ "net": peer }],
                "ports": [{ "protocol": "tcp", "first": 80, "last": 80 }] }] }])
        };
        set_policies(&a, &policy(&format!("{}/32", b.addr4())))?;
        let mut call = outside.opens(published)?;
        ensure!(call.answers(), "the caller is allowed");
        ensure!(s.open(published).is_err(), "another one is not");
        ensure!(t.opens(published)?.answers(), "nobody can be kept from itself");
        set_policies(&a, &policy(&format!("{}/32", s.addresses[0])))?;
        ensure!(!call.answers(), "it is cut");
        ensure!(outside.open(published).is_err(), "and stays away");
        ensure!(s.opens(published)?.answers(), "a neighbour that is allowed reaches the published port");
        Ok(())
    });
}

#[test]
fn networks_apart_keep_to_themselves_and_the_nodes() {
    story("policy-apart", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let (red, blue, open) = (pools(&mesh, 128)?, pools(&mesh, 144)?, pools(&mesh, 160)?);
        let make = |host: &Host, name: &str, pools: &[String], reach: &str| {
            let line = ["network", "create", name, "--subnet", &pools.join(","), "--reach", reach];
            host.ctl(&line)?.ok().map(drop)
        };
        let mut places = BTreeMap::new();
        for (host, n) in [(&a, "a"), (&b, "b")] {
            for (network, pools, reach) in
                [("red", &red, "network"), ("blue", &blue, "network"), ("open", &open, "mesh")]
            {
                make(host, network, pools, reach)?;
                let mut place = Place::new(host, &format!("{network}{n}"))?;
                place.attach(host, network, &[])?;
                places.insert(format!("{network}{n}"), place);
            }
        }
        let asks = |from: &Place, to: &Place, is_v4| from.asks(to, is_v4, Service::Tcp(80)).unwrap_or(false);
        let all = |may: &(dyn Fn(&str, &str) -> bool + Sync)| -> Result<()> {
            let pairs = || places.iter().flat_map(|from| places.iter().map(move |to| (from, to)));
            let results: Vec<Result<()>> = thread::scope(|scope| {
                let probe = |((one, from), (other, to)): ((&String, &Place), (&String, &Place)), is_v4| {
                    let what = format!("{one} and {other} over {}", if is_v4 { "IPv4" } else { "IPv6" });
                    if may(one, other) {
                        return wait::until(DEADLINE, &what, || asks(from, to, is_v4));
                    }
                    ensure!(!asks(from, to, is_v4), "{what} are not apart");
                    Ok(())
                };
                let running: Vec<_> = pairs()
                    .flat_map(|pair| [true, false].map(|is_v4| scope.spawn(move || probe(pair, is_v4))))
                    .collect();
                running.into_iter().map(|one| one.join().expect("a probe ends")).collect()
            });
            results.into_iter().collect()
        };
        let kind = |name: &str| name[..name.len() - 1].to_owned();
        all(&|one, other| kind(one) == kind(other))?;
        // Nodes and endpoints reach each other, wherever they are, and a node that comes does so as well.
        let daemon = c.meshd("")?;
        mesh.join(&c, daemon)?;
        mesh.everyone_sees_all()?;
        for member in &mesh.members {
            for place in places.values() {
                for address in &place.addresses {
                    member.reaches(DEADLINE, &address.to_string())?;
                }
                for address in [IpAddr::from(member.addr4), member.addr6.into()] {
                    wait::until(DEADLINE, &format!("{} reaches node {address}", place.path), || {
                        place.pings(address).unwrap_or(false)
                    })?;
                }
            }
        }
        for host in [&a, &b] {
            make(host, "blue", &blue, "mesh")?;
        }
        all(&|one, other| kind(one) == kind(other) || (kind(one) != "red" && kind(other) != "red"))
    });
}

/// One question.
#[derive(Debug)]
struct Probe {
    from: String,
    to: String,
    is_v4: bool,
    service: Service,
    is_allowed: bool,
}

impl Probe {
    fn is_sctp(&self) -> bool {
        matches!(self.service, Service::Sctp(_))
    }

    /// What is wrong; what is allowed may take its time.
    fn ask(&self, places: &Places, patience: Duration) -> Result<Option<String>> {
        let place = |name: &str| places.get(name).with_context(|| format!("nobody is called {name}"));
        let (from, to) = (place(&self.from)?, place(&self.to)?);
        let asks = || from.asks(to, self.is_v4, self.service);
        let is_right = match self.is_allowed {
            true => wait::until(patience, "an answer", || asks().unwrap_or(false)).is_ok(),
            false => !asks()?,
        };
        Ok((!is_right).then(|| format!("{self:?}")))
    }
}

/// Reads `s>t +tcp/80 -ping`, for both families.
fn read_line(line: &str) -> Result<Vec<Probe>> {
    let mut words = line.split_whitespace();
    let (from, to) = words.next().and_then(|pair| pair.split_once('>')).context("a pair")?;
    let mut probes = Vec::new();
    for word in words {
        let is_allowed = word.starts_with('+');
        let service = Service::read(&word[1..])?;
        for is_v4 in [true, false] {
            probes.push(Probe { from: from.to_owned(), to: to.to_owned(), is_v4, service, is_allowed });
        }
    }
    Ok(probes)
}

/// A pool of each family.
fn pools(mesh: &Mesh<'_>, third: u8) -> Result<Vec<String>> {
    let member = mesh.member("a")?;
    let [a, b, ..] = member.addr4.octets();
    let [one, two, three, four, ..] = member.addr6.segments();
    Ok(vec![format!("{a}.{b}.{third}.0/20"), format!("{one:x}:{two:x}:{three:x}:{four:x}:{third:x}::/80")])
}

fn put_network(host: &Host, pools: &[String], more: Value) -> Result<()> {
    let mut network =
        json!({ "runtime": "meshctl", "network": NETWORK, "pool4": pools[0], "pool6": pools[1] });
    if let (Some(network), Value::Object(more)) = (network.as_object_mut(), more) {
        network.extend(more);
    }
    host.call("POST", "/v1/networks/put", &json!({ "network": network })).map(drop)
}

/// Sets policies; returns how many endpoints they select.
fn set_policies(host: &Host, policies: &Value) -> Result<u64> {
    let request = json!({ "runtime": "meshctl", "network": NETWORK, "policies": policies });
    let reply = host.call("POST", "/v1/policies/set", &request)?;
    reply["endpoints"].as_u64().with_context(|| format!("{reply}"))
}

/// What the kernel calls the table of policies; it calls none twice by the same number.
fn handle(host: &Host) -> Result<String> {
    let listed = host.run(&["nft", "-a", "list", "table", "inet", "meshd_policy"])?.ok()?;
    listed.lines().next().map(str::to_owned).context("a table")
}
