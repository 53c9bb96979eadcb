//! The plugins by which container runtimes on a host ask its daemon, where the runtimes look for them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::host::Host;
use crate::process::Process;
use crate::{build, wait};

/// Where Docker looks for the plugin.
const DOCKER_SOCKET: &str = "/run/docker/plugins/meshd.sock";

/// Where CNI plugins and the configurations of their networks lie.
const CNI_BIN_DIR: &str = "/opt/cni/bin";
const CNI_CONF_DIR: &str = "/etc/cni/net.d";

/// Time a plugin gets until it listens.
const START_DEADLINE: Duration = Duration::from_secs(10);

impl Host {
    /// Starts Docker's plugin on a machine; killed when dropped.
    pub fn docker_plugin(&self) -> Result<Process> {
        let (program, socket) = (build::program("meshd-docker")?, self.plugin_socket());
        let process = self.start(&[program.as_os_str(), "--daemon-socket".as_ref(), socket.as_ref()])?;
        let socket = self.path(DOCKER_SOCKET);
        wait::until(START_DEADLINE, "Docker's plugin listens", || UnixStream::connect(&socket).is_ok())?;
        Ok(process)
    }

    /// Installs the CNI plugin on a machine whose daemon belongs to a mesh, with a network of these options.
    pub fn install_cni(&self, options: &[&str]) -> Result<()> {
        let program = build::program("meshd-cni")?;
        let socket = self.plugin_socket();
        let places = ["--bin-dir", CNI_BIN_DIR, "--conf-dir", CNI_CONF_DIR].map(OsStr::new);
        let from = [program.as_os_str(), "install".as_ref(), "--socket".as_ref(), socket.as_ref()];
        let options = options.iter().map(OsStr::new);
        let line: Vec<&OsStr> = from.into_iter().chain(places).chain(options).collect();
        self.run(&line)?.ok().map(drop)
    }

    /// Leads the place where plugins look by themselves to this host's daemon; of a machine, whose `/run` is its own.
    pub fn plugin_socket_as_installed(&self) -> Result<()> {
        let place = self.path("/run/meshd");
        fs::create_dir_all(&place)?;
        symlink(self.plugin_socket(), place.join("plugin.sock"))?;
        Ok(())
    }

    /// Where the daemon of this host listens to plugins.
    fn plugin_socket(&self) -> PathBuf {
        self.run_dir().join("plugin.sock")
    }
}
