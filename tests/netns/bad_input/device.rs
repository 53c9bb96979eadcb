//! Ports, devices, rights and routes that a mesh needs and does not get.

use std::net::{TcpListener, UdpSocket};

use anyhow::Result;
use mesh_lab::{Host, process, story};

use crate::exit::{CONFLICT, FAILED};
use crate::watch::{
    DEADLINE, by, ended, files, has_device, identity, is_outside, plain_files, refused, started,
};

/// Covers the device that TUN devices are made with.
const WITHOUT_TUN: [&str; 5] =
    ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /dev/net && exec \"$0\" \"$@\""];

/// Takes away the right to make devices.
const WITHOUT_NET_ADMIN: [&str; 3] = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];

#[test]
fn a_taken_tunnel_port_keeps_the_token_unused() {
    story("udp-taken", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        let token = mesh.token()?;
        let _daemon = b.meshd("")?;
        let taken = b.namespace().run(|| UdpSocket::bind("[::]:51820"))??;
        let words = ["udp port 51820 is taken", "hint: another program may hold the port"];
        refused(&b.ctl(&["join", &token])?, FAILED, &words)?;
        refused(&create(&b)?, FAILED, &words)?;
        is_outside(&b)?;
        drop(taken);
        b.ctl(&["join", &token])?.ok()?;

        mesh.member_mut("a")?.daemon.stop()?;
        let _taken = a.namespace().run(|| UdpSocket::bind("[::]:51820"))??;
        let before = files(&a.state_dir())?;
        ended(&a.meshd_ends("")?, FAILED, &words)?;
        assert!(files(&a.state_dir())? == before);
        Ok(())
    });
}

#[test]
fn a_taken_control_port_founds_no_mesh() {
    story("tcp-taken", |lab| {
        let a = lab.host("a")?;
        let mut daemon = a.meshd("")?;
        let taken = a.namespace().run(|| TcpListener::bind("[::]:51820"))??;
        let words = ["51820", "hint: another program may hold the port"];
        refused(&create(&a)?, FAILED, &words)?;
        is_outside(&a)?;
        drop(taken);
        create(&a)?.ok()?;

        let identity_before = identity(&a)?;
        daemon.stop()?;
        let taken = a.namespace().run(|| TcpListener::bind("[::]:51820"))??;
        let before = plain_files(&a.state_dir())?;
        ended(&a.meshd_ends("")?, FAILED, &words)?;
        assert!(plain_files(&a.state_dir())? == before);
        drop(taken);
        let _daemon = a.meshd("")?;
        assert_eq!(identity(&a)?, identity_before);
        Ok(())
    });
}

#[test]
fn a_host_without_tun_driver_keeps_its_token() {
    needs_to_make_devices("no-tun", &WITHOUT_TUN, "no /dev/net/tun");
}

#[test]
fn a_daemon_without_net_admin_keeps_its_token() {
    needs_to_make_devices("no-net-admin", &WITHOUT_NET_ADMIN, "CAP_NET_ADMIN is needed");
}

#[test]
fn a_route_within_the_overlay_keeps_the_token_unused() {
    story("overlap", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let token = mesh.token()?;
        let _daemon = b.meshd("")?;
        // Part of the overlay, all of it, and more than it.
        for route in ["10.91.3.0/24", "10.91.0.0/16", "10.0.0.0/8"] {
            b.namespace().ip(&format!("route add {route} dev wan0\n"))?;
            let words = ["10.91.0.0/16 overlaps", route, "wan0", "hint: "];
            refused(&b.ctl(&["join", &token])?, CONFLICT, &words)?;
            refused(&create(&b)?, CONFLICT, &words)?;
            assert_eq!(b.ctl(&["status"])?.ok()?["membership"], "outside");
            assert!(!has_device(&b)?);
            b.namespace().ip(&format!("route del {route} dev wan0\n"))?;
        }
        assert!(a.peers()?.is_empty());
        b.ctl(&["join", &token])?.ok()?;
        let status = b.ctl(&["status"])?.ok()?;
        mesh.steward()?.reaches(DEADLINE, status["node"]["addr4"].as_str().unwrap_or_default())
    });
}

/// A newcomer is refused before its token is used; a member's daemon does not start; both go on once they may.
fn needs_to_make_devices(name: &str, wrapper: &[&str], word: &str) {
    story(name, |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let token = mesh.token()?;
        let mut bound = started(&b, by(wrapper, &b.meshd_command("")?)?)?;
        refused(&b.ctl(&["join", &token])?, FAILED, &["the tunnels can't start", word, "hint: "])?;
        is_outside(&b)?;
        bound.stop(DEADLINE)?;

        let mut daemon = b.meshd("")?;
        b.ctl(&["join", &token])?.ok()?;
        let before = identity(&b)?;
        daemon.stop()?;
        let files_before = files(&b.state_dir())?;
        let command = by(wrapper, &b.meshd_command("")?)?;
        let output = process::run_command(command, Some(b.namespace()), DEADLINE)?;
        ended(&output, FAILED, &[word])?;
        assert!(files(&b.state_dir())? == files_before);
        let _daemon = b.meshd("")?;
        assert_eq!(identity(&b)?, before);
        Ok(())
    });
}

fn create(host: &Host) -> Result<mesh_lab::Reply> {
    let key = host.dir().join("root.key").display().to_string();
    host.ctl(&["mesh", "create", "labs", "--root-key", &key])
}
