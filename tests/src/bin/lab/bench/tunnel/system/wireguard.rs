//! Implementations of WireGuard in user space; `wg` configures them.

use std::time::Duration;

use anyhow::{Context, Result};
use mesh_lab::{Host, Process, wait};

use super::{Found, INNER, MTU, Running, path};
use crate::bench::tunnel::link::Pair;

const PORT: u16 = 51820;

/// Name of the device; each host has a mount namespace of its own for the socket of this name.
const DEVICE: &str = "wgb0";

/// Time an implementation gets to listen on its configuration socket.
const SOCKET_DEADLINE: Duration = Duration::from_secs(10);

/// Gives the program a `/run` of its own, so that nothing of it outlives the process.
const PRIVATE_RUN: &str = "mount -t tmpfs bench /run && mkdir /run/wireguard && exec \"$0\" \"$@\"";

/// Starts the program at both ends and configures it.
pub fn start(found: &Found, options: &[&str], pair: &Pair) -> Result<Running<'static>> {
    let program = found.program()?;
    let mut daemons = Vec::new();
    for host in pair.hosts() {
        let mut line = vec!["unshare", "--mount", "sh", "-c", PRIVATE_RUN, program];
        line.extend(options);
        line.push(DEVICE);
        daemons.push(host.start(&line)?);
    }
    let [near, far] = pair.hosts();
    let keys = [new_key(near)?, new_key(far)?];
    for (host, (own, other)) in pair.hosts().into_iter().zip([(0, 1), (1, 0)]) {
        let daemon = daemons.get(own).context("find the daemon of a host")?;
        let endpoint = format!("{}:{PORT}", pair.hosts()[other].addr4());
        configure(host, daemon, &keys[other], &endpoint, INNER[other])?;
        let device = format!("addr add {}/24 dev {DEVICE}\nlink set {DEVICE} mtu {MTU} up\n", INNER[own]);
        host.namespace().ip(&device)?;
    }
    Running::of_daemons(daemons, pair)
}

/// Makes a key pair and returns the public half.
fn new_key(host: &Host) -> Result<String> {
    let private = path(host, "private.key")?;
    let script = "umask 077 && wg genkey > \"$0\" && wg pubkey < \"$0\"";
    Ok(host.run(&["sh", "-c", script, &private])?.ok()?.trim().to_owned())
}

fn configure(host: &Host, daemon: &Process, peer: &str, endpoint: &str, allowed: &str) -> Result<()> {
    let mount = format!("--mount=/proc/{}/ns/mnt", daemon.pid());
    let wg = ["nsenter", &mount, "wg"];
    wait::until(SOCKET_DEADLINE, &format!("{} listens to wg", host.name()), || {
        let line = [&wg[..], &["show", DEVICE]].concat();
        host.run(&line).is_ok_and(|output| output.code == 0)
    })?;
    let port = PORT.to_string();
    let (private, allowed) = (path(host, "private.key")?, format!("{allowed}/32"));
    // The file lies where the private `/run` hides it.
    let redirected = ["sh", "-c", "exec \"$@\" < \"$0\"", &private];
    let own = ["set", DEVICE, "listen-port", &port, "private-key", "/dev/stdin"];
    let peer = ["peer", peer, "allowed-ips", &allowed, "endpoint", endpoint];
    host.run(&[&redirected[..], &wg, &own, &peer].concat())?.ok().map(drop)
}
