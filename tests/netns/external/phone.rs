//! A host with wireguard-go alone, configured as `wg-quick` does it.

use std::time::Duration;

use anyhow::{Context, Result};
use mesh_lab::{Host, Process, wait};

/// Name of the device; each phone has a mount namespace of its own for the socket of this name.
const DEVICE: &str = "wg0";
/// Time wireguard-go gets to listen on its configuration socket.
const SOCKET_DEADLINE: Duration = Duration::from_secs(10);
/// Gives the program a `/run` of its own: the socket's name stands for no other phone.
const PRIVATE_RUN: &str = "mount -t tmpfs phone /run && mkdir /run/wireguard && exec wireguard-go -f wg0";
/// Its `/run` hides the files of the test, so the configuration comes through a pipe.
const SETCONF: &str = "echo \"$0\" | wg setconf wg0 /dev/stdin";
/// Lines of `[Interface]` that `wg-quick` carries out itself; `wg` knows the others.
const QUICK_KEYS: [&str; 2] = ["Address", "MTU"];

/// A running phone.
pub struct Phone<'lab> {
    pub host: &'lab Host,
    /// Its addresses of the mesh.
    pub addr4: String,
    pub addr6: String,
    _process: Process,
}

impl<'lab> Phone<'lab> {
    /// Starts it with a configuration for `wg-quick`.
    pub fn start(host: &'lab Host, config: &str) -> Result<Self> {
        let process = host.start(&["unshare", "--mount", "sh", "-c", PRIVATE_RUN])?;
        let mount = format!("--mount=/proc/{}/ns/mnt", process.pid());
        let wg = ["nsenter", &mount, "wg"];
        wait::until(SOCKET_DEADLINE, "wireguard-go listens to wg", || {
            let line = [&wg[..], &["show", DEVICE]].concat();
            host.run(&line).is_ok_and(|output| output.code == 0)
        })?;
        let for_wg = config.lines().filter(|line| !QUICK_KEYS.iter().any(|key| line.starts_with(key)));
        let for_wg = for_wg.collect::<Vec<_>>().join("\n");
        host.run(&["nsenter", &mount, "sh", "-c", SETCONF, &for_wg])?.ok()?;

        let addresses = value(config, "Address")?;
        let mut commands = format!("link set {DEVICE} mtu {} up\n", value(config, "MTU")?);
        for address in addresses.split(", ") {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            commands.push_str(&format!("addr add {address} dev {DEVICE}{nodad}\n"));
        }
        for prefix in value(config, "AllowedIPs")?.split(", ") {
            commands.push_str(&format!("route add {prefix} dev {DEVICE}\n"));
        }
        host.namespace().ip(&commands)?;
        let (addr4, addr6) = addresses.split_once(", ").context("two addresses")?;
        let bare = |address: &str| address.split('/').next().unwrap_or_default().to_owned();
        Ok(Self { host, addr4: bare(addr4), addr6: bare(addr6), _process: process })
    }
}

/// Makes a key pair, private half first.
pub fn new_key(host: &Host) -> Result<(String, String)> {
    let script = "private=$(wg genkey) && echo \"$private\" && echo \"$private\" | wg pubkey";
    let output = host.run(&["sh", "-c", script])?.ok()?;
    let (private, public) = output.trim().split_once('\n').context("two keys")?;
    Ok((private.to_owned(), public.to_owned()))
}

fn value<'a>(config: &'a str, key: &str) -> Result<&'a str> {
    let found = config.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    found.with_context(|| format!("no {key} in {config}"))
}
