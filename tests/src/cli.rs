//! Calls of meshctl on a host.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::build;
use crate::host::Host;
use crate::process::{Output, run_command};

/// Longer than the longest deadline inside meshctl, which is that of a join.
const CTL_DEADLINE: Duration = Duration::from_secs(90);

/// What meshctl answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its exit code.
    pub code: i32,
    /// Its standard output as JSON; null if it is none.
    pub json: Value,
    /// How it ended and what it printed.
    pub output: Output,
}

impl Reply {
    /// The JSON of a call that must have succeeded.
    pub fn ok(self) -> Result<Value> {
        let Self { code: _, json, output } = self;
        output.ok()?;
        Ok(json)
    }

    /// Fails unless the call ended with this code and one plain `error:` line.
    pub fn refused(&self, code: i32) -> Result<()> {
        let Output { command, code: got, stderr, .. } = &self.output;
        let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
        if *got != code || errors != 1 || stderr.contains("panicked") {
            bail!("`{command}` was to fail with {code} and one error line; it ended with {got}: {stderr}");
        }
        Ok(())
    }
}

impl Host {
    /// Where the daemon of this host listens for meshctl.
    pub fn socket(&self) -> std::path::PathBuf {
        self.run_dir().join("api.sock")
    }

    /// Calls meshctl with `--json`.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Reply> {
        let output = self.meshctl(true, arguments)?;
        let json = serde_json::from_str(&output.stdout).unwrap_or(Value::Null);
        Ok(Reply { code: output.code, json, output })
    }

    /// Calls meshctl as a person does, for its tables.
    pub fn ctl_text(&self, arguments: &[&str]) -> Result<String> {
        self.meshctl(false, arguments)?.ok()
    }

    /// The other nodes that meshctl names.
    pub fn peers(&self) -> Result<Vec<Value>> {
        self.listed(&["peers"], "peers")
    }

    /// The tunnel keys that meshctl names, of all nodes.
    pub fn keys(&self) -> Result<Vec<Value>> {
        self.listed(&["key", "list"], "keys")
    }

    /// The number of the key that each node uses, as this host knows it.
    pub fn epochs(&self) -> Result<BTreeMap<String, u64>> {
        let keys = self.keys()?;
        let current = keys.iter().filter(|key| key["role"] == "current");
        let epoch = |key: &Value| Some((key["node"].as_str()?.to_owned(), key["epoch"].as_u64()?));
        Ok(current.filter_map(epoch).collect())
    }

    /// The number of the key that a node uses, as this host knows it.
    pub fn epoch(&self, node: &str) -> Result<u64> {
        self.epochs()?.get(node).copied().with_context(|| format!("no key of {node} in use"))
    }

    fn listed(&self, arguments: &[&str], field: &str) -> Result<Vec<Value>> {
        let mut reply = self.ctl(arguments)?.ok()?;
        match reply.get_mut(field).map(Value::take) {
            Some(Value::Array(listed)) => Ok(listed),
            _ => bail!("`meshctl {}` printed no list of {field}: {reply}", arguments.join(" ")),
        }
    }

    fn meshctl(&self, json: bool, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(build::program("meshctl")?);
        command.arg("--socket").arg(self.socket()).args(json.then_some("--json")).args(arguments);
        command.current_dir(self.dir());
        run_command(self.inside(command), Some(self.namespace()), CTL_DEADLINE)
            .with_context(|| format!("on host {}", self.name()))
    }
}
