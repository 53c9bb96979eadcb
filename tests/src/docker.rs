//! dockerd on a host.

use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::host::Host;
use crate::process::{Output, Process};
use crate::{image, logs, wait};

/// Names the root of another Docker's programs than those that Debian installs.
pub const DOCKER_ROOT_VARIABLE: &str = "MESH_LAB_DOCKER_ROOT";

/// By path: another client or daemon may come first in `$PATH`.
const CLIENT: &str = "/usr/bin/docker";
const DAEMON: &str = "/usr/sbin/dockerd";

/// Where the daemon listens, on the host's own `/run`.
const SOCKET: &str = "unix:///run/docker.sock";

/// Time the daemon gets until it answers; it makes its bridge and rules, and restarts containers first.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Time the daemon gets to stop containers and itself.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// What a daemon that was killed leaves and the next one must not take for a running one.
const PID_FILES: [&str; 2] = ["/run/docker.pid", "/run/docker/containerd/containerd.pid"];

/// dockerd on a machine, with the image; killed when dropped.
#[derive(Debug)]
pub struct Docker<'lab> {
    host: &'lab Host,
    options: Vec<String>,
    programs: Programs,
    daemon: Option<Process>,
}

/// The programs of one release.
#[derive(Debug)]
struct Programs {
    client: String,
    daemon: String,
    /// Where the daemon finds its helpers: those of its release first.
    path: String,
}

impl Programs {
    fn here() -> Self {
        let root = env::var(DOCKER_ROOT_VARIABLE).unwrap_or_default();
        let path = env::var("PATH").unwrap_or_default();
        Self {
            client: format!("{root}{CLIENT}"),
            daemon: format!("{root}{DAEMON}"),
            path: format!("{root}/usr/bin:{root}/usr/sbin:{path}"),
        }
    }
}

impl<'lab> Docker<'lab> {
    /// Starts it on a machine.
    pub fn start(host: &'lab Host) -> Result<Self> {
        Self::start_with(host, &[])
    }

    /// As [`Docker::start`], with more options of dockerd.
    pub fn start_with(host: &'lab Host, options: &[&str]) -> Result<Self> {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut docker = Self { host, options, programs: Programs::here(), daemon: None };
        docker.resume()?;
        let archive = image::write(host.dir())?.display().to_string();
        docker.ok(&["load", "--input", &archive])?;
        Ok(docker)
    }

    /// The host it runs on.
    pub fn host(&self) -> &'lab Host {
        self.host
    }

    /// Calls the command line client.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let config = self.host.dir().join("docker-config").display().to_string();
        self.host.run(&[&[&self.programs.client, "--config", &config, "--host", SOCKET], arguments].concat())
    }

    /// The standard output, without its last line feed, of a call that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.run(arguments)?.ok()?.trim_end().to_owned())
    }

    /// Runs another client of this daemon.
    pub fn client(&self, line: &[&str]) -> Result<Output> {
        let socket = format!("DOCKER_HOST={SOCKET}");
        let config = format!("DOCKER_CONFIG={}", self.host.dir().join("docker-config").display());
        self.host.run(&[&["env", &socket, &config], line].concat())
    }

    /// Stops the daemon in order; it stops its containers too, unless it keeps them alive.
    pub fn stop(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("dockerd was stopped already")?;
        let status = daemon.stop(STOP_DEADLINE)?;
        if !status.success() {
            bail!("dockerd on {} ended with {status}:\n{}", self.host.name(), self.log_end());
        }
        Ok(())
    }

    /// Kills the daemon and the containerd below it, as a crash would; containers go on.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.take().context("dockerd was stopped already")?.kill()?;
        for file in PID_FILES {
            // The second one may not be there yet.
            let _absent = fs::remove_file(self.host.path(file));
        }
        Ok(())
    }

    /// Starts the daemon again.
    pub fn resume(&mut self) -> Result<()> {
        self.resume_while(|| Ok(()))
    }

    /// As [`Docker::resume`], and does something else while the daemon starts.
    pub fn resume_while<T>(&mut self, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
        let options = self.options.iter().map(String::as_str);
        // With ip6tables, which is experimental at this version, its rules are those of newer versions.
        let own = [
            &self.programs.daemon,
            "--host",
            SOCKET,
            "--storage-driver",
            "overlay2",
            "--experimental",
            "--ip6tables",
        ];
        let line: Vec<&str> = own.into_iter().chain(options).collect();
        // The oldest clients that are tested are asked for by no newer daemon of its own accord.
        let environment = [("PATH", self.programs.path.as_str()), ("DOCKER_MIN_API_VERSION", "1.24")];
        let mut daemon = self.host.start_with(&environment, &line)?;
        let done = meanwhile()?;
        let answers = wait::until_some(START_DEADLINE, "dockerd answers", || {
            let answers = self.run(&["version"]).is_ok_and(|output| output.code == 0);
            (answers || daemon.ended().is_some()).then_some(answers)
        });
        if !answers? {
            bail!("dockerd on {} ended:\n{}", self.host.name(), self.log_end());
        }
        self.daemon = Some(daemon);
        Ok(done)
    }

    /// Stops the daemon in order and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.resume()
    }

    /// Where a running container's processes are, for a look at them from outside.
    pub fn pid(&self, container: &str) -> Result<i32> {
        let pid = self.ok(&["inspect", "--format", "{{.State.Pid}}", container])?;
        pid.parse().with_context(|| format!("read the pid of {container}"))
    }

    fn log_end(&self) -> String {
        logs::end(&self.host.log("dockerd"))
    }
}
