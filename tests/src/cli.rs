//! Calls of meshctl on a host.

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
        let mut reply = self.ctl(&["peers"])?.ok()?;
        match reply.get_mut("peers").map(Value::take) {
            Some(Value::Array(peers)) => Ok(peers),
            _ => bail!("`meshctl peers` printed no list of peers: {reply}"),
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
