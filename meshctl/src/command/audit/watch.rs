//! `meshctl audit watch`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clap::Args;
use meshd_api::{Body, Document, Exit};
use meshd_audit::{FindingReport, Grown, Growth, LeafReport, Report, Verdict};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, sleep_until};

use super::source::{Opened, Source};
use super::{meaning, short, unreadable};
use crate::command::{Daemon, online};
use crate::duration::Typed;
use crate::failure::Failure;
use crate::log_dir::LogDir;
use crate::output::{self, Form};
use crate::time;

/// How often the whole log is audited although nothing was appended: keys become too old by time alone.
const IDLE_AUDIT: Duration = Duration::from_secs(60);
/// Of the time, audits of the whole log take no more than one part in this and one.
const REST_PER_AUDIT: u32 = 9;
/// Shortest time between two looks.
const LOOK_MIN: Duration = Duration::from_millis(10);

/// Follow a log as it grows, and verify each new checkpoint.
#[derive(Debug, Args)]
pub struct Watch {
    /// End after this span; 0s looks once.
    #[arg(long = "for", value_name = "SPAN")]
    span: Option<Typed>,
    /// Look for a new checkpoint this often.
    #[arg(long, value_name = "SPAN", default_value = "1s")]
    every: Typed,
    #[command(flatten)]
    source: Source,
}

/// A line as programs see it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line {
    /// What is watched, and how it is at first.
    Begin { mesh: String, log: String, name: String, leaves: u64, root: String, verdict: Verdict },
    /// A new leaf.
    Leaf {
        log: String,
        name: Option<String>,
        #[serde(flatten)]
        leaf: LeafReport,
    },
    /// A finding that was not there before.
    Finding {
        log: Option<String>,
        #[serde(flatten)]
        finding: FindingReport,
    },
    /// How it ended.
    End { leaves: u64, verdict: Verdict },
}

impl Body for Line {
    const SCHEMA: &'static str = "meshctl.audit-watch/1";
}

impl Watch {
    /// Watches, and gives the verdict at the end.
    pub fn run(self, daemon: &Daemon) -> Result<Verdict, Failure> {
        let Opened { chain, org, files } = self.source.open()?;
        let mut watcher = Watcher {
            form: daemon.form,
            source: &self.source,
            growth: Growth::new(chain, org),
            files,
            log: org.to_string(),
            names: BTreeMap::new(),
            told: BTreeSet::new(),
            seen: Verdict::Clean,
            audited: Verdict::Clean,
            is_stale: false,
            audited_at: Instant::now(),
            took: Duration::ZERO,
        };
        online(async {
            let until = self.span.map(|span| tokio::time::Instant::now() + span.0);
            let mut ends = Ends::watch()?;
            watcher.begin()?;
            while !watcher.is_over() {
                tokio::select! {
                    biased;
                    () = ends.come() => break,
                    () = sleep_until(until.unwrap_or_else(tokio::time::Instant::now)), if until.is_some() => break,
                    () = sleep(self.every.0.max(LOOK_MIN)) => {}
                }
                watcher.go_on()?;
            }
            watcher.end()
        })
    }
}

/// What tells the program to end.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    fn watch() -> Result<Self, Failure> {
        let failed = |error| Failure::new(Exit::Failed, "can't wait for signals").because(&error);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    async fn come(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A watch under way.
struct Watcher<'s> {
    form: Form,
    source: &'s Source,
    growth: Growth,
    files: LogDir,
    /// Organisation whose log it is.
    log: String,
    /// Names of nodes and organisations.
    names: BTreeMap<String, String>,
    /// Findings that were printed.
    told: BTreeSet<String>,
    /// What the growth of the log means so far.
    seen: Verdict,
    /// What the last audit said.
    audited: Verdict,
    /// The log has grown since.
    is_stale: bool,
    audited_at: Instant,
    took: Duration,
}

impl Watcher<'_> {
    fn begin(&mut self) -> Result<(), Failure> {
        let grown = self.look()?;
        if shows_tampering(&grown) {
            return self.tell_growth(grown);
        }
        let report = self.audit()?;
        let head = self.growth.head();
        let name = report.logs.first().map(|log| super::name_of(log).to_owned()).unwrap_or_default();
        self.print(Line::Begin {
            mesh: report.mesh.clone(),
            log: self.log.clone(),
            name,
            leaves: head.size,
            root: head.root.to_string(),
            verdict: report.verdict,
        })?;
        self.tell_growth(grown)?;
        self.tell_report(&report)
    }

    fn go_on(&mut self) -> Result<(), Failure> {
        let grown = self.look()?;
        self.is_stale |= grown.is_changed;
        // Before anything else can fail.
        if !self.audit_is_due() || shows_tampering(&grown) {
            return self.tell_growth(grown);
        }
        // It knows the names of nodes that are new, and the log may have grown since the look.
        let report = self.audit()?;
        let since = self.look()?;
        self.is_stale |= since.is_changed;
        self.tell_growth(grown)?;
        self.tell_growth(since)?;
        self.tell_report(&report)
    }

    fn look(&mut self) -> Result<Grown, Failure> {
        self.growth.look(&self.files).map_err(|error| unreadable(&error))
    }

    /// Whether to audit the whole log: when it has changed, and now and then, but only a small part of the time.
    fn audit_is_due(&self) -> bool {
        let ago = self.audited_at.elapsed();
        (self.is_stale || ago >= IDLE_AUDIT) && ago >= self.took * REST_PER_AUDIT
    }

    fn audit(&mut self) -> Result<Report, Failure> {
        let began = Instant::now();
        let mut report = self.source.report()?;
        // A file may have been replaced by a wider one while it was looked for, or be copied just now.
        if matches!(report.verdict, Verdict::Incomplete | Verdict::Tampering) {
            report = self.source.report()?;
        }
        (self.audited_at, self.took) = (Instant::now(), began.elapsed());
        (self.audited, self.is_stale) = (report.verdict, false);
        self.names = names(&report);
        Ok(report)
    }

    fn tell_report(&mut self, report: &Report) -> Result<(), Failure> {
        for (log, finding) in report.all_findings() {
            self.tell_finding(log.map(|log| log.org.clone()), finding)?;
        }
        Ok(())
    }

    fn tell_growth(&mut self, grown: Grown) -> Result<(), Failure> {
        let Grown { is_changed: _, is_whole, leaves, findings } = grown;
        // What could not be seen has come.
        if is_whole && self.seen == Verdict::Incomplete {
            self.seen = Verdict::Clean;
        }
        for leaf in leaves {
            let name = leaf.subject.as_ref().and_then(|subject| self.names.get(subject)).cloned();
            self.print(Line::Leaf { log: self.log.clone(), name, leaf })?;
        }
        for finding in &findings {
            self.seen = self.seen.max(finding.severity);
            self.tell_finding(Some(self.log.clone()), finding)?;
        }
        Ok(())
    }

    fn tell_finding(&mut self, log: Option<String>, finding: &FindingReport) -> Result<(), Failure> {
        if self.told.insert(identity(finding)) {
            self.print(Line::Finding { log, finding: finding.clone() })?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.seen.max(self.audited) == Verdict::Tampering
    }

    fn end(&mut self) -> Result<Verdict, Failure> {
        if self.is_stale && !self.is_over() {
            let report = self.audit()?;
            self.tell_report(&report)?;
        }
        let verdict = self.seen.max(self.audited);
        self.print(Line::End { leaves: self.growth.head().size, verdict })?;
        Ok(verdict)
    }

    fn print(&self, line: Line) -> Result<(), Failure> {
        match self.form {
            Form::Human => output::line(&human(&line)),
            Form::Json => {
                let json = serde_json::to_string(&Document::new(line))
                    .map_err(|error| Failure::new(Exit::Failed, "can't write JSON").because(&error))?;
                output::line(&json)
            }
        }
    }
}

fn shows_tampering(grown: &Grown) -> bool {
    grown.findings.iter().any(|finding| finding.severity == Verdict::Tampering)
}

/// What makes a finding the same as at the audit before: its sentence may count seconds.
fn identity(finding: &FindingReport) -> String {
    let FindingReport { code, severity: _, leaf, time, subject, name: _, epoch, text } = finding;
    let is_placed = leaf.is_some() || subject.is_some();
    format!("{code} {leaf:?} {time:?} {subject:?} {epoch:?} {}", if is_placed { "" } else { text })
}

/// Names of nodes and organisations by their ids.
fn names(report: &Report) -> BTreeMap<String, String> {
    let nodes = report.logs.iter().flat_map(|log| &log.nodes);
    let nodes = nodes.map(|node| (node.node.clone(), node.name.clone()));
    let orgs = report.organisations.iter().map(|org| (org.id.clone(), org.name.clone()));
    nodes.chain(orgs).filter(|(_, name)| !name.is_empty()).collect()
}

fn human(line: &Line) -> String {
    match line {
        Line::Begin { mesh: _, log: _, name, leaves, root, verdict } => {
            format!("watching the log of {name}: {leaves} leaves, root {root}, {}", verdict.word())
        }
        Line::Leaf { log: _, name, leaf } => {
            let LeafReport { index, time, kind, subject, epoch } = leaf;
            let (Some(time), Some(kind), Some(subject)) = (time, kind, subject) else {
                return format!("leaf {index}: of a newer release, or none at all");
            };
            let epoch = epoch.map(|epoch| format!(" epoch {epoch}")).unwrap_or_default();
            let name = name.clone().unwrap_or_else(|| short(subject));
            format!("{} {index} {kind} {name}{epoch}", time::utc(*time))
        }
        Line::Finding { log: _, finding } => {
            let subject = finding.name.clone().or_else(|| finding.subject.as_deref().map(short));
            let about = [subject, finding.epoch.map(|epoch| format!("epoch {epoch}"))];
            let about = about.into_iter().flatten().collect::<Vec<_>>().join(" ");
            let about = if about.is_empty() { about } else { format!("{about}: ") };
            format!("{} ({}) {about}{}", finding.code, meaning(finding.severity), finding.text)
        }
        Line::End { leaves, verdict } => format!("{leaves} leaves, verdict: {}", verdict.word()),
    }
}
