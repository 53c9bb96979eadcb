//! `meshctl audit`.

mod as_of;
mod bundle;
mod export;
mod key;
mod observed;
mod overdue;
mod source;
mod split_view;
mod verify;
mod verify_bundle;
mod watch;

use std::process::ExitCode;

use clap::Subcommand;
use meshd_api::{Body, Exit};
use meshd_audit::{BundleError, FilesError, FindingReport, LogReport, Report, Verdict};
use meshd_trust::log::Severity;

use super::Daemon;
use crate::failure::Failure;
use crate::table::Table;
use crate::time;

/// Code of an audit that could not be done.
pub const FAILED: u8 = 1;

/// Verify the log of who was let in and which keys were used, and show what it says.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Verify everything: signatures, tree, tiles, records, and the rules of keys.
    Verify(verify::Verify),
    /// Show the life of every tunnel key of a node.
    Key(key::Key),
    /// Show the keys in use and how long each has been, the oldest first.
    Overdue(overdue::Overdue),
    /// Compare the keys that were seen on the wire with the log.
    ///
    /// Every node keeps a journal of the tunnel keys that handshakes were completed with, its own and those of its peers. A
    /// key on the wire that is in no log is what no audit of the log alone can find. The journal of this host is asked of
    /// its daemon; those of other hosts come as files.
    Observed(observed::Observed),
    /// Show who was a member at a time, and with which key.
    AsOf(as_of::AsOf),
    /// Follow a log as it grows, and verify each new checkpoint.
    ///
    /// Prints each new leaf when it is signed and follows the leaves before, and each finding when it appears. Evidence of
    /// tampering ends it at once; otherwise it ends after --for or when it is interrupted, with the verdict on the whole
    /// log.
    Watch(watch::Watch),
    /// Compare what several parties hold of one log, and write down evidence if it shows two faces.
    SplitView(split_view::SplitView),
    /// Write the whole audit for other programs, or as a page for people.
    Export(export::Export),
    /// Put everything that an auditor needs into one file.
    Bundle(bundle::Bundle),
    /// Verify such a file, by the id of the mesh alone.
    VerifyBundle(verify_bundle::VerifyBundle),
}

impl Audit {
    /// Does what was typed, and ends with the code of the verdict.
    pub fn run(self, daemon: &Daemon) -> Result<ExitCode, Failure> {
        let form = daemon.form;
        let verdict = match self {
            Self::Verify(verify) => verify.run(form),
            Self::Key(key) => key.run(form),
            Self::Overdue(overdue) => overdue.run(form),
            Self::Observed(observed) => observed.run(daemon),
            Self::AsOf(as_of) => as_of.run(form),
            Self::Watch(watch) => watch.run(daemon),
            Self::SplitView(split_view) => split_view.run(form),
            Self::Export(export) => export.run(),
            Self::Bundle(bundle) => bundle.run(form),
            Self::VerifyBundle(verify) => verify.run(form),
        };
        match verdict {
            Ok(verdict) => Ok(ExitCode::from(verdict.code())),
            Err(failure) => Err(failure.or_code(FAILED)),
        }
    }
}

/// Whether what was typed, and is wrong, is a call of this verb.
pub fn is_meant(mut args: impl Iterator<Item = String>) -> bool {
    loop {
        match args.next() {
            // The only option before a verb that has a value of its own.
            Some(option) if option == "--socket" => drop(args.next()),
            Some(option) if option.starts_with('-') => {}
            verb => return verb.as_deref() == Some("audit"),
        }
    }
}

/// A report as programs see it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct Whole(Report);

impl Body for Whole {
    const SCHEMA: &'static str = "meshctl.audit/1";
}

/// A bundle that can't be used, or one that somebody changed.
fn bad_bundle(name: &str, error: &BundleError) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("can't verify {name}")).because(error);
    match (error.severity(), error) {
        (Some(Severity::Tampering), _) => failure.or_code(Verdict::Tampering.code()),
        (Some(_) | None, BundleError::OtherMesh { .. }) => {
            failure.with_hint("compare the mesh id with the one that you know, or ask for the right bundle")
        }
        (Some(_) | None, _) => failure,
    }
}

fn unreadable(error: &FilesError) -> Failure {
    Failure::new(Exit::Failed, "can't read the log").because(error)
}

/// Findings as a table; empty if there are none.
fn findings(report: &Report) -> String {
    finding_table(report.all_findings())
}

fn finding_table<'f>(findings: impl Iterator<Item = (Option<&'f LogReport>, &'f FindingReport)>) -> String {
    let mut table = Table::new(&["FINDING", "MEANS", "LOG", "LEAF", "TIME", "ABOUT", "EPOCH", "WHAT"]);
    let mut is_empty = true;
    for (log, finding) in findings {
        is_empty = false;
        let none = || "-".to_owned();
        table.row(vec![
            finding.code.clone(),
            meaning(finding.severity).to_owned(),
            log.map_or_else(none, |log| name_of(log).to_owned()),
            finding.leaf.map_or_else(none, |leaf| leaf.to_string()),
            finding.time.map_or_else(none, time::utc),
            finding.name.clone().or_else(|| finding.subject.as_deref().map(short)).unwrap_or_else(none),
            finding.epoch.map_or_else(none, |epoch| epoch.to_string()),
            finding.text.clone(),
        ]);
    }
    if is_empty { String::new() } else { table.to_text() }
}

/// What a finding of a severity means.
fn meaning(severity: Verdict) -> &'static str {
    match severity {
        Verdict::Clean => "notice",
        Verdict::Findings => "rule broken",
        Verdict::Incomplete => "incomplete",
        Verdict::Tampering => "tampering",
    }
}

/// A log by the name of its organisation, or its id while that is not proven.
fn name_of(log: &LogReport) -> &str {
    if log.org_name.is_empty() { &log.org } else { &log.org_name }
}

fn short(id: &str) -> String {
    id.chars().take(10).collect()
}
