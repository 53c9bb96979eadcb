//! A directory with a stand-in for meshd, one for the API server, and the agent between them.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use meshd_stand_in::{Daemon, Mood};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::Api;

/// Time anything gets on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a test has around it.
pub struct Rig {
    dir: TempDir,
    pub api: Api,
    agent: Option<Child>,
}

impl Rig {
    pub fn new() -> Self {
        let rig = Self { dir: tempfile::tempdir().expect("a directory"), api: Api::start(), agent: None };
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": rig.api.url()}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
        });
        fs::write(rig.path("kubeconfig"), config.to_string()).expect("a kubeconfig");
        rig.api.put("nodes", json!({"metadata": {"name": "one"}}));
        rig.api.put("namespaces", json!({"metadata": {"name": "shop"}}));
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn meshd(&self) -> Daemon {
        Daemon::start(&self.path("plugin.sock"), Mood::Well)
    }

    /// Runs the agent of node `one`.
    pub fn agent(&mut self, words: &[&str]) {
        let log = fs::File::create(self.path("log")).expect("a log");
        let child = self
            .command()
            .arg("run")
            .args(["--node", "one"])
            .arg("--kubeconfig")
            .arg(self.path("kubeconfig"))
            .arg("--ready-file")
            .arg(self.path("ready"))
            .arg("--socket")
            .arg(self.path("plugin.sock"))
            .args(words)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent");
        self.agent = Some(child);
    }

    /// Asks the agent to stop, and tells whether it did so in order.
    pub fn stop(&mut self) -> bool {
        let mut agent = self.agent.take().expect("an agent");
        let kill = Command::new("kill").arg(agent.id().to_string()).status();
        assert!(kill.expect("kill").success());
        agent.wait().expect("an end").success()
    }

    /// Whether `ready` succeeds.
    pub fn is_ready(&self) -> bool {
        let mut command = self.command();
        command
            .arg("ready")
            .arg("--ready-file")
            .arg(self.path("ready"))
            .arg("--socket")
            .arg(self.path("plugin.sock"));
        command.output().expect("it runs").status.success()
    }

    pub fn rules(&self, words: &[&str]) -> Output {
        self.command().arg("rules").args(words).output().expect("it runs")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until a condition holds.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < DEADLINE, "{what} did not come\n{}", self.log());
            sleep(LOOK_EVERY);
        }
    }

    /// The next set of policies that meshd is told and that fits.
    pub fn told(&self, meshd: &Daemon, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        self.until(what, || {
            let asked = meshd.asked().into_iter().filter(|(path, _)| path == "/v1/policies/set");
            found = asked.map(|(_, body)| body).find(|body| fits(body));
            found.is_some()
        });
        found.expect("it was found")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshd-k8s"));
        for name in
            ["KUBECONFIG", "NODE_NAME", "MESHD_SOCKET", "MESHD_NETWORK", "MESHD_READY_FILE", "RUST_LOG"]
        {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1");
        command
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            // It may have ended by itself.
            drop(agent.kill());
            drop(agent.wait());
        }
    }
}

pub fn pod(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "uid": format!("u-{name}"), "labels": {"app": name}},
        "spec": {"nodeName": "one", "containers": []},
        "status": {"phase": "Running", "podIP": address},
    })
}

pub fn policy() -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [{"podSelector": {}}]}]},
    })
}

/// The entry of a pod.
pub fn entry<'a>(told: &'a Value, uid: &str) -> Option<&'a Value> {
    told["policies"].as_array()?.iter().find(|entry| entry["select"]["k8s.pod-uid"] == uid)
}
