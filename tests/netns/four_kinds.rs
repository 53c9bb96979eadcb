//! A container of Docker, a pod of containerd, a container of podman and a plain process in one mesh: each reaches each.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Containerd, Docker, Host, IMAGE, Output, Pod, Podman, story, wait};

const DEADLINE: Duration = Duration::from_secs(30);
/// Where everything that is attached answers over TCP.
const PORT: &str = "8080";
/// Where everything that is attached may ask for names.
const DNS: &str = "169.254.1.1";
const SERVE: [&str; 7] = ["nc", "-ll", "-p", PORT, "-e", "echo", "served"];

/// Runs a command inside of what is attached.
type Inside<'a> = Box<dyn Fn(&[&str]) -> Result<Output> + 'a>;

struct Kind<'a> {
    name: &'static str,
    /// What it is called in the mesh.
    dns_name: String,
    addresses: Vec<String>,
    inside: Inside<'a>,
}

impl Kind<'_> {
    fn succeeds(&self, line: &[&str]) -> bool {
        (self.inside)(line).is_ok_and(|output| output.code == 0)
    }

    fn says(&self, line: &[&str], word: &str) -> bool {
        (self.inside)(line).is_ok_and(|output| output.stdout.contains(word))
    }

    /// By ICMP, TCP and UDP; the last is answered by an error that only the target sends.
    fn reaches(&self, other: &Self) -> Result<()> {
        for target in &other.addresses {
            let (from, to) = (self.name, other.name);
            wait::until(DEADLINE, &format!("{from} pings {to} at {target}"), || {
                self.succeeds(&["ping", "-c", "1", "-W", "2", target])
            })?;
            wait::until(DEADLINE, &format!("{from} is served by {to} at {target}"), || {
                self.says(&["nc", "-w", "3", target, PORT], "served")
            })?;
            let traceroute = if target.contains(':') { "traceroute6" } else { "traceroute" };
            wait::until(DEADLINE, &format!("{from} sends datagrams to {to} at {target}"), || {
                let hops = (self.inside)(&[traceroute, "-n", "-q", "1", "-w", "2", "-m", "6", target]);
                hops.is_ok_and(|hops| hops.stdout.lines().skip(1).any(|hop| hop.contains(target)))
            })?;
        }
        let (from, to, target) = (self.name, other.name, &other.dns_name);
        wait::until(DEADLINE, &format!("{from} pings {to} by its name {target}"), || {
            self.succeeds(&["ping", "-c", "1", "-W", "2", target])
        })?;
        wait::until(DEADLINE, &format!("{from} is served by {to} by its name {target}"), || {
            self.says(&["nc", "-w", "3", target, PORT], "served")
        })
    }
}

#[test]
fn containers_of_docker_pods_containers_of_podman_and_processes_reach_each_other() {
    story("four-kinds", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let [v4, v6] = pools(mesh.member("a")?.addr4, mesh.member("a")?.addr6);
        // Runtimes copy it into what they run, but for Docker, which asks from the host there.
        for host in [&a, &b] {
            host.run(&["sh", "-c", &format!("echo nameserver {DNS} >/etc/resolv.conf")])?.ok()?;
        }
        let status = a.ctl(&["status"])?.ok()?;
        let node = status.pointer("/node/dns_name").and_then(serde_json::Value::as_str);
        let (_, domain) = node.and_then(|node| node.split_once('.')).context("the name of a node")?;
        let dns_name = |name: &str| format!("{name}.{domain}");
        let _plugin = a.docker_plugin()?;
        let docker = Docker::start(&a)?;
        let create = ["network", "create", "--driver", "meshd", "--ipam-driver", "meshd", "--ipv6"];
        docker.ok(&[&create[..], &["--subnet", &v4, "--subnet", &v6, "net"]].concat())?;
        let run = ["run", "--detach", "--network", "net", "--dns", DNS, "--name", "one", IMAGE];
        docker.ok(&[&run[..], &SERVE].concat())?;

        let lone = a.start(&[
            "unshare", "--net", "busybox", SERVE[0], SERVE[1], SERVE[2], PORT, "-e", "echo", "served",
        ])?;
        let attach = ["network", "create", "net", "--subnet", &v4, "--subnet", &v6];
        a.ctl(&attach)?.ok()?;
        let pid = lone.pid().to_string();
        // It is there before it is in a namespace of its own, and has its name after.
        wait::until(DEADLINE, "busybox runs", || {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "busybox")
        })?;
        let attached = a.ctl(&["attach", "--pid", &pid, "--network", "net", "--name", "two"])?.ok()?;

        cni(&b, &v4, &v6)?;
        // The first container of podman mounts the directory of namespaces anew, over what pods would have there.
        let podman = Podman::new(&b)?;
        let run = [
            "run",
            "--detach",
            "--network",
            "meshd-podman",
            "--network-alias",
            "four",
            "--name",
            "four",
            IMAGE,
        ];
        podman.ok(&[&run[..], &SERVE].concat())?;
        let containerd = Containerd::start(&b)?;
        wait::until(DEADLINE, "pods can be run", || containerd.network_is_ready().unwrap_or(false))?;
        let pod = Pod::run(&containerd, "three", &[], &SERVE)?;

        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}";
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let namespace = format!("--net=/proc/{pid}/ns/net");
        let kinds = [
            Kind {
                name: "the container of Docker",
                dns_name: dns_name("one"),
                addresses: words(docker.ok(&["inspect", "--format", form, "one"])?),
                inside: Box::new(|line| docker.run(&[&["exec", "one"], line].concat())),
            },
            Kind {
                name: "the process",
                dns_name: dns_name("two"),
                addresses: attached["addresses"]
                    .as_array()
                    .context("addresses")?
                    .iter()
                    .filter_map(text)
                    .collect(),
                inside: Box::new(|line| a.run(&[&["nsenter", &namespace, "busybox"], line].concat())),
            },
            Kind {
                name: "the pod",
                dns_name: dns_name("three.default"),
                addresses: pod.addresses().to_vec(),
                inside: Box::new(|line| pod.exec(line)),
            },
            Kind {
                name: "the container of podman",
                dns_name: dns_name("four"),
                addresses: words(podman.ok(&["inspect", "--format", form, "four"])?),
                inside: Box::new(|line| podman.run(&[&["exec", "four"], line].concat())),
            },
        ];
        for kind in &kinds {
            ensure!(kind.addresses.len() == 2, "{} has {:?}", kind.name, kind.addresses);
        }
        for from in &kinds {
            for to in kinds.iter().filter(|to| to.name != from.name) {
                from.reaches(to)?;
            }
        }

        docker.ok(&["rm", "--force", "one"])?;
        podman.ok(&["rm", "--force", "four"])?;
        drop(kinds);
        pod.remove()?;
        a.ctl(&["detach", "--pid", &pid, "--network", "net"])?.ok()?;
        for host in [&a, &b] {
            let left = host.ctl(&["endpoints"])?.ok()?;
            ensure!(left["endpoints"].as_array().is_some_and(Vec::is_empty), "{left}");
            let links = host.run(&["ip", "-o", "link"])?.ok()?;
            ensure!(!links.contains("msh") && !links.contains("msc"), "{links}");
        }
        Ok(())
    });
}

/// Pools inside of the prefixes of a node's organisation.
fn pools(v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr) -> [String; 2] {
    let ([a, b, ..], [c, d, e, f, ..]) = (v4.octets(), v6.segments());
    [format!("{a}.{b}.128.0/20"), format!("{c:x}:{d:x}:{e:x}:{f:x}:d0c::/80")]
}

/// Networks of pods and of podman: equal pools make them one with that of Docker.
fn cni(host: &Host, v4: &str, v6: &str) -> Result<()> {
    let pools = ["--pool4", v4, "--pool6", v6];
    host.install_cni(&pools)?;
    host.install_cni(
        &[&pools[..], &["--file", "87-meshd-podman.conflist", "--name", "meshd-podman"]].concat(),
    )
}
