//! `meshctl audit observed`.

use std::path::{Path, PathBuf};

use clap::Args;
use meshd_api::{Body, Exit, GetObserved};
use meshd_audit::{Journal, Logged, ObservedReport, ObservedReportKey, Verdict, observed};
use serde::{Deserialize, Serialize};

use super::source::Source;
use super::{finding_table, short};
use crate::command::{Daemon, online};
use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::journal;
use crate::table::{Facts, Table};
use crate::time;

/// Compare the keys that were seen on the wire with the log.
#[derive(Debug, Args)]
pub struct Observed {
    /// Journal that another host has exported, in place of that of this host's daemon.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Write the journal of this host to a file, for an audit elsewhere, and compare nothing; never overwritten.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["journal", "log", "bundle", "mesh"])]
    export: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
}

/// The comparison as programs see it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Compared(ObservedReport);

impl Body for Compared {
    const SCHEMA: &'static str = "meshctl.audit-observed/1";
}

/// What was written, as programs see it.
#[derive(Debug, Serialize, Deserialize)]
struct Exported {
    file: PathBuf,
    node: String,
    name: String,
    since: u64,
    keys: usize,
}

impl Body for Exported {
    const SCHEMA: &'static str = "meshctl.audit-journal/1";
}

impl Observed {
    /// Compares and prints, or writes a journal.
    pub fn run(self, daemon: &Daemon) -> Result<Verdict, Failure> {
        if let Some(path) = &self.export {
            return export(path, daemon);
        }
        // The journal first: what is in it is in the log by the time that this is read.
        let journal = match &self.journal {
            Some(path) => journal::read(path)?,
            None => asked(daemon)?,
        };
        let report = self.source.report()?;
        let compared = observed(&report, &journal).map_err(|error| {
            Failure::new(Exit::Failed, "can't compare the journal with the log")
                .because(&error)
                .with_hint("take the journal of a node and the log of a steward of one mesh")
        })?;
        let verdict = compared.verdict;
        daemon.form.own(Compared(compared), |compared| human(&compared.0))?;
        Ok(verdict)
    }
}

/// The journal of this host.
fn asked(daemon: &Daemon) -> Result<Journal, Failure> {
    let asked = online(async { Ok(daemon.client.call(&GetObserved {}).await?) });
    let asked = asked.map_err(|failure| {
        failure.with_hint("ask on a host whose daemon runs, or name an exported journal with --journal")
    })?;
    journal::journal(asked.body)
        .map_err(|error| Failure::new(Exit::Failed, "can't understand the daemon's answer").because(&error))
}

fn export(path: &Path, daemon: &Daemon) -> Result<Verdict, Failure> {
    file::absent(path)?;
    let asked = online(async { Ok(daemon.client.call(&GetObserved {}).await?) })?;
    file::write_new(path, format!("{}\n", asked.json.trim_end()).as_bytes(), Readers::All)?;
    let exported = Exported {
        file: path.to_owned(),
        node: asked.body.node,
        name: asked.body.name,
        since: asked.body.since,
        keys: asked.body.keys.len(),
    };
    daemon.form.own(exported, |exported| {
        let Exported { file, node: _, name, since, keys } = exported;
        format!("{keys} keys that {name} has seen since {}, in {}", time::utc(*since), file.display())
    })?;
    Ok(Verdict::Clean)
}

fn human(compared: &ObservedReport) -> String {
    let mut facts = Facts::new();
    facts.fact("seen by", &compared.observer_name);
    facts.fact("from", time::utc(compared.since));
    facts.fact("to", time::utc(compared.until));
    if compared.forgotten > 0 {
        facts.fact("forgotten", format!("{} keys, for want of room", compared.forgotten));
    }
    let mut verdict = format!("verdict: {}", compared.verdict.word());
    if compared.audit != Verdict::Clean {
        verdict.push_str(&format!(
            "\nverdict on the log alone: {}; `meshctl audit verify` tells why",
            compared.audit.word()
        ));
    }
    let findings = finding_table(compared.findings.iter().map(|finding| (None, finding)));
    let mut parts = vec![facts.to_text(), table(&compared.keys), findings, verdict];
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn table(keys: &[ObservedReportKey]) -> String {
    if keys.is_empty() {
        return "no handshake was ever completed".to_owned();
    }
    let mut table = Table::new(&[
        "NODE",
        "ORGANISATION",
        "EPOCH",
        "LOGGED",
        "FIRST SEEN",
        "LAST SEEN",
        "HANDSHAKES",
        "SUITE",
        "PSK",
        "EXCEPTIONS",
        "KEY",
    ]);
    for key in keys {
        table.row(vec![
            if key.name.is_empty() { short(&key.node) } else { key.name.clone() },
            if key.org.len() > ORG_CHARS { short(&key.org) } else { key.org.clone() },
            key.epoch.to_string(),
            word(key.state).to_owned(),
            time::utc(key.first),
            time::utc(key.last),
            key.handshakes.to_string(),
            key.suite.clone(),
            if key.psk { "yes" } else { "no" }.to_owned(),
            if key.exceptions.is_empty() { "-".to_owned() } else { key.exceptions.join(",") },
            short(&key.key),
        ]);
    }
    table.to_text()
}

/// An organisation whose name is not known is named by its id, which is longer than a cell should be.
const ORG_CHARS: usize = 40;

fn word(state: Logged) -> &'static str {
    match state {
        Logged::Logged => "yes",
        Logged::Unlogged => "NO",
        Logged::TooNew => "not yet",
        Logged::NoLog => "no log",
        Logged::External => "external",
    }
}
