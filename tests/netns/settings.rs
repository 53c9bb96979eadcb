//! What the configuration says about the tunnels: they work with any of it, and after any change of it.

use anyhow::Result;
use mesh_lab::story;

/// Every offload off, and exact WireGuard alone.
const PLAIN: &str = "[tunnel]\nsuites = [\"wg\"]\nshards = 1\nudp_gso = false\nudp_gro = false\ntun_tcp_gro = false\n\
                     tun_udp_gro = false\nnever_gso_equal_tail = true\n";
/// Bytes that one iperf3 run sends.
const BYTES: &str = "4M";

#[test]
fn nodes_with_other_suites_and_offloads_reach_each_other() {
    story("settings", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        let daemon = b.meshd(PLAIN)?;
        mesh.join(&b, daemon)?;
        mesh.everyone_reaches_all()?;
        let shown = b.ctl(&["config", "show"])?.ok()?;
        assert_eq!(shown["config"]["tunnel"]["never_gso_equal_tail"], true, "{shown}");
        for (from, to) in [("a", "b"), ("b", "a")] {
            moves(&mesh, from, to)?;
        }
        Ok(())
    });
}

#[test]
fn a_node_that_offers_another_suite_after_a_restart_is_reached_again() {
    story("suite-change", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        for config in [PLAIN, ""] {
            mesh.member_mut("b")?.daemon.stop()?;
            mesh.member_mut("b")?.daemon = b.meshd(config)?;
            mesh.everyone_reaches_all()?;
            moves(&mesh, "a", "b")?;
        }
        Ok(())
    });
}

fn moves(mesh: &mesh_lab::Mesh<'_>, from: &str, to: &str) -> Result<()> {
    let (from, to) = (mesh.member(from)?, mesh.member(to)?);
    let target = to.addr4.to_string();
    let _server = to.host.start(&["iperf3", "--server", "--one-off"])?;
    mesh_lab::wait::until(std::time::Duration::from_secs(20), "data moves", || {
        let line = ["iperf3", "--client", &target, "--bytes", BYTES];
        from.host.run(&line).is_ok_and(|output| output.code == 0)
    })
}
