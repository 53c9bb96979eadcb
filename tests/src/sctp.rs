//! SCTP, of which few kernels have more than that they follow it: packets are made and heard by hand.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::wait;

/// Is there if the kernel follows connections of SCTP.
const FOLLOWED: &str = "/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established";

/// Says the first packet of an association, or hears it as it comes.
const SCRIPT: &str = r#"
import socket, struct, sys
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
what, family, address, port = sys.argv[1:]
inet = socket.AF_INET if family == "4" else socket.AF_INET6
raw = socket.socket(inet, socket.SOCK_RAW, 132)
if what == "hear":
    print("listening", flush=True)
    while True:
        packet = raw.recv(4096)
        if family == "4":
            packet = packet[(packet[0] & 15) * 4:]
        if struct.unpack("!HH", packet[:4])[1] == int(port):
            sys.exit(0)
def packet(crc):
    head = struct.pack("!HHI", 40000, int(port), 0) + struct.pack("<I", crc)
    return head + struct.pack("!BBHIIHHI", 1, 0, 20, 1, 65536, 1, 1, 1)
raw.sendto(packet(crc32c(packet(0))), (address, 0))
"#;

/// Whether the kernel follows it.
pub fn is_followed(namespace: &Namespace) -> Result<bool> {
    namespace.run(|| Path::new(FOLLOWED).exists())
}

/// Whether the first packet of an association arrives within some time.
pub fn is_heard(from: &Namespace, to: &Namespace, at: SocketAddr, patience: Duration) -> Result<bool> {
    let words = |what: &str| {
        let family = if at.is_ipv4() { "4" } else { "6" };
        let mut python = Command::new("python3");
        python.args(["-c", SCRIPT, what, family, &at.ip().to_string(), &at.port().to_string()]);
        python.stdout(Stdio::piped());
        python
    };
    let mut hearer = to.run(|| words("hear").spawn())??;
    let mut said = [0; 9];
    hearer.stdout.as_mut().context("its output")?.read_exact(&mut said)?;
    from.run(|| words("say").status())??;
    let is_heard = wait::until(patience, "it is heard", || matches!(hearer.try_wait(), Ok(Some(_)))).is_ok();
    // It may have ended.
    let _ = hearer.kill();
    hearer.wait()?;
    Ok(is_heard)
}
