//! Docker goes away and comes back, and with it what its policies say.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, IMAGE, story, wait};

use crate::station::{DEADLINE, Station, nothing_is_left, subnet};

/// Where a container sends back what it is sent.
const PORT: u16 = 7;

#[test]
fn a_connection_outlives_dockerd_with_live_restore_and_meshd_on_both_hosts() {
    story("docker-live-restore", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let mut station = Station::start_with(&a, &["--live-restore"])?;
        station.network("net", &[&subnet(&mesh, 128, 20)?], &[])?;
        let port = PORT.to_string();
        let echo = ["run", "--detach", "--network", "net", "--name", "echo", IMAGE];
        station.docker.ok(&[&echo[..], &["nc", "-ll", "-p", &port, "-e", "cat"]].concat())?;
        station.start_container("net", "doomed", &[])?;
        let pid = station.docker.pid("echo")?;
        let addresses = station.addresses("echo")?;
        let mut stream = connect(&b, addresses.first().context("an address")?)?;
        says(&mut stream, "before")?;

        let doomed = station.docker.pid("doomed")?;
        station.docker.kill()?;
        says(&mut stream, "without dockerd")?;
        // Nobody tells the plugin of its end until dockerd is back.
        a.run(&["kill", "-9", &doomed.to_string()])?.ok()?;
        station.docker.resume()?;
        says(&mut stream, "after")?;
        ensure!(station.docker.pid("echo")? == pid, "the container was started afresh");
        ensure!(station.addresses("echo")? == addresses, "its address changed");
        let attached = || a.ctl(&["endpoints"]).and_then(mesh_lab::Reply::ok);
        wait::until(DEADLINE, "what died without dockerd is detached", || {
            attached().is_ok_and(|listed| listed["endpoints"].as_array().is_some_and(|all| all.len() == 1))
        })?;
        station.docker.stop()?;
        station.docker.resume()?;
        says(&mut stream, "after a stop in order")?;
        for name in ["a", "b"] {
            let member = mesh.member_mut(name)?;
            member.daemon.kill()?;
            member.daemon = member.host.meshd("")?;
            says(&mut stream, &format!("after the death of meshd on {name}"))?;
        }
        ensure!(station.addresses("echo")? == addresses, "its address changed");
        station.docker.ok(&["rm", "--force", "echo", "doomed"])?;
        nothing_is_left(&a)
    });
}

#[test]
fn containers_come_back_as_their_policies_say_in_whatever_order_all_else_does() {
    story("docker-policies", |lab| {
        let a = lab.machine("a")?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        let mut station = Station::start(&a)?;
        let pool = subnet(&mesh, 128, 20)?;
        station.network("net", &[&pool], &[])?;
        let fixed = |last: u8| Ok::<_, anyhow::Error>(pool.replace(".0/20", &format!(".{last}")));
        let policies = [("always", 21), ("unless-stopped", 22), ("on-failure", 23), ("no", 24)];
        for (policy, last) in policies {
            let restart = format!("--restart={policy}");
            station.start_container("net", policy, &[&restart, "--ip", &fixed(last)?])?;
        }
        station.start_container("net", "stopped", &["--restart=unless-stopped", "--ip", &fixed(25)?])?;
        station.docker.ok(&["stop", "stopped"])?;
        let runs = |station: &Station<'_>, container: &str| {
            let state = station.docker.ok(&["inspect", "--format", "{{.State.Running}}", container]);
            state.is_ok_and(|state| state == "true")
        };
        let pid = station.docker.pid("on-failure")?;
        a.run(&["kill", "-9", &pid.to_string()])?.ok()?;
        wait::until(DEADLINE, "a container that failed is started again", || {
            station.docker.pid("on-failure").is_ok_and(|new| new != 0 && new != pid)
        })?;

        // The plugin first, then dockerd, and meshd while dockerd starts containers.
        a.reboot()?;
        station.plugin = a.docker_plugin()?;
        mesh.member_mut("a")?.daemon = station.docker.resume_while(|| a.meshd(""))?;
        for (policy, last) in &policies[..2] {
            wait::until(DEADLINE, &format!("{policy} runs"), || runs(&station, policy))?;
            ensure!(station.addresses(policy)? == [fixed(*last)?], "{policy} has another address");
            wait::until(DEADLINE, &format!("{policy} is reached"), || {
                fixed(*last).is_ok_and(|address| a.pings(&address, 1).unwrap_or(false))
            })?;
        }
        for container in ["no", "stopped"] {
            ensure!(!runs(&station, container), "{container} runs");
            // Nobody has its address meanwhile.
            station.docker.ok(&["start", container])?;
        }
        station.docker.ok(&["rm", "--force", "always", "unless-stopped", "on-failure", "no", "stopped"])?;
        nothing_is_left(&a)
    });
}

/// A connection from a host, which must outlive everything.
fn connect(host: &Host, address: &str) -> Result<TcpStream> {
    let to = SocketAddr::new(address.parse::<IpAddr>()?, PORT);
    let stream = wait::until_some(DEADLINE, &format!("{to} accepts"), || {
        host.namespace().run(|| TcpStream::connect(to)).ok().and_then(Result::ok)
    })?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// What is sent comes back.
fn says(stream: &mut TcpStream, words: &str) -> Result<()> {
    stream.write_all(words.as_bytes())?;
    let mut heard = vec![0; words.len()];
    stream.read_exact(&mut heard).with_context(|| format!("hear {words:?} again"))?;
    ensure!(heard == words.as_bytes());
    Ok(())
}
