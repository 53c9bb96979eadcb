//! The data path survives the control path.

use std::net::Ipv4Addr;
use std::time::Duration;

use mesh_lab::{EchoCount, story, wait};

const DEADLINE: Duration = Duration::from_secs(40);
/// What is promised after a registry was lost with all its content.
const REPUBLISHED_WITHIN: Duration = Duration::from_secs(60);
/// A connection to an address that is gone is given up after 15 s, and tried again at most 8 s later.
const FOUND_WITHIN: Duration = Duration::from_secs(60);
/// Address that a host moves to; no link of a lab has it.
const MOVED: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 7);

#[test]
fn tunnels_come_back_from_cached_records_while_the_registry_is_down() {
    story("outage", |lab| {
        let [a, b, c, d] = lab.hosts(["a", "b", "c", "d"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b, &c, &d])?;
        mesh.everyone_sees_all()?;
        mesh.everyone_reaches_all()?;
        // Registry and steward live in the daemon of a.
        mesh.member_mut("a")?.daemon.kill()?;

        // c and d are not touched: nothing that goes between them may be lost.
        let (c4, d4) = (mesh.member("c")?.addr4.to_string(), mesh.member("d")?.addr4.to_string());
        let traffic = d.start(&["ping", "-n", "-i", "0.05", "-D", &c4])?;

        mesh.member_mut("b")?.daemon.kill()?;
        mesh.member_mut("b")?.daemon = b.meshd("")?;
        for other in ["c", "d"] {
            let to = mesh.member(other)?.addr4.to_string();
            mesh.member("b")?.reaches(DEADLINE, &to)?;
        }

        wait::until(DEADLINE, "enough traffic went by", || replies(&d) > 20)?;
        let log = d.log("ping");
        wait::until(DEADLINE, "traffic went on for a while", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("icmp_seq=40 "))
        })?;
        traffic.signal(nix::sys::signal::Signal::SIGINT)?;
        no_loss(traffic, &d)?;

        mesh.member_mut("c")?.daemon.kill()?;
        c.reboot()?;
        mesh.member_mut("c")?.daemon = c.meshd("")?;
        mesh.member("c")?.reaches(DEADLINE, &d4)?;
        let b4 = mesh.member("b")?.addr4.to_string();
        mesh.member("c")?.reaches(DEADLINE, &b4)?;
        mesh.member("d")?.reaches(DEADLINE, &b4)
    });
}

#[test]
fn a_wiped_registry_is_filled_again_by_its_nodes() {
    story("wiped", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_sees_all()?;
        mesh.member_mut("a")?.daemon.kill()?;
        let wiped = wipe_registry(&a.state_dir())?;
        assert!(wiped > 0, "a registry file was there");
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        let daemon = c.meshd("")?;
        mesh.join(&c, daemon)?;
        // A newcomer knows of b only what b has published again.
        wait::until(REPUBLISHED_WITHIN, "c sees a and b", || c.peers().is_ok_and(|peers| peers.len() == 2))?;
        let b4 = mesh.member("b")?.addr4.to_string();
        mesh.member("c")?.reaches(DEADLINE, &b4)
    });
}

#[test]
fn a_steward_with_a_new_address_is_found_again() {
    story("moved", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        a.move_to(MOVED)?;

        // The newcomer has the new address from its token; nobody told it to b.
        let daemon = c.meshd("")?;
        mesh.join(&c, daemon)?;
        wait::until(FOUND_WITHIN, "b sees the newcomer", || b.peers().is_ok_and(|peers| peers.len() == 2))?;
        mesh.everyone_reaches_all()
    });
}

#[test]
fn an_order_to_stop_is_obeyed_and_leaves_no_device() {
    story("stop", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_sees_all()?;
        let status = mesh.member_mut("b")?.daemon.stop()?;
        assert!(status.success(), "{status}");
        let links = b.run(&["ip", "-o", "link"])?.ok()?;
        assert!(!links.contains("meshd0"), "{links}");
        assert_eq!(b.ctl(&["status"])?.code, 3, "nobody listens any more");
        Ok(())
    });
}

fn replies(host: &mesh_lab::Host) -> usize {
    let text = std::fs::read_to_string(host.log("ping")).unwrap_or_default();
    text.lines().filter(|line| line.contains("bytes from")).count()
}

fn no_loss(mut ping: mesh_lab::Process, host: &mesh_lab::Host) -> anyhow::Result<()> {
    ping.wait(DEADLINE)?;
    let count = EchoCount::read(host)?;
    assert!(count.sent > 10 && count.lost_none(), "{count:?}");
    Ok(())
}

fn wipe_registry(state: &std::path::Path) -> anyhow::Result<usize> {
    let mut wiped = 0;
    for entry in std::fs::read_dir(state)?.flatten() {
        if entry.file_name().to_string_lossy().contains("registry") {
            let path = entry.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path)?
            } else {
                std::fs::remove_file(&path)?
            }
            wiped += 1;
        }
    }
    Ok(wiped)
}
