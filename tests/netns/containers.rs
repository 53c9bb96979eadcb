//! Containers of Docker in a mesh: what carries them restarts, other clients drive it, and networks are kept apart.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mesh_lab::{Docker, Host, IMAGE, Mesh, story, wait};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(30);

/// What Docker calls its network here.
const NETWORK: &str = "clinic";

#[test]
fn a_container_keeps_its_network_over_restarts_of_all_that_carries_it() {
    story("docker-restarts", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let mut plugins = vec![a.docker_plugin()?];
        let mut docker = Docker::start(&a)?;
        let subnet = subnet(&mesh, 100)?;
        let fixed = fixed(&subnet);
        create_network(&docker, &subnet, &[])?;
        let line =
            ["run", "--detach", "--restart=always", "--network", NETWORK, "--ip", &fixed, "--name=web"];
        docker.ok(&[&line[..], &[IMAGE]].concat())?;
        assert_eq!(address4(&docker, "web")?, fixed);
        let is_reached = |what: &str| {
            wait::until(DEADLINE, &format!("the container is reached after {what}"), || {
                b.pings(&fixed, 1).unwrap_or(false)
            })
        };
        is_reached("its start")?;

        plugins.clear();
        is_reached("the plugin's death")?;
        plugins.push(a.docker_plugin()?);
        mesh.member_mut("a")?.daemon.kill()?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        is_reached("the daemon's death")?;
        docker.restart()?;
        is_reached("dockerd's restart")?;
        docker.kill()?;
        docker.resume()?;
        is_reached("dockerd's death")?;
        docker.ok(&["restart", "web"])?;
        is_reached("its own restart")?;
        a.reboot()?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        plugins.push(a.docker_plugin()?);
        docker.resume()?;
        is_reached("the host's reboot")?;
        assert_eq!(address4(&docker, "web")?, fixed);
        docker.ok(&["rm", "--force", "web"])?;
        nothing_is_attached(&a)
    });
}

#[test]
fn containers_of_a_sequential_network_add_up_their_numbers_and_another_network_sees_nothing() {
    story("docker-sum", |lab| {
        let [a, b, c] = lab.machines(["a", "b", "c"])?;
        let mesh = lab.mesh("clinics", &[&a, &b, &c])?;
        mesh.everyone_reaches_all()?;
        let _plugins = [a.docker_plugin()?, b.docker_plugin()?, c.docker_plugin()?];
        let dockers = [Docker::start(&a)?, Docker::start(&b)?, Docker::start(&c)?];
        let (own, other) = (subnet(&mesh, 100)?, subnet(&mesh, 101)?);
        let create = ["network", "create", "--driver=meshd", "--ipam-driver=meshd", "--subnet"];
        // The image has a busybox and no more; the program brings the machine's libraries along, and a ping that does not
        // look for a name of who answers.
        let program = format!("{}:/bin/secure-sum:ro", mesh_lab::program("secure-sum")?.display());
        let ping = "/usr/bin/ping:/usr/local/bin/ping:ro";
        let volumes =
            [program.as_str(), ping, "/usr/lib:/usr/lib:ro", "/usr/lib:/lib:ro", "/usr/lib64:/lib64:ro"];
        let volumes = volumes.map(|volume| format!("--volume={volume}"));
        let volumes: Vec<&str> = volumes.iter().map(String::as_str).collect();
        for docker in &dockers {
            create_network(docker, &own, &["--opt", "meshd.alloc=sequential"])?;
            docker.ok(&[&create[..], &[&other, "--internal", "other"]].concat())?;
            let run = ["run", "--detach", "--network", NETWORK, "--name=party"];
            docker.ok(&[&run[..], &volumes, &[IMAGE]].concat())?;
            docker.ok(&["run", "--detach", "--network=other", "--name=stranger", IMAGE])?;
        }
        let parties: Vec<Ipv4Addr> =
            dockers.iter().map(|docker| Ok(address4(docker, "party")?.parse()?)).collect::<Result<_>>()?;
        let numbers: Vec<u32> = parties.iter().map(|address| u32::from(*address)).collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "in the order of their start: {parties:?}"
        );
        for (docker, next) in dockers.iter().zip(&parties[1..]) {
            reaches(docker, "party", &next.to_string())?;
        }
        for round in 0..3 {
            assert_eq!(sums(&dockers, parties[0], round)?, [3 * round + 3; 3]);
        }

        let strangers: Vec<String> =
            dockers.iter().map(|docker| address4(docker, "stranger")).collect::<Result<_>>()?;
        reaches(&dockers[0], "stranger", &strangers[1])?;
        for target in [parties[0].to_string(), parties[1].to_string()] {
            let ping = dockers[0].run(&["exec", "stranger", "ping", "-c", "1", "-W", "1", &target])?;
            assert_ne!(ping.code, 0, "a container of another network reaches {target}");
        }
        for target in &strangers[..2] {
            let ping = dockers[0].run(&["exec", "party", "ping", "-c", "1", "-W", "1", target])?;
            assert_ne!(ping.code, 0, "a container of another network is reached at {target}");
        }
        Ok(())
    });
}

/// What each party learns, from a program that finds its address by its name; the numbers are `round` and one more each.
fn sums(dockers: &[Docker<'_>], first: Ipv4Addr, round: u64) -> Result<Vec<u64>> {
    let take_part = |docker: &Docker<'_>, number: u64| {
        let script = format!(
            "exec secure-sum --address \"$(hostname -i | cut -d ' ' -f 1)\" --first {first} --number {number}"
        );
        docker.ok(&["exec", "party", "sh", "-c", &script])?.parse().context("read a sum")
    };
    thread::scope(|scope| {
        let parties = dockers.iter().zip(round..);
        let parties: Vec<_> =
            parties.map(|(docker, number)| scope.spawn(move || take_part(docker, number))).collect();
        parties.into_iter().map(|party| party.join().unwrap_or_else(|_| bail!("a party panicked"))).collect()
    })
}

#[test]
fn docker_py_makes_a_network_connects_containers_and_prunes_it() {
    story("docker-py", |lab| {
        let a = lab.machine("a")?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let _plugin = a.docker_plugin()?;
        let docker = Docker::start(&a)?;
        let subnet = subnet(&mesh, 100)?;
        let fixed = fixed(&subnet);
        let script = mesh_lab::repository()?.join("tests/netns/containers/docker_py.py");
        let script = script.to_str().context("the path of a script")?;
        let said = docker.client(&["/usr/bin/python3", script, IMAGE, &subnet, &fixed])?.ok()?;
        let said: Value = serde_json::from_str(&said).with_context(|| format!("read {said}"))?;
        assert!(said["attached"]["one"].is_string(), "{said}");
        assert_eq!(said["attached"]["two"], format!("{fixed}/32"));
        assert_eq!(said["pinged"], 0, "one reaches two by its alias");
        assert_eq!(said["left"], json!(["one"]));
        assert_eq!(said["pruned"], json!(["study"]));
        nothing_is_attached(&a)
    });
}

#[test]
fn a_compose_file_of_three_services_comes_up_and_goes_down() {
    story("compose", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let _plugin = a.docker_plugin()?;
        let docker = Docker::start(&a)?;
        let subnet = subnet(&mesh, 100)?;
        let fixed = fixed(&subnet);
        let file = mesh_lab::repository()?.join("tests/netns/containers/compose.yml");
        let file = file.to_str().context("the path of a compose file")?;
        let (with_subnet, with_fixed) = (format!("SUBNET={subnet}"), format!("FIXED={fixed}"));
        let start = ["env", &with_subnet, &with_fixed, "/usr/bin/docker-compose", "--project-name=study"];
        let compose = |line: &[&str]| docker.client(&[&start[..], &["--file", file], line].concat())?.ok();
        compose(&["up", "--detach"])?;
        for target in ["two", "partner", "three", &fixed] {
            compose(&["exec", "-T", "one", "ping", "-c", "1", "-W", "2", target])?;
        }
        wait::until(DEADLINE, "a node reaches a service at its own address", || {
            b.pings(&fixed, 1).unwrap_or(false)
        })?;
        // Over the underlay, as anybody outside of the mesh does.
        let published = ["busybox", "nc", "-w", "5", &a.addr4().to_string(), "8080"].map(str::to_owned);
        assert_eq!(b.run(&published)?.ok()?, "served\n");
        compose(&["restart"])?;
        compose(&["exec", "-T", "one", "ping", "-c", "1", "-W", "2", &fixed])?;
        compose(&["down"])?;
        nothing_is_attached(&a)
    });
}

/// Template of the first address of a container, whatever its network is called.
const ADDRESS4: &str = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";

/// A subnet inside the organisation's prefix, and outside of what `meshctl attach` takes from by itself.
fn subnet(mesh: &Mesh<'_>, number: u8) -> Result<String> {
    let [first, second, ..] = mesh.steward()?.addr4.octets();
    Ok(format!("{first}.{second}.{number}.0/24"))
}

/// An address of a subnet that no host gives of its own accord so early.
fn fixed(subnet: &str) -> String {
    subnet.replace(".0/24", ".77")
}

fn create_network(docker: &Docker<'_>, subnet: &str, options: &[&str]) -> Result<()> {
    let line = ["network", "create", "--driver=meshd", "--ipam-driver=meshd", "--subnet", subnet];
    docker.ok(&[&line[..], options, &[NETWORK]].concat()).map(drop)
}

fn address4(docker: &Docker<'_>, container: &str) -> Result<String> {
    let address = docker.ok(&["inspect", "--format", ADDRESS4, container])?;
    anyhow::ensure!(!address.is_empty(), "{container} has no address");
    Ok(address)
}

fn reaches(docker: &Docker<'_>, container: &str, target: &str) -> Result<()> {
    wait::until(DEADLINE, &format!("{container} on {} reaches {target}", docker.host().name()), || {
        let ping = docker.run(&["exec", container, "ping", "-c", "1", "-W", "2", target]);
        ping.is_ok_and(|output| output.code == 0)
    })
}

/// No endpoint, and no link of one.
fn nothing_is_attached(host: &Host) -> Result<()> {
    wait::until(DEADLINE, "nothing is attached", || {
        let listed = host.ctl(&["endpoints"]).and_then(mesh_lab::Reply::ok);
        listed.is_ok_and(|listed| listed["endpoints"].as_array().is_some_and(Vec::is_empty))
    })?;
    let links = host.run(&["ip", "-o", "link"])?.ok().context("list links")?;
    anyhow::ensure!(!links.contains("msh") && !links.contains("msc"), "links are left: {links}");
    Ok(())
}
