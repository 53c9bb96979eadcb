//! Runs the plugin, and asks as Docker does.

pub use meshd_stand_in::{Daemon, Mood};

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A network's id.
pub const NETWORK: &str = "15269bd5c0e44b0e8f5d1a3b8a7c2f6e9d4c1b0a3f2e5d8c7b6a9f0e1d2c3b4a";
/// An endpoint's id.
pub const ENDPOINT: &str = "3fe441aa6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f70";

/// A directory with the plugin's socket and meshd's, and the plugin.
pub struct Rig {
    dir: TempDir,
    plugin: Child,
}

impl Rig {
    /// Starts the plugin; meshd is not there.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let plugin = spawn(&dir);
        let rig = Self { dir, plugin };
        rig.wait_until_ready();
        rig
    }

    /// The same with a meshd that answers.
    pub fn with_meshd() -> (Self, Daemon) {
        let rig = Self::new();
        let daemon = Daemon::start(&rig.daemon_socket(), Mood::Well);
        (rig, daemon)
    }

    /// The same with a network of both families in which containers can be.
    pub fn with_network(options: &Value) -> (Self, Daemon) {
        let (rig, daemon) = Self::with_meshd();
        rig.done("NetworkDriver.CreateNetwork", &network(options));
        daemon.asked();
        (rig, daemon)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("meshd.sock")
    }

    pub fn daemon_socket(&self) -> PathBuf {
        self.dir.path().join("plugin.sock")
    }

    pub fn plugin(&mut self) -> &mut Child {
        &mut self.plugin
    }

    /// Starts another plugin in the place of the one that ended.
    pub fn start_again(&mut self) {
        self.plugin = spawn(&self.dir);
        self.wait_until_ready();
    }

    /// Another plugin at the same socket.
    pub fn second(&self) -> Child {
        spawn(&self.dir)
    }

    /// Makes a call and reads its answer.
    pub fn call(&self, name: &str, body: &Value) -> Value {
        let (status, answer) = self.send(name, body.to_string().as_bytes());
        assert_eq!(status, 200, "{name}: {answer}");
        serde_json::from_str(&answer).expect("a document")
    }

    /// Makes a call that must succeed.
    pub fn done(&self, name: &str, body: &Value) -> Value {
        let answer = self.call(name, body);
        assert_eq!((answer.get("Err"), answer.get("Error")), (None, None), "{name}");
        answer
    }

    /// Makes a call that must fail, and returns the line that Docker would show.
    pub fn refusal(&self, name: &str, body: &Value) -> String {
        self.refusal_of(name, body.to_string().as_bytes())
    }

    /// The same with any bytes.
    pub fn refusal_of(&self, name: &str, body: &[u8]) -> String {
        let (status, answer) = self.send(name, body);
        assert_eq!(status, 200, "{name}: {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("a document");
        // Docker reads one key in answers of the IPAM driver, and the other in all others.
        let key = if name.starts_with("IpamDriver.") { "Error" } else { "Err" };
        let line = answer[key].as_str().unwrap_or_else(|| panic!("{name}: {answer}"));
        assert!(!line.is_empty() && !line.contains('\n'), "{line}");
        line.to_owned()
    }

    /// Sends any bytes as a call.
    pub fn send(&self, name: &str, body: &[u8]) -> (u16, String) {
        let mut stream = UnixStream::connect(self.socket()).expect("the plugin's socket");
        let head = format!(
            "POST /{name} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("a call");
        // A plugin that does not read to the end closes its end.
        let _ = stream.write_all(body);
        read(stream)
    }

    fn wait_until_ready(&self) {
        while UnixStream::connect(self.socket()).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.plugin.kill();
        let _ = self.plugin.wait();
    }
}

fn spawn(dir: &TempDir) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshd-docker"));
    command.env_clear();
    command.arg("--socket").arg(dir.path().join("meshd.sock"));
    command.arg("--daemon-socket").arg(dir.path().join("plugin.sock"));
    // Not that of this machine.
    command.arg("--docker-socket").arg(dir.path().join("docker.sock"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the plugin")
}

/// Reads an answer: its status and its body.
fn read(stream: UnixStream) -> (u16, String) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let mut len = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("a header");
        match header.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                len = value.trim().parse().expect("a length");
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).expect("a body");
    (status, String::from_utf8(body).expect("text"))
}

/// A network with a pool of each family, and what is typed behind `-o`.
pub fn network(options: &Value) -> Value {
    json!({
        "NetworkID": NETWORK,
        "Options": {"com.docker.network.enable_ipv6": true, "com.docker.network.generic": options},
        "IPv4Data": [{"AddressSpace": "meshlocal", "Pool": "10.202.0.0/16", "Gateway": "10.202.0.1/16"}],
        "IPv6Data": [{"AddressSpace": "meshlocal", "Pool": "fd77:202::/64", "Gateway": "fd77:202::1/64"}],
    })
}

/// An endpoint of that network.
pub fn endpoint() -> Value {
    json!({
        "NetworkID": NETWORK,
        "EndpointID": ENDPOINT,
        "Interface": {"Address": "10.202.0.101/32", "AddressIPv6": "fd77:202::65/128", "MacAddress": ""},
        "Options": {"com.docker.network.endpoint.exposedports": [], "com.docker.network.portmap": []},
    })
}

/// Its ids.
pub fn ids() -> Value {
    json!({"NetworkID": NETWORK, "EndpointID": ENDPOINT, "SandboxKey": "/var/run/docker/netns/9a5965a76cee", "Options": {}})
}
