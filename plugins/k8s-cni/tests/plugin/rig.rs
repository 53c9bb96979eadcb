//! Runs the plugin, and stands in for meshd.

pub use meshd_stand_in::{Daemon, Mood};

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    /// Its exit code.
    pub exit: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// A directory with a file in the place of a network namespace, and perhaps meshd's socket.
pub struct Rig {
    dir: TempDir,
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("netns"), "").expect("a file");
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn namespace(&self) -> String {
        text(&self.path("netns"))
    }

    pub fn socket(&self) -> PathBuf {
        self.path("plugin.sock")
    }

    /// Environment of a call about interface eth0 of a container.
    pub fn environment(&self, verb: &str) -> Vec<(String, OsString)> {
        let pairs = [
            ("CNI_COMMAND", verb.to_owned()),
            ("CNI_CONTAINERID", "c1".to_owned()),
            ("CNI_NETNS", self.namespace()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", "/opt/cni/bin".to_owned()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }

    /// Runs a verb with an environment as runtimes make it.
    pub fn call(&self, verb: &str, configuration: &Value) -> Run {
        self.run(&self.environment(verb), configuration.to_string().as_bytes())
    }

    /// Runs the plugin.
    pub fn run(&self, environment: &[(String, OsString)], stdin: &[u8]) -> Run {
        let mut child = self.spawn(environment);
        // A plugin that does not read to the end closes its end.
        let _ = child.stdin.take().expect("a pipe").write_all(stdin);
        Run::of(child)
    }

    /// Starts the plugin; whoever wants it to see the end of its input drops that.
    pub fn spawn(&self, environment: &[(String, OsString)]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshd-cni"));
        command.env_clear().env("MESHD_SOCKET", self.socket());
        command.envs(environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the plugin")
    }
}

impl Run {
    /// Waits for the end.
    pub fn of(child: Child) -> Self {
        let output = child.wait_with_output().expect("an end");
        Self {
            exit: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Its result.
    pub fn result(&self) -> Value {
        assert_eq!(self.exit, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).expect("a document")
    }

    /// Its error: a document with what CNI wants.
    pub fn error(&self) -> Value {
        assert_eq!(self.exit, Some(1), "{self:?}");
        let error: Value = serde_json::from_str(&self.stdout).expect("a document");
        assert!(error["cniVersion"].is_string() && error["msg"].is_string(), "{error}");
        error
    }

    /// Number and words of its error.
    pub fn refusal(&self) -> (u64, String) {
        let error = self.error();
        let words = [&error["msg"], &error["details"]].into_iter().filter_map(Value::as_str);
        (error["code"].as_u64().expect("a number"), words.collect::<Vec<_>>().join("; "))
    }

    /// Fails unless it ended well and said nothing on standard output.
    pub fn is_silent_success(&self) {
        assert_eq!((self.exit, self.stdout.as_str()), (Some(0), ""), "{self:?}");
    }
}

/// A configuration with a pool of each family.
pub fn configuration(version: &str) -> Value {
    json!({"cniVersion": version, "name": "meshd", "type": "meshd", "pool4": "10.202.0.0/16", "pool6": "fd77:202::/64"})
}

/// The same with more keys.
pub fn with(mut configuration: Value, more: &Value) -> Value {
    for (key, value) in more.as_object().expect("keys") {
        configuration[key] = value.clone();
    }
    configuration
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}
