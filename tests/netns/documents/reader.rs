//! Somebody who types what a document says, and fills in what the commands before have printed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mesh_lab::{Daemon, Host, Lab, Output, program_dir};

use super::blocks::Line;

/// Deadline of one command; the longest waits of meshctl end before.
const COMMAND_DEADLINE: Duration = Duration::from_secs(90);

/// Hosts with meshd, and what was printed on them.
pub struct Reader<'lab> {
    hosts: &'lab [Host],
    _daemons: Vec<Daemon>,
    /// Directory of all shells: a file that one host writes, another can read, as if it had been carried over. Machines
    /// have file systems of their own, and each its own directory.
    desk: Option<PathBuf>,
    path: OsString,
    /// Words of the document and what they stand for.
    words: BTreeMap<&'static str, String>,
}

impl<'lab> Reader<'lab> {
    /// Starts meshd on the hosts.
    pub fn new(lab: &Lab, hosts: &'lab [Host]) -> Result<Self> {
        let desk = lab.dir().join("desk");
        std::fs::create_dir(&desk).with_context(|| format!("create {}", desk.display()))?;
        Self::on_machines(hosts).map(|reader| Self { desk: Some(desk), ..reader })
    }

    /// Starts meshd on machines.
    pub fn on_machines(hosts: &'lab [Host]) -> Result<Self> {
        let daemons = hosts.iter().map(|host| host.meshd("")).collect::<Result<_>>()?;
        let mut path = program_dir()?.into_os_string();
        // Debian's programs, whatever else is installed.
        path.push(":/usr/bin:/usr/sbin:");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Ok(Self { hosts, _daemons: daemons, desk: None, path, words: BTreeMap::new() })
    }

    /// Types a command and checks how it ends.
    pub fn types(&mut self, line: &Line) -> Result<()> {
        let command = self.fill_in(&line.command)?;
        let host = self.host(&line.host)?;
        let output = self.runs(host, &command)?;
        if output.code != line.code {
            let Output { code, stdout, stderr, .. } = output;
            bail!("{}# {command} ended with {code}, not {}:\n{stdout}{stderr}", line.host, line.code);
        }
        self.notes(&line.host, &command, &output)
    }

    fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.iter().find(|host| host.name() == name).with_context(|| format!("there is no host {name}"))
    }

    fn runs(&self, host: &Host, command: &str) -> Result<Output> {
        let set = |name: &str, value: OsString| {
            let mut text = OsString::from(name);
            text.push("=");
            text.push(value);
            text
        };
        // `exec` would be wrong: a line may hold several commands.
        let line: [OsString; 8] = [
            "env".into(),
            "--chdir".into(),
            self.desk.as_deref().unwrap_or(host.dir()).into(),
            set("PATH", self.path.clone()),
            set("MESHD_SOCKET", host.socket().into()),
            "sh".into(),
            "-ec".into(),
            command.into(),
        ];
        host.run_within(COMMAND_DEADLINE, &line)
    }

    /// Replaces words in capitals that stand alone.
    fn fill_in(&self, command: &str) -> Result<String> {
        let known = ["TOKEN", "MESH_ID", "ORG_ID", "REGISTRY"];
        let filled = command.split(' ').map(|word| match known.iter().find(|name| **name == word) {
            None => Ok(word),
            Some(name) => match self.words.get(name) {
                Some(value) => Ok(value.as_str()),
                None => bail!("nothing before has printed what {name} stands for"),
            },
        });
        Ok(filled.collect::<Result<Vec<_>>>()?.join(" "))
    }

    /// Remembers what later commands may need.
    fn notes(&mut self, host: &str, command: &str, output: &Output) -> Result<()> {
        let words: Vec<&str> = command.split_whitespace().filter(|word| !word.starts_with("--")).collect();
        match words.as_slice() {
            ["meshctl", "invite", ..] => {
                self.words.insert("TOKEN", output.stdout.trim().to_owned());
            }
            ["meshctl", "status"] => {
                let status = self.host(host)?.ctl(&["status"])?.ok()?;
                for (name, pointer) in [("MESH_ID", "/mesh/id"), ("ORG_ID", "/mesh/organisations/0/id")] {
                    let id = status.pointer(pointer).and_then(serde_json::Value::as_str);
                    self.words
                        .insert(name, id.with_context(|| format!("no {pointer} in {status}"))?.to_owned());
                }
            }
            ["meshctl", "mesh", "create", ..] => {
                let printed =
                    output.stderr.split_whitespace().skip_while(|word| *word != "--registry").nth(1);
                if let Some(url) = printed {
                    self.words.insert("REGISTRY", url.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }
}
