//! Names of the mesh, asked for with the resolver's own tool.

#[path = "federation/founders.rs"]
mod founders;

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mesh_lab::{Host, Namespace, process, repository, story, wait};
use serde_json::Value;

use founders::found;

const DEADLINE: Duration = Duration::from_secs(30);
/// Deadline for a node that died to be known as silent: three keepalives.
const SILENCE_DEADLINE: Duration = Duration::from_secs(120);
const DNS: u16 = 53;
/// The gateway of every endpoint.
const GATEWAY: &str = "169.254.1.1";

/// What `dig` read.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// `NOERROR`, `NXDOMAIN`, `REFUSED`.
    status: String,
    /// Data of the records.
    data: Vec<String>,
}

#[test]
fn members_find_each_other_by_name_across_organisations() {
    story("names", |around| {
        let [c1, l1, l2] = around.hosts(["c1", "l1", "l2"])?;
        let _daemons = found(around, &c1, &l1, "", &[])?;
        let _daemon = l2.meshd("")?;
        let token = l1.ctl(&["invite"])?.ok()?;
        let token = token["token"].as_str().context("a token")?.to_owned();
        l2.ctl(&["join", &token, "--name", "l2"])?.ok()?;
        let hosts = [(&c1, "c1.clinic"), (&l1, "l1.lab"), (&l2, "l2.lab")];
        let nodes = hosts.map(|(host, name)| Ok((host, name, own(host)?)));
        let nodes: Vec<_> = nodes.into_iter().collect::<Result<_>>()?;

        // Each asks itself for each.
        for (asker, _, [server, _]) in &nodes {
            for (_, name, addresses) in &nodes {
                let name = format!("{name}.mesh.internal");
                for (kind, address) in ["A", "AAAA"].into_iter().zip(addresses) {
                    until_found(asker, server, &[&name, kind], address)?;
                    until_found(asker, server, &["-x", address], &format!("{name}."))?;
                }
            }
        }

        // One asks others through the tunnel, over both families and both transports.
        for (_, _, servers) in &nodes {
            for server in servers {
                for transport in ["+notcp", "+tcp"] {
                    let [address, _] = &nodes[2].2;
                    until_found(&c1, server, &["L2.lab.MESH.internal", "A", transport], address)?;
                }
            }
        }

        let [server, _] = &nodes[0].2;
        for (question, status) in [
            (["l2.clinic.mesh.internal", "A"], "NXDOMAIN"),
            (["-x", "10.91.77.77"], "NXDOMAIN"),
            (["lab.mesh.internal", "A"], "NOERROR"),
            (["l2.lab.mesh.internal", "TXT"], "NOERROR"),
            (["example.com", "A"], "REFUSED"),
            (["-x", "192.0.2.1"], "REFUSED"),
        ] {
            let nothing = Answer { status: status.into(), data: vec![] };
            assert_eq!(dig(&c1, server, &question)?, nothing, "{question:?}");
        }
        let authority = dig(&c1, server, &["mesh.internal", "SOA"])?;
        assert!(authority.data.iter().any(|data| data.starts_with("ns.mesh.internal. ")), "{authority:?}");
        let shown = c1.peers()?;
        let shown = shown.iter().find(|peer| peer["name"] == "l2").context("l2 is shown")?;
        assert_eq!(shown["dns_name"], "l2.lab.mesh.internal");
        c1.ctl(&["ping", "l2.lab.mesh.internal", "--count", "1"])?.ok()?;

        // What left has no name.
        let left = nodes[2].2.clone();
        l2.ctl(&["leave"])?.ok()?;
        wait::until(DEADLINE, "the name of l2 is gone at both", || {
            [(&c1, &nodes[0].2), (&l1, &nodes[1].2)].into_iter().all(|(host, [server, _])| {
                let gone = |question: &[&str]| {
                    dig(host, server, question).is_ok_and(|answer| answer.status == "NXDOMAIN")
                };
                gone(&["l2.lab.mesh.internal", "A"]) && gone(&["-x", &left[0]]) && gone(&["-x", &left[1]])
            })
        })?;
        assert_eq!(dig(&c1, server, &["l1.lab.mesh.internal", "A"])?.data, [nodes[1].2[0].clone()]);
        Ok(())
    });
}

#[test]
fn an_endpoint_has_a_name_while_it_is_attached_and_its_node_is_reached() {
    story("names-endpoint", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let ([at_a, _], [at_b, _]) = (own(&a)?, own(&b)?);
        let name = own_name(&b)?.replacen("b.", "web.", 1);
        let question = [name.as_str(), "A"];
        let gone = |host: &Host, server: &str| {
            let what = format!("{name} is gone at {}", host.name());
            wait::until(SILENCE_DEADLINE, &what, || {
                dig(host, server, &question).is_ok_and(|answer| answer.status == "NXDOMAIN")
            })
        };
        gone(&a, &at_a)?;

        let inside = Namespace::create(&format!("{}-web", b.namespace().name()))?;
        let path = format!("/run/netns/{}", inside.name());
        let attached = b.ctl(&["attach", "--netns", &path, "--name", "web"])?.ok()?;
        let address = text(&attached, "/addresses/0")?;
        until_found(&b, &at_b, &question, &address)?;
        until_found(&a, &at_a, &question, &address)?;
        until_found(&a, &at_a, &["-x", &address], &format!("{name}."))?;

        // Inside it, its gateway answers, and the node; nobody else gets an answer at the gateway.
        for server in [GATEWAY, &at_b, &at_a] {
            let answer = dig_from(&inside, server, &question)?;
            assert_eq!(answer.data, [address.as_str()], "at {server}: {answer:?}");
        }
        assert_eq!(dig(&b, GATEWAY, &question)?.status, "REFUSED");

        mesh.member_mut("b")?.daemon.kill()?;
        gone(&a, &at_a)?;
        mesh.member_mut("b")?.daemon = b.meshd("")?;
        until_found(&a, &at_a, &question, &address)?;
        b.ctl(&["detach", "--netns", &path])?.ok()?;
        gone(&b, &at_b)?;
        gone(&a, &at_a)
    });
}

#[test]
fn bad_bytes_and_idle_connections_keep_nobody_from_asking() {
    story("names-abuse", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let [server, _] = own(&a)?;
        let to: SocketAddr = SocketAddr::new(server.parse().context("an address")?, DNS);
        let _idle = b.namespace().run(|| -> Result<Vec<TcpStream>> {
            let socket = UdpSocket::bind("0.0.0.0:0").context("bind")?;
            for len in 0..600usize {
                let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
                socket.send_to(&bytes, to).context("send bad bytes")?;
            }
            // More connections than are kept; those beyond are closed by the server.
            (0..100).map(|_| TcpStream::connect(to).context("connect")).collect()
        })??;
        let name = own_name(&a)?;
        for transport in ["+notcp", "+tcp"] {
            until_found(&a, &server, &[&name, "A", transport], &server)?;
        }
        assert!(a.ctl(&["status"])?.ok()?["warnings"].as_array().is_none_or(Vec::is_empty));
        Ok(())
    });
}

#[test]
fn a_port_that_is_taken_is_told_and_used_once_it_is_free() {
    story("names-port", |lab| {
        let [a] = lab.hosts(["a"])?;
        let taken = a.namespace().run(|| -> Result<_> {
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DNS));
            Ok((UdpSocket::bind(any).context("take UDP")?, TcpListener::bind(any).context("take TCP")?))
        })??;
        let _mesh = lab.mesh("clinics", &[&a])?;
        let warned = |a: &Host| -> Result<bool> {
            let status = a.ctl(&["status"])?.ok()?;
            let warnings = status["warnings"].as_array().context("warnings")?.clone();
            Ok(warnings.iter().any(|warning| warning["code"] == "dns-not-served"))
        };
        assert_eq!(a.ctl(&["status"])?.ok()?["membership"], "member", "the mesh does without");
        wait::until(DEADLINE, "the port is told to be taken", || warned(&a).unwrap_or(false))?;
        drop(taken);
        let [server, _] = own(&a)?;
        until_found(&a, &server, &[&own_name(&a)?, "A"], &server)?;
        wait::until(DEADLINE, "all is served", || warned(&a).is_ok_and(|warned| !warned))
    });
}

#[test]
fn a_suffix_of_ones_own_is_used_and_no_service_means_none() {
    story("names-config", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let _first = lab.mesh_with("clinics", &[&a], "[dns]\nsuffix = \"example.lan\"\n")?;
        let [server, _] = own(&a)?;
        let name = own_name(&a)?;
        assert!(name.ends_with(".example.lan"), "{name}");
        until_found(&a, &server, &[&name, "A"], &server)?;
        assert_eq!(dig(&a, &server, &["mesh.internal", "SOA"])?.status, "REFUSED");

        let _second = lab.mesh_with("others", &[&b], "[dns]\nserve = false\n")?;
        let [server, _] = own(&b)?;
        let silent = b.run(&["dig", "+tries=1", "+time=1", &format!("@{server}"), "mesh.internal", "SOA"])?;
        assert_ne!(silent.code, 0, "{}", silent.stdout);
        Ok(())
    });
}

#[test]
fn the_capabilities_of_the_unit_are_enough_to_serve_names() {
    story("names-unit", |lab| {
        let [a] = lab.hosts(["a"])?;
        let unit = repository()?.join("meshd/systemd/meshd.service");
        let unit = std::fs::read_to_string(&unit).with_context(|| format!("read {}", unit.display()))?;
        let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        let words = line.context("a bounding set")?.to_ascii_lowercase();
        let kept: Vec<String> = words.split_whitespace().map(|word| word.replace("cap_", "+")).collect();
        let bare = a.meshd_command("")?;
        let mut command = Command::new("setpriv");
        command.arg(format!("--bounding-set=-all,{}", kept.join(","))).arg("--inh-caps=-all");
        command.arg(bare.get_program()).args(bare.get_args());
        let _daemon = a.meshd_from(command)?;
        let key = a.dir().join("root.key").display().to_string();
        a.ctl(&["mesh", "create", "clinics", "--root-key", &key, "--lab"])?.ok()?;
        let [server, _] = own(&a)?;
        until_found(&a, &server, &[&own_name(&a)?, "A"], &server)
    });
}

/// Addresses of a host in the mesh.
fn own(host: &Host) -> Result<[String; 2]> {
    let status = host.ctl(&["status"])?.ok()?;
    let text = |pointer| text(&status, pointer);
    Ok([text("/node/addr4")?, text("/node/addr6")?])
}

fn own_name(host: &Host) -> Result<String> {
    text(&host.ctl(&["status"])?.ok()?, "/node/dns_name")
}

fn text(status: &Value, pointer: &str) -> Result<String> {
    let found = status.pointer(pointer).and_then(Value::as_str);
    Ok(found.with_context(|| format!("no {pointer} in {status}"))?.to_owned())
}

fn until_found(host: &Host, server: &str, question: &[&str], data: &str) -> Result<()> {
    let what = format!("{} hears from {server} that {question:?} is {data}", host.name());
    wait::until(DEADLINE, &what, || {
        dig(host, server, question).is_ok_and(|answer| answer.status == "NOERROR" && answer.data == [data])
    })
}

fn dig(host: &Host, server: &str, question: &[&str]) -> Result<Answer> {
    dig_from(host.namespace(), server, question)
}

/// Asks a server; the header tells how it ended, the short form what it said.
fn dig_from(from: &Namespace, server: &str, question: &[&str]) -> Result<Answer> {
    let at = format!("@{server}");
    let mut line = vec!["dig", "+tries=2", "+time=2", "+norecurse", &at];
    line.extend(question);
    let text = process::run(&line, Some(from), DEADLINE)?.ok()?;
    let status =
        text.lines().find_map(|line| line.split_once("status: ")?.1.split_once(',').map(|(word, _)| word));
    let Some(status) = status else { bail!("no status in {text}") };
    let answers = text.lines().skip_while(|line| *line != ";; ANSWER SECTION:").skip(1);
    let answers = answers.take_while(|line| !line.is_empty());
    // Owner, time, class and type come first.
    let data = answers.map(|line| line.split_whitespace().skip(4).collect::<Vec<_>>().join(" "));
    Ok(Answer { status: status.to_owned(), data: data.collect() })
}
