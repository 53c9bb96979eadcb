//! The systems side by side: how each is found, and how it is set up between two hosts.

mod certificates;
mod kernel;
mod mesh;
mod wireguard;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use mesh_lab::{Host, Lab, Mesh, Process, wait};
use nix::unistd::Pid;
use serde::{Serialize, Serializer};

use super::fetch;
use super::link::Pair;
use crate::peers::{BORINGTUN, CrateProgram};

/// MTU of every tunnel whose system lets it be chosen: that of WireGuard over a 1500-byte link.
const MTU: u16 = 1420;

const GOTATUN: CrateProgram = CrateProgram { name: "gotatun-cli", version: "0.10.2", program: "gotatun" };

/// Addresses of the near and the far end inside a tunnel; each pair of hosts is on its own, so all may use them.
const INNER: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

/// Time a system gets until both ends have their addresses.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Last lines of each log that a failed start shows.
const LOG_LINES_SHOWN: usize = 8;

/// A way to carry packets between two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// The link itself.
    Veth,
    /// What an overlay of containers without encryption uses.
    Vxlan,
    /// WireGuard in user space, Go.
    WireguardGo,
    /// WireGuard in user space, Rust.
    Boringtun,
    /// WireGuard in user space, Rust, the fork of Mullvad.
    Gotatun,
    /// A mesh with Noise and AES-256-GCM.
    Nebula,
    /// A mesh with a protocol of its own.
    Tinc,
    /// TLS for keys, AES-256-GCM for packets, in user space.
    Openvpn,
    /// Ours, with the suite of WireGuard.
    MeshdWg,
    /// Ours, with AES-256-GCM.
    MeshdAes,
}

impl System {
    /// All, in the order of tables.
    pub const ALL: [Self; 10] = [
        Self::Veth,
        Self::Vxlan,
        Self::WireguardGo,
        Self::Boringtun,
        Self::Gotatun,
        Self::Nebula,
        Self::Tinc,
        Self::Openvpn,
        Self::MeshdWg,
        Self::MeshdAes,
    ];

    /// Its name on the command line, in tables and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::Vxlan => "vxlan",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
            Self::Gotatun => "gotatun",
            Self::Nebula => "nebula",
            Self::Tinc => "tinc",
            Self::Openvpn => "openvpn",
            Self::MeshdWg => "meshd-wg",
            Self::MeshdAes => "meshd-aes",
        }
    }

    /// The system of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|system| system.name() == name)
    }

    /// Whether it is meshd.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::MeshdWg | Self::MeshdAes)
    }

    /// Whether it encrypts in user space and is not meshd.
    pub fn is_user_space_peer(self) -> bool {
        !self.is_ours() && !matches!(self, Self::Veth | Self::Vxlan)
    }

    /// Finds its program, and gets it if it is not there.
    pub fn find(self) -> Result<Found> {
        match self {
            Self::Veth | Self::Vxlan => kernel::find(),
            Self::WireguardGo => fetch::debian("wireguard-go", "usr/bin/wireguard-go"),
            Self::Boringtun => fetch::compiled(BORINGTUN),
            Self::Gotatun => fetch::compiled(GOTATUN),
            Self::Nebula => fetch::debian("nebula", "usr/bin/nebula"),
            Self::Tinc => fetch::installed("tinc", "tincd"),
            Self::Openvpn => fetch::installed("openvpn", "openvpn"),
            Self::MeshdWg | Self::MeshdAes => mesh::find(),
        }
    }

    /// Sets it up between two hosts; fails with the ends of its logs.
    pub fn start<'lab>(self, found: &Found, lab: &Lab, pair: &'lab Pair) -> Result<Running<'lab>> {
        let started = match self {
            Self::Veth => Ok(kernel::veth(pair)),
            Self::Vxlan => kernel::vxlan(pair),
            Self::WireguardGo => wireguard::start(found, &["-f"], pair),
            Self::Boringtun => wireguard::start(found, &["-f", "--disable-drop-privileges"], pair),
            Self::Gotatun => wireguard::start(found, &["-f", "--disable-drop-privileges"], pair),
            Self::Nebula => certificates::nebula(found, pair),
            Self::Tinc => certificates::tinc(found, pair),
            Self::Openvpn => certificates::openvpn(found, pair),
            Self::MeshdWg => mesh::start(lab, "[\"wg\"]", pair),
            Self::MeshdAes => mesh::start(lab, "[\"aes\", \"wg\"]", pair),
        };
        started.map_err(|error| anyhow!("{error:#}{}", log_ends(pair)))
    }
}

impl Serialize for System {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A program and its version.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// What it calls itself.
    pub version: String,
}

impl Found {
    fn program(&self) -> Result<&str> {
        self.path.to_str().context("the path of a program is no text")
    }
}

/// A system between two hosts; gone when dropped.
#[derive(Debug)]
pub struct Running<'lab> {
    /// Address of the far end inside the tunnel.
    pub target: String,
    /// The processes that carry the traffic, of both ends.
    pub processes: Vec<Pid>,
    // Held until the end of the measurement.
    _daemons: Vec<Process>,
    _mesh: Option<Mesh<'lab>>,
}

impl Running<'_> {
    fn of_kernel(target: &str) -> Self {
        Self { target: target.to_owned(), processes: Vec::new(), _daemons: Vec::new(), _mesh: None }
    }

    /// Waits until both ends have their addresses.
    fn of_daemons(daemons: Vec<Process>, pair: &Pair) -> Result<Self> {
        let mut running = Self::of_kernel(INNER[1]);
        for (host, address) in pair.hosts().into_iter().zip(INNER) {
            wait::until(START_DEADLINE, &format!("{} has the address {address}", host.name()), || {
                host.run(&["ip", "-o", "addr"]).is_ok_and(|output| output.stdout.contains(address))
            })?;
        }
        running.processes = daemons.iter().map(Process::pid).collect();
        running._daemons = daemons;
        Ok(running)
    }
}

/// Path of a file of a host, as text.
fn path(host: &Host, name: &str) -> Result<String> {
    match host.dir().join(name).to_str() {
        Some(path) => Ok(path.to_owned()),
        None => bail!("the path of {name} is no text"),
    }
}

/// The last lines of all logs of both hosts.
fn log_ends(pair: &Pair) -> String {
    let mut text = String::new();
    for host in pair.hosts() {
        let log = host.log("any");
        let entries = log.parent().and_then(|dir| std::fs::read_dir(dir).ok());
        for entry in entries.into_iter().flatten().flatten() {
            let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
            let name = entry.file_name();
            text.push_str(&format!("\n{} {}:", host.name(), name.to_string_lossy()));
            for line in lines.get(from..).unwrap_or_default() {
                text.push_str(&format!("\n  {line}"));
            }
        }
    }
    text
}
