//! `meshctl audit key`.

use clap::Args;
use meshd_api::{Body, Exit};
use meshd_audit::{KeyReport, Verdict};
use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::failure::Failure;
use crate::output::Form;
use crate::table::Table;
use crate::time;

/// Show the life of every tunnel key of a node.
#[derive(Debug, Args)]
pub struct Key {
    /// Name of the node, or its id or the beginning of it.
    node: String,
    #[command(flatten)]
    source: Source,
}

/// Keys as programs see them.
#[derive(Debug, Serialize, Deserialize)]
struct Keys {
    verdict: Verdict,
    keys: Vec<KeyReport>,
}

impl Body for Keys {
    const SCHEMA: &'static str = "meshctl.audit-keys/1";
}

impl Key {
    /// Audits and prints.
    pub fn run(self, form: Form) -> Result<Verdict, Failure> {
        let report = self.source.report()?;
        let is_meant = |key: &&KeyReport| {
            key.name == self.node || self.node.len() >= 10 && key.node.starts_with(&self.node)
        };
        let keys: Vec<KeyReport> =
            report.logs.iter().flat_map(|log| &log.keys).filter(is_meant).cloned().collect();
        if keys.is_empty() {
            return Err(Failure::new(Exit::Failed, format!("no log knows a node {:?}", self.node))
                .with_hint("`meshctl audit overdue` names all nodes"));
        }
        let verdict = report.verdict;
        form.own(Keys { verdict, keys }, |keys| {
            format!("{}\nverdict of the whole audit: {}", table(&keys.keys), keys.verdict.word())
        })?;
        Ok(verdict)
    }
}

/// Keys as a table.
pub fn table<'k>(keys: impl IntoIterator<Item = &'k KeyReport>) -> String {
    let mut table = Table::new(&[
        "NODE",
        "EPOCH",
        "STATE",
        "ANNOUNCED",
        "IN USE FROM",
        "TO",
        "FOR",
        "ERASED",
        "RECEIPTS",
        "EXCEPTIONS",
        "KEY",
    ]);
    for key in keys {
        let none = || "-".to_owned();
        let at = |at: Option<u64>| at.map_or_else(none, time::utc);
        table.row(vec![
            if key.name.is_empty() { super::short(&key.node) } else { key.name.clone() },
            key.epoch.to_string(),
            key.state().to_owned(),
            at(key.announced),
            at(key.active_from),
            at(key.active_to),
            key.used_s.map_or_else(none, time::span),
            at(key.destroyed),
            key.receipts.map_or_else(none, |count| count.to_string()),
            if key.exceptions.is_empty() { none() } else { key.exceptions.join(",") },
            key.key.as_deref().map_or_else(none, super::short),
        ]);
    }
    table.to_text()
}
