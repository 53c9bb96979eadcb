//! containerd on a host.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cri::Cri;
use crate::cri::messages::{Image, ImageAnswer, ImageStatus, Nothing, StatusAnswer};
use crate::host::Host;
use crate::image::IMAGE;
use crate::process::{Output, Process};
use crate::{build, image, logs, wait};

/// The containerd namespace that pods live in; commands use it too, so that both see the same containers.
const NAMESPACE: &str = "k8s.io";

/// A release of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    /// This Debian's: 1.6.
    Installed,
    /// That of a Debian to come: 2.1 or later, which asks plugins for their status.
    Later,
}

/// What a machine without the right to lower scores and without AppArmor needs, and an image that needs no fetching.
const CONFIG: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/lab:1"
restrict_oom_score_adj = true
disable_apparmor = true
"#;

/// The same in the words of the later release.
const CONFIG_LATER: &str = r#"version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "docker.io/library/lab:1"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/opt/cni/bin"]
"#;

/// Where the later release lies below the target directory.
const LATER_DIR: &str = "lab-peers/containerd";

/// Time the daemon gets until it answers.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Time the daemon gets to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// containerd on a machine, with the image; killed when dropped.
#[derive(Debug)]
pub struct Containerd<'lab> {
    host: &'lab Host,
    release: Release,
    daemon: Option<Process>,
}

impl<'lab> Containerd<'lab> {
    /// Starts it on a machine.
    pub fn start(host: &'lab Host) -> Result<Self> {
        Self::start_release(host, Release::Installed)
    }

    /// Starts the release of a Debian to come, which asks plugins for their status.
    pub fn start_later(host: &'lab Host) -> Result<Self> {
        Self::start_release(host, Release::Later)
    }

    /// Where `cargo lab test` unpacks that release.
    pub fn later_dir() -> Result<PathBuf> {
        Ok(build::target_dir()?.join(LATER_DIR))
    }

    fn start_release(host: &'lab Host, release: Release) -> Result<Self> {
        let config = host.dir().join("containerd.toml");
        fs::write(&config, release.config()).with_context(|| format!("write {}", config.display()))?;
        release.install_plugins(host)?;
        let mut containerd = Self { host, release, daemon: None };
        containerd.resume()?;
        let archive = image::write(host.dir())?.display().to_string();
        containerd.ok(&["images", "import", &archive])?;
        containerd.image_is_known()?;
        Ok(containerd)
    }

    /// The host it runs on.
    pub fn host(&self) -> &'lab Host {
        self.host
    }

    /// Calls its command line client.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let ctr = self.release.program("ctr")?;
        self.host.run(&[&[ctr.as_str(), "--namespace", NAMESPACE], arguments].concat())
    }

    /// The standard output, without its last line feed, of a call that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.run(arguments)?.ok()?.trim_end().to_owned())
    }

    /// Runs a command in a running container.
    pub fn exec(&self, container: &str, line: &[&str]) -> Result<Output> {
        // Every command in a container has a name; one after the other may have the same.
        self.run(&[&["tasks", "exec", "--exec-id", "lab", container], line].concat())
    }

    /// Ends a container, its network and its files.
    pub fn remove(&self, container: &str) -> Result<()> {
        self.ok(&["tasks", "delete", "--force", container])?;
        self.ok(&["containers", "delete", container]).map(drop)
    }

    /// Whether it tells a kubelet that pods can be attached.
    pub fn network_is_ready(&self) -> Result<bool> {
        let answer: StatusAnswer = self.cri()?.call("Status", Nothing {})?;
        let conditions = answer.status.context("a runtime without a status")?.conditions;
        let network = conditions.into_iter().find(|condition| condition.kind == "NetworkReady");
        Ok(network.context("a runtime that says nothing about its network")?.holds)
    }

    /// Connects as a kubelet does.
    pub(crate) fn cri(&self) -> Result<Cri> {
        Cri::connect(&self.host.path("/run/containerd/containerd.sock"))
    }

    /// Its CRI hears of an imported image a moment later.
    fn image_is_known(&self) -> Result<()> {
        let cri = self.cri()?;
        wait::until(START_DEADLINE, "containerd's CRI knows the image", || {
            let question = ImageStatus { image: Some(Image { image: IMAGE.to_owned() }) };
            let answer: Result<ImageAnswer> = cri.call_images("ImageStatus", question);
            answer.is_ok_and(|answer| answer.image.is_some())
        })
    }

    /// Stops the daemon; containers go on.
    pub fn stop(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("containerd was stopped already")?;
        daemon.stop(STOP_DEADLINE).map(drop)
    }

    /// Starts the daemon again.
    pub fn resume(&mut self) -> Result<()> {
        let config = self.host.dir().join("containerd.toml").display().to_string();
        let program = self.release.program("containerd")?;
        let mut daemon = self.host.start(&[&program, "--config", &config])?;
        let answers = wait::until_some(START_DEADLINE, "containerd answers", || {
            let answers = self.run(&["version"]).is_ok_and(|output| output.code == 0);
            (answers || daemon.ended().is_some()).then_some(answers)
        });
        if !answers? {
            let end = logs::end(&self.host.log("containerd"));
            bail!("containerd on {} ended:\n{end}", self.host.name());
        }
        self.daemon = Some(daemon);
        Ok(())
    }
}

impl Release {
    const fn config(self) -> &'static str {
        match self {
            Self::Installed => CONFIG,
            Self::Later => CONFIG_LATER,
        }
    }

    /// Puts the reference plugins of the same release where runtimes look.
    fn install_plugins(self, host: &Host) -> Result<()> {
        match self {
            Self::Installed => Ok(()),
            Self::Later => {
                let from = format!("{}/usr/lib/cni/.", Containerd::later_dir()?.display());
                let copy = ["cp", "--recursive", "--remove-destination", &from, "/opt/cni/bin"];
                host.run(&copy)?.ok().map(drop)
            }
        }
    }

    fn program(self, name: &str) -> Result<String> {
        match self {
            Self::Installed => Ok(name.to_owned()),
            Self::Later => {
                let path = Containerd::later_dir()?.join("usr/bin").join(name);
                if !path.exists() {
                    bail!("{} is missing; `cargo lab test` unpacks it", path.display());
                }
                Ok(path.display().to_string())
            }
        }
    }
}
