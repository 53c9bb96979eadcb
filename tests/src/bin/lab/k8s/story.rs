//! What a cluster does on meshd, one check after the other.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mesh_lab::{Host, Lab, Mesh, wait};
use serde_json::Value;

use super::Checks;
use super::control::Control;
use super::node::Node;
use super::programs::Programs;

/// Time anything gets on a machine that has a whole cluster on two cores.
const DEADLINE: Duration = Duration::from_secs(90);

/// How long a thing that must not happen is waited for: several times what it takes where it may.
const NEVER: Duration = Duration::from_secs(3);

/// What the agent may do in the cluster, as it is installed.
const RIGHTS: &str = include_str!("../../../../../plugins/k8s-cni/deploy/base/rbac.yaml");

const PODS: &str = include_str!("pods.yaml");
const CROWD: &str = include_str!("crowd.yaml");

/// Lets nothing in.
const DENY: &str = "{podSelector: {}, policyTypes: [Ingress]}";

/// Lets clients of the same namespace in at the port of this name.
const ALLOW: &str = "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: http}]}]}";

/// Lets pods of a namespace with this label in.
const ALLOW_TEAM: &str =
    "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {friend: 'yes'}}}]}]}";

/// Lets nothing out.
const SILENCE: &str = "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}";

/// Runs the whole.
pub fn tell(lab: &Lab, programs: &Programs, checks: &mut Checks) -> Result<()> {
    let [control, one, two] = lab.machines(["control", "one", "two"])?;
    let start = Instant::now();
    let mesh = lab.mesh("cluster", &[&one])?;
    // The other one belongs to no mesh yet: its agent joins with the token that lies ready.
    let _daemon = two.meshd("")?;
    let pools = pools(&mesh)?;
    let control = Control::start(&control, programs)?;
    println!("the control plane is up after {:.1} s", start.elapsed().as_secs_f32());
    checks.check("the manifests are what kustomize makes of them, and an API server takes them", || {
        manifests(&control)
    });
    control.apply(RIGHTS)?;
    let token = token(&control)?;
    let mut first = Node::start(&one, &control, programs, &pools, &token, "")?;
    let _second = Node::start(&two, &control, programs, &pools, &token, &mesh.token()?)?;
    let cluster = Cluster { control: &control };
    let is_up = checks.check("nodes join the mesh and become ready", || {
        cluster.eventually("two nodes are ready", || {
            cluster.ready("nodes", &[]).is_ok_and(|ready| ready == 2)
        })?;
        Ok(String::new())
    });
    ensure!(is_up, "no pod can run");
    control.apply(PODS)?;
    let is_up = checks.check("pods run on both nodes, with addresses of both families", || {
        cluster.eventually("five pods are ready", || {
            cluster.ready("pods", &["--all-namespaces"]).is_ok_and(|ready| ready == 5)
        })?;
        let addresses = cluster.addresses("shop", "web-two")?;
        ensure!(addresses.len() == 2, "{addresses:?}");
        Ok(addresses.join(" "))
    });
    if !is_up {
        bail!("not all pods run:\n{}", control.ok(&["get", "events", "--all-namespaces"])?);
    }
    reachability(&cluster, &one, &two, checks);
    policies(&cluster, &mut first, checks);
    checks.check("a node marked as without a network is cleared", || cluster.network_unavailable());
    crowd(&cluster, &one, &two, checks);
    Ok(())
}

fn reachability(cluster: &Cluster<'_>, one: &Host, two: &Host, checks: &mut Checks) {
    checks.check("pods reach each other across nodes", || {
        for (from, to) in [("client-one", "web-two"), ("client-two", "web-one"), ("client-one", "web-one")] {
            for address in cluster.addresses("shop", to)? {
                cluster.eventually(&format!("{from} pings {address}"), || {
                    cluster.pings("shop", from, &address)
                })?;
                cluster.eventually(&format!("{from} is served"), || {
                    cluster.is_served("shop", from, &address, "80")
                })?;
            }
        }
        Ok(String::new())
    });
    for service in ["web", "web6"] {
        checks.check(
            &format!("the Service {service} is reached by its ClusterIP, from pods and from hosts"),
            || {
                let address = cluster.text(&["--namespace=shop", "service", service], "/spec/clusterIP")?;
                for pod in ["client-one", "client-two"] {
                    cluster.eventually(&format!("{pod} is served"), || {
                        cluster.is_served("shop", pod, &address, "8000")
                    })?;
                }
                for host in [one, two] {
                    cluster.eventually(&format!("{} is served", host.name()), || {
                        is_served(host, &address, "8000")
                    })?;
                }
                Ok(address)
            },
        );
    }
    checks.check("a pod reaches itself by its Service", || {
        let address = cluster.text(&["--namespace=shop", "service", "web"], "/spec/clusterIP")?;
        // Two pods serve; of twenty calls some lead back to the caller.
        for _ in 0..20 {
            ensure!(cluster.is_served("shop", "web-one", &address, "8000"), "one of twenty calls failed");
        }
        Ok(String::new())
    });
    checks.check("NodePort and hostPort are served to others", || {
        let outside = cluster.control.host();
        for (host, port) in [(one, "8080"), (one, "30080"), (two, "30080")] {
            let address = host.addr4().to_string();
            cluster
                .eventually(&format!("{address}:{port} is served"), || is_served(outside, &address, port))?;
        }
        Ok(String::new())
    });
}

fn policies(cluster: &Cluster<'_>, first: &mut Node<'_>, checks: &mut Checks) {
    let web = || cluster.addresses("shop", "web-two");
    let served = |namespace: &str, pod: &str| -> Result<bool> {
        Ok(web()?.iter().all(|address| cluster.is_served(namespace, pod, address, "80")))
    };
    let refused = |namespace: &str, pod: &str| -> Result<bool> {
        Ok(web()?.iter().all(|address| !cluster.is_served(namespace, pod, address, "80")))
    };
    checks.check("a policy that denies cuts a flow that goes on", || {
        let address = web()?.swap_remove(0);
        let answers = || cluster.control.followed().matches(" seq=").count();
        let line = ["--namespace=shop", "exec", "client-one", "--", "ping", "-i", "0.1", &address];
        let _ping = cluster.control.follow(&line)?;
        cluster.eventually("the flow goes on", || answers() > 10)?;
        cluster.policy("deny", DENY)?;
        let start = Instant::now();
        let mut last = (answers(), Instant::now());
        while last.1.elapsed() < NEVER {
            let now = answers();
            if now != last.0 {
                last = (now, Instant::now());
            }
            ensure!(start.elapsed() < DEADLINE, "the flow goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
        ensure!(refused("shop", "client-two")? && refused("other", "stranger")?, "others still get through");
        Ok(format!("last answer {:.1} s after kubectl had said yes", (last.1 - start).as_secs_f32()))
    });
    checks.check("isolated pods are still probed", || {
        std::thread::sleep(NEVER);
        ensure!(cluster.ready("pods", &["--namespace=shop"])? == 4, "pods are not ready");
        Ok(String::new())
    });
    checks.check("a policy that allows lets in whom it names, by the name of a port", || {
        cluster.policy("allow", ALLOW)?;
        let start = Instant::now();
        cluster.eventually("a client is served", || served("shop", "client-one").unwrap_or(false))?;
        let took = start.elapsed();
        ensure!(refused("other", "stranger")?, "a stranger gets in");
        let address = web()?.swap_remove(0);
        ensure!(!cluster.pings("shop", "client-one", &address), "more than the port is open");
        Ok(format!("within {:.1} s", took.as_secs_f32()))
    });
    checks.check("a Service under a policy is reached by whom the policy allows", || {
        let address = cluster.text(&["--namespace=shop", "service", "web"], "/spec/clusterIP")?;
        ensure!(cluster.is_served("shop", "client-one", &address, "8000"), "a client is not served");
        ensure!(!cluster.is_served("other", "stranger", &address, "8000"), "a stranger is served");
        Ok(String::new())
    });
    checks.check("a label of a namespace changes what its pods may do", || {
        cluster.policy("team", ALLOW_TEAM)?;
        ensure!(refused("other", "stranger")?, "without the label it gets in");
        cluster.control.ok(&["label", "namespace", "other", "friend=yes"])?;
        cluster.eventually("with the label it is served", || served("other", "stranger").unwrap_or(false))?;
        cluster.control.ok(&["label", "namespace", "other", "friend-"])?;
        cluster
            .eventually("without the label it is not", || refused("other", "stranger").unwrap_or(false))?;
        Ok(String::new())
    });
    checks.check("what a pod sends is restricted too", || {
        cluster.policy("silence", SILENCE)?;
        cluster.eventually("a client gets out no more", || refused("shop", "client-one").unwrap_or(false))?;
        cluster.control.ok(&["--namespace=shop", "delete", "networkpolicy", "silence"])?;
        cluster.eventually("a client gets out again", || served("shop", "client-one").unwrap_or(false))?;
        Ok(String::new())
    });
    checks.check("policies stay while the agent is away, and are caught up with", || {
        first.agent = None;
        let web_one = cluster.addresses("shop", "web-one")?.swap_remove(0);
        let gets_in = || cluster.is_served("other", "stranger", &web_one, "80");
        ensure!(!gets_in(), "without the agent everybody gets in");
        cluster.control.ok(&["--namespace=shop", "delete", "networkpolicy", "--all"])?;
        first.start_agent()?;
        cluster.eventually("the new agent has caught up", gets_in)?;
        Ok(String::new())
    });
}

fn crowd(cluster: &Cluster<'_>, one: &Host, two: &Host, checks: &mut Checks) {
    let attached = |host: &Host| -> Result<usize> {
        let listed = host.ctl(&["endpoints"])?.ok()?;
        Ok(listed["endpoints"].as_array().context("a list of endpoints")?.len())
    };
    let links = |host: &Host| -> Result<usize> {
        Ok(host.run(&["ip", "-o", "link"])?.ok()?.matches(": msh").count())
    };
    let count = || -> Result<[usize; 4]> { Ok([attached(one)?, links(one)?, attached(two)?, links(two)?]) };
    checks.check("thirty pods come up and go down, and nothing of them stays", || {
        let before = count()?;
        let start = Instant::now();
        cluster.control.apply(CROWD)?;
        cluster.eventually("thirty pods run", || {
            cluster
                .ready("pods", &["--namespace=other", "--selector=app=crowd"])
                .is_ok_and(|ready| ready == 30)
        })?;
        let up = start.elapsed();
        let most = count()?;
        let start = Instant::now();
        cluster.control.ok(&["--namespace=other", "delete", "deployment", "crowd"])?;
        cluster.eventually("all is as before", || count().is_ok_and(|now| now == before))?;
        Ok(format!(
            "up in {:.1} s, down in {:.1} s, endpoints {} + {} at most",
            up.as_secs_f32(),
            start.elapsed().as_secs_f32(),
            most[0],
            most[2]
        ))
    });
    checks.check("without pods nothing is attached", || {
        cluster.control.ok(&["delete", "namespace", "shop", "other", "--wait=false"])?;
        cluster.eventually("nothing is attached", || count().is_ok_and(|now| now == [0; 4]))?;
        Ok(String::new())
    });
}

/// Questions to a cluster.
struct Cluster<'a> {
    control: &'a Control<'a>,
}

impl Cluster<'_> {
    fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
        wait::until(DEADLINE, what, &mut holds)
    }

    /// How many of these are ready.
    fn ready(&self, kind: &str, options: &[&str]) -> Result<usize> {
        let list = self.control.get(&[&[kind], options].concat())?;
        let items = list["items"].as_array().context("a list")?;
        let is_ready = |item: &&Value| {
            let conditions = item["status"]["conditions"].as_array();
            conditions
                .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
        };
        Ok(items.iter().filter(is_ready).count())
    }

    fn addresses(&self, namespace: &str, pod: &str) -> Result<Vec<String>> {
        let pod = self.control.get(&["--namespace", namespace, "pod", pod])?;
        let addresses = pod["status"]["podIPs"].as_array().context("addresses of a pod")?;
        Ok(addresses.iter().filter_map(|one| Some(one["ip"].as_str()?.to_owned())).collect())
    }

    fn text(&self, object: &[&str], pointer: &str) -> Result<String> {
        let object = self.control.get(object)?;
        let text = object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        text.with_context(|| format!("find {pointer}"))
    }

    fn inside(&self, namespace: &str, pod: &str, line: &[&str]) -> Result<String> {
        self.control.ok(&[&["--namespace", namespace, "exec", pod, "--"], line].concat())
    }

    fn pings(&self, namespace: &str, pod: &str, address: &str) -> bool {
        self.inside(namespace, pod, &["ping", "-c", "1", "-W", "2", address]).is_ok()
    }

    fn is_served(&self, namespace: &str, pod: &str, address: &str, port: &str) -> bool {
        self.inside(namespace, pod, &["nc", "-w", "2", address, port]).is_ok_and(|said| said == "served\n")
    }

    /// A policy of the shop.
    fn policy(&self, name: &str, spec: &str) -> Result<()> {
        self.control.apply(&format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{namespace: shop, name: {name}}}\nspec: {spec}\n"
        ))
    }

    /// Marks a node as some clouds do, and waits until the agent has taken the mark away.
    fn network_unavailable(&self) -> Result<String> {
        let path = "/api/v1/nodes/one/status";
        let marked = || -> Result<bool> {
            let node = self.control.get(&["node", "one"])?;
            let conditions = node["status"]["conditions"].as_array().context("conditions")?;
            let mark = conditions.iter().find(|one| one["type"] == "NetworkUnavailable");
            match mark {
                Some(mark) => Ok(mark["status"] == "True"),
                None => bail!("no mark"),
            }
        };
        let mut node = self.control.get(&["node", "one"])?;
        let conditions = node["status"]["conditions"].as_array_mut().context("conditions")?;
        conditions.push(serde_json::json!({
            "type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated", "message": "by the lab",
        }));
        node["metadata"]["resourceVersion"] = Value::Null;
        self.control.replace(path, &node)?;
        self.eventually("the mark is gone", || marked().is_ok_and(|is_marked| !is_marked))?;
        Ok(String::new())
    }
}

/// Whether a host is served at an address.
fn is_served(host: &Host, address: &str, port: &str) -> bool {
    let fetched = host.run(&["busybox", "nc", "-w", "2", address, port]);
    fetched.is_ok_and(|output| output.stdout == "served\n")
}

/// Compares the rendered file with what kubectl renders, and shows it to the API server.
fn manifests(control: &Control<'_>) -> Result<String> {
    let deploy = mesh_lab::repository()?.join("plugins/k8s-cni/deploy");
    let (base, rendered) = (deploy.join("base"), deploy.join("rendered.yaml"));
    let made = control.ok(&["kustomize", &base.display().to_string()])?;
    let file = std::fs::read_to_string(&rendered).context("read the rendered file")?;
    let file = file.split_once('\n').map(|(_comment, rest)| rest);
    ensure!(
        file == Some(made.as_str()),
        "{} is not what kubectl makes of {}",
        rendered.display(),
        base.display()
    );
    let taken = control.ok(&["apply", "--dry-run=server", "--filename", &rendered.display().to_string()])?;
    Ok(format!("{} objects", taken.lines().count()))
}

/// The token of the agent's account.
fn token(control: &Control<'_>) -> Result<String> {
    wait::until_some(DEADLINE, "the agent has a token", || {
        let account = control.get(&["--namespace=kube-system", "serviceaccount", "meshd"]).ok()?;
        let name = account["secrets"][0]["name"].as_str()?;
        let secret = control.get(&["--namespace=kube-system", "secret", name]).ok()?;
        let token = data_encoding::BASE64.decode(secret["data"]["token"].as_str()?.as_bytes()).ok()?;
        String::from_utf8(token).ok()
    })
}

/// Pools inside of the organisation's prefixes, outside of what nodes have themselves.
fn pools(mesh: &Mesh<'_>) -> Result<[String; 2]> {
    let member = mesh.steward()?;
    let ([a, b, ..], [c, d, e, f, ..]) = (member.addr4.octets(), member.addr6.segments());
    Ok([format!("{a}.{b}.128.0/20"), format!("{c:x}:{d:x}:{e:x}:{f:x}:d0c::/80")])
}
