//! podman on a host; it has no daemon.

use std::fs;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::image;
use crate::process::Output;

/// Networks by CNI, the capability to send echo requests, and what a machine without systemd, AppArmor and the right to
/// raise limits needs.
const CONFIG: &str = r#"[containers]
apparmor_profile = "unconfined"
default_capabilities = [
  "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP",
  "SETUID", "SYS_CHROOT",
]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]

[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"

[network]
network_backend = "cni"
network_config_dir = "/etc/cni/net.d"
cni_plugin_dirs = ["/opt/cni/bin"]
"#;

/// podman on a machine, with the image.
#[derive(Debug)]
pub struct Podman<'lab> {
    host: &'lab Host,
}

impl<'lab> Podman<'lab> {
    /// Configures it on a machine.
    pub fn new(host: &'lab Host) -> Result<Self> {
        let config = host.path("/etc/containers/containers.conf");
        fs::write(&config, CONFIG).with_context(|| format!("write {}", config.display()))?;
        let podman = Self { host };
        let archive = image::write(host.dir())?.display().to_string();
        podman.ok(&["load", "--quiet", "--input", &archive])?;
        Ok(podman)
    }

    /// The host it runs on.
    pub fn host(&self) -> &'lab Host {
        self.host
    }

    /// Calls its command line.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.host.run(&[&["podman"], arguments].concat())
    }

    /// The standard output, without its last line feed, of a call that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.run(arguments)?.ok()?.trim_end().to_owned())
    }
}
