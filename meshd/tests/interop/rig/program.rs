//! A WireGuard program of somebody else, configured by `wg`.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use data_encoding::BASE64;

use super::{PORT, Space, overlay4, overlay6, public, wait_for};

/// Where programs and `wg` meet.
const SOCKETS: &str = "/var/run/wireguard";

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `wireguard-go` of Debian.
    WireguardGo,
    /// `boringtun-cli` 0.7.1, which `cargo lab test` builds.
    Boringtun,
    /// The same with a clock that runs as many times faster.
    HastyBoringtun(u8),
}

/// A peer of a [`ProgramPeer`].
#[derive(Debug, Clone)]
pub struct Remote {
    pub public_key: [u8; 32],
    pub psk: Option<[u8; 32]>,
    pub allowed: Vec<String>,
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives.
    pub keepalive: Option<u16>,
}

/// A running program with its device; killed when dropped.
pub struct ProgramPeer<'s> {
    space: &'s Space,
    program: Program,
    host: u8,
    private_key: [u8; 32],
    device: String,
    child: Child,
}

impl Remote {
    /// One of our hosts, with its overlay addresses.
    pub fn of(host: u8) -> Self {
        Self {
            public_key: public(&super::key(host)),
            psk: None,
            allowed: vec![overlay4(host).to_string(), overlay6(host).to_string()],
            endpoint: None,
            keepalive: None,
        }
    }

    pub fn at(self, endpoint: SocketAddr) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }

    fn section(&self) -> String {
        let mut text = format!(
            "[Peer]\nPublicKey = {}\nAllowedIPs = {}\n",
            BASE64.encode(&self.public_key),
            self.allowed.join(", ")
        );
        let psk = self.psk.map(|psk| format!("PresharedKey = {}\n", BASE64.encode(&psk)));
        let endpoint = self.endpoint.map(|endpoint| format!("Endpoint = {endpoint}\n"));
        let keepalive = self.keepalive.map(|seconds| format!("PersistentKeepalive = {seconds}\n"));
        text.extend([psk, endpoint, keepalive].into_iter().flatten());
        text
    }
}

impl<'s> ProgramPeer<'s> {
    /// Starts the program with the key and addresses of a host.
    pub fn start(space: &'s Space, program: Program, host: u8, remotes: &[Remote]) -> Self {
        let (device, child) = spawn(space, program);
        let peer = Self { space, program, host, private_key: super::key(host), device, child };
        peer.configure(remotes);
        peer
    }

    /// Kills the program and starts it again: all its sessions are gone.
    pub fn restart(&mut self, remotes: &[Remote]) {
        self.kill();
        (self.device, self.child) = spawn(self.space, self.program);
        self.configure(remotes);
    }

    /// Gives it another key.
    pub fn set_key(&mut self, private_key: [u8; 32]) {
        self.private_key = private_key;
        let mut line = BASE64.encode(&private_key);
        line.push('\n');
        wg(&["set", &self.device, "private-key", "/dev/stdin"], &line);
    }

    /// Gives a peer another pre-shared key, or none; the session stays.
    pub fn set_psk(&self, peer: &[u8; 32], psk: Option<[u8; 32]>) {
        let peer = BASE64.encode(&public(peer));
        // A key of zeros is none.
        let line = BASE64.encode(&psk.unwrap_or_default()) + "\n";
        wg(&["set", &self.device, "peer", &peer, "preshared-key", "/dev/stdin"], &line);
    }

    /// Runs `wg set` on its device.
    pub fn wg_set(&self, words: &str) {
        let line: Vec<&str> = ["set", &self.device].into_iter().chain(words.split_whitespace()).collect();
        wg(&line, "");
    }

    /// The second column of `wg show`, for its only peer.
    pub fn show(&self, what: &str) -> String {
        let printed = wg(&["show", &self.device, what], "");
        let line = printed.lines().next().unwrap_or_default();
        line.split_once('\t').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
    }

    fn configure(&self, remotes: &[Remote]) {
        wg(&["setconf", &self.device, "/dev/stdin"], &self.text(remotes));
        let device = &self.device;
        self.space.ip(&format!("link set {device} mtu 1420 up"));
        self.space.ip(&format!("address add {}/16 dev {device}", overlay4(self.host)));
        self.space.ip(&format!("address add {}/48 dev {device} nodad", overlay6(self.host)));
        self.space.settle();
    }

    fn text(&self, remotes: &[Remote]) -> String {
        let key = BASE64.encode(&self.private_key);
        let sections: String = remotes.iter().map(Remote::section).collect();
        format!("[Interface]\nPrivateKey = {key}\nListenPort = {PORT}\n{sections}")
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(socket(&self.device));
    }
}

impl Drop for ProgramPeer<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Program {
    fn path(self) -> PathBuf {
        let path = match self {
            Self::WireguardGo => PathBuf::from("/usr/bin/wireguard-go"),
            Self::Boringtun | Self::HastyBoringtun(_) => {
                Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab-peers/bin/boringtun-cli")
            }
        };
        // A test that passes without its partner would say something that nobody saw.
        assert!(path.exists(), "{} is missing; `cargo lab test` installs it", path.display());
        path
    }
}

/// A device of the program's, and the program.
fn spawn(space: &Space, program: Program) -> (String, Child) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Sockets of all namespaces lie in one directory.
    let device = format!("wg{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = program.path();
    let mut command = match program {
        Program::WireguardGo | Program::Boringtun => Command::new(path),
        Program::HastyBoringtun(times) => {
            let mut command = Command::new("faketime");
            command.args(["-f", &format!("+0 x{times}")]).arg(path);
            command
        }
    };
    match program {
        Program::WireguardGo => command.arg("--foreground").env("LOG_LEVEL", "error"),
        Program::Boringtun | Program::HastyBoringtun(_) => {
            command.args(["--foreground", "--disable-drop-privileges", "--verbosity", "error"])
        }
    };
    command.arg(&device).stdin(Stdio::null()).stdout(Stdio::null());
    let child = space.inside(|| command.spawn()).expect("the program starts");
    wait_for("the program to listen", || UnixStream::connect(socket(&device)).is_ok());
    (device, child)
}

fn socket(device: &str) -> PathBuf {
    Path::new(SOCKETS).join(format!("{device}.sock"))
}

fn wg(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("wg");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("wg runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("wg reads");
    let output = child.wait_with_output().expect("wg ends");
    assert!(output.status.success(), "wg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
