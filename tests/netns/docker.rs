//! Containers of a real dockerd on hosts of the lab.

use std::fs;
use std::time::Duration;

use mesh_lab::{Docker, IMAGE, remains, story, wait};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn docker_runs_on_two_hosts_at_once_and_leaves_nothing() {
    let mut seen = None;
    story("docker", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mut docker = [Docker::start(&a)?, Docker::start(&b)?];
        // Equal names and subnets: each host has a world of its own.
        for docker in &docker {
            docker.ok(&["network", "create", "--subnet", "10.77.0.0/24", "apart"])?;
            let line = ["run", "--detach", "--restart=always", "--network=apart", "--name=web", IMAGE];
            docker.ok(&line)?;
            let said = docker.ok(&["run", "--rm", "--network=apart", IMAGE, "hostname", "-i"])?;
            assert_eq!(said, "10.77.0.3");
            assert_eq!(docker.ok(&["ps", "--quiet"])?.lines().count(), 1);
        }
        let underlay = b.addr4().to_string();
        docker[0].ok(&["exec", "web", "ping", "-c", "1", &underlay])?;

        let pids = [docker[0].pid("web")?, docker[1].pid("web")?];
        docker[0].restart()?;
        docker[1].kill()?;
        assert!(runs(pids[1]), "a crash of dockerd leaves containers alone");
        docker[1].resume()?;
        for docker in &docker {
            wait::until(DEADLINE, "the container is back", || {
                docker.run(&["exec", "web", "true"]).is_ok_and(|output| output.code == 0)
            })?;
        }
        assert!(!pids.iter().any(|pid| runs(*pid)), "they were started afresh");
        seen = Some((lab.id().to_owned(), [docker[0].pid("web")?, docker[1].pid("web")?]));
        Ok(())
    });
    let (lab, pids) = seen.unwrap_or_default();
    assert_eq!(remains(&lab), [""; 0]);
    assert!(!pids.iter().any(|pid| runs(*pid)), "a container outlived its lab");
}

#[test]
fn a_machine_that_reboots_keeps_its_disk_and_nothing_that_ran() {
    story("docker-reboot", |lab| {
        let a = lab.machine("a")?;
        a.run(&["sh", "-c", "echo kept >/etc/kept && echo lost >/run/lost"])?.ok()?;
        let mut docker = Docker::start(&a)?;
        docker.ok(&["run", "--detach", "--restart=always", "--name=web", IMAGE])?;
        let pid = docker.pid("web")?;
        a.reboot()?;
        assert!(!runs(pid));
        assert_eq!(a.run(&["cat", "/etc/kept"])?.ok()?, "kept\n");
        assert!(!a.path("/run/lost").exists());
        docker.resume()?;
        wait::until(DEADLINE, "the container is back", || {
            docker.run(&["exec", "web", "true"]).is_ok_and(|output| output.code == 0)
        })
    });
}

/// Whether a process has a program; one that only waits for its last rites has none.
fn runs(pid: i32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}
