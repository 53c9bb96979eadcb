//! `meshctl audit export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use meshd_api::{Document, Exit};
use meshd_audit::{KeyReport, Report, Verdict};
use serde::Serialize;
use serde_json::Value;

use super::Whole;
use super::source::Source;
use crate::audit_page;
use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::output;
use crate::time;

/// Write the whole audit for other programs, or as a page for people.
#[derive(Debug, Args)]
pub struct Export {
    /// What to write: everything as json, a line a thing as jsonl, the table of keys as csv, a page as html.
    #[arg(long, value_enum)]
    format: Format,
    /// File to write; never overwritten. Standard output if none is given.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
}

/// A form of the audit.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Jsonl,
    Csv,
    Html,
}

impl Export {
    /// Audits and writes.
    pub fn run(self) -> Result<Verdict, Failure> {
        let report = self.source.report()?;
        let verdict = report.verdict;
        let text = match self.format {
            Format::Json => json(&Document::new(Whole(report)))?,
            Format::Jsonl => lines(&report)?,
            Format::Csv => csv(&report),
            Format::Html => audit_page::page(&report),
        };
        match self.out {
            Some(path) => file::write_new(&path, format!("{}\n", text.trim_end()).as_bytes(), Readers::All)?,
            None => output::data(text.trim_end())?,
        }
        Ok(verdict)
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::new(Exit::Failed, "can't write JSON").because(&error))
}

/// A line for the audit, and one for each finding, node and key.
fn lines(report: &Report) -> Result<String, Failure> {
    let mut lines = Vec::new();
    let mut line = |what: &str, org: Option<&str>, value: Value| -> Result<(), Failure> {
        let Value::Object(mut fields) = value else { return Ok(()) };
        fields.insert("type".to_owned(), what.into());
        if let Some(org) = org {
            fields.insert("log".to_owned(), org.into());
        }
        lines.push(json(&fields)?);
        Ok(())
    };
    let value = |value: serde_json::Result<Value>| {
        value.map_err(|error| Failure::new(Exit::Failed, "can't write JSON").because(&error))
    };
    let head = Report { findings: Vec::new(), logs: Vec::new(), ..report.clone() };
    line("audit", None, value(serde_json::to_value(head))?)?;
    for (log, finding) in report.all_findings() {
        line("finding", log.map(|log| log.org.as_str()), value(serde_json::to_value(finding))?)?;
    }
    for log in &report.logs {
        for checkpoint in &log.checkpoints {
            line("checkpoint", Some(&log.org), value(serde_json::to_value(checkpoint))?)?;
        }
        for node in &log.nodes {
            line("node", Some(&log.org), value(serde_json::to_value(node))?)?;
        }
        for key in &log.keys {
            line("key", Some(&log.org), value(serde_json::to_value(key))?)?;
        }
    }
    Ok(lines.join("\n"))
}

/// The table of keys.
fn csv(report: &Report) -> String {
    let mut text = String::from(
        "organisation,node,name,epoch,key,state,announced,active_from,active_to,active_s,period_s,destroyed,receipts,exceptions\n",
    );
    for log in &report.logs {
        for key in &log.keys {
            let at = |at: Option<u64>| at.map(time::utc).unwrap_or_default();
            let KeyReport {
                node,
                name,
                epoch,
                key: public,
                announced,
                active_from,
                active_to,
                destroyed,
                ..
            } = key;
            let cells = [
                log.org_name.clone(),
                node.clone(),
                name.clone(),
                epoch.to_string(),
                public.clone().unwrap_or_default(),
                key.state().to_owned(),
                at(*announced),
                at(*active_from),
                at(*active_to),
                key.used_s.map(|used| used.to_string()).unwrap_or_default(),
                report.period_s.to_string(),
                at(*destroyed),
                key.receipts.map(|count| count.to_string()).unwrap_or_default(),
                key.exceptions.join(" "),
            ];
            text.push_str(&cells.map(|cell| quoted(&cell)).join(","));
            text.push('\n');
        }
    }
    text
}

/// A cell of RFC 4180, quoted where it must be, and no formula to a program of tables.
fn quoted(cell: &str) -> String {
    let cell =
        if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn cells_are_neither_cut_nor_run() {
        assert_eq!(quoted("scanner"), "scanner");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(quoted("=1+1"), "'=1+1");
    }
}
