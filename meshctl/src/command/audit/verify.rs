//! `meshctl audit verify`.

use clap::Args;
use meshd_audit::{Report, Verdict};

use super::source::Source;
use super::{Whole, findings, name_of};
use crate::failure::Failure;
use crate::output::Form;
use crate::table::{Facts, Table};
use crate::time;

/// Verify everything: signatures, tree, tiles, records, and the rules of keys.
#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    source: Source,
}

impl Verify {
    /// Audits and prints.
    pub fn run(self, form: Form) -> Result<Verdict, Failure> {
        print(form, self.source.report()?)
    }
}

/// Prints a whole audit.
pub fn print(form: Form, report: Report) -> Result<Verdict, Failure> {
    let verdict = report.verdict;
    form.own(Whole(report), |whole| human(&whole.0))?;
    Ok(verdict)
}

fn human(report: &Report) -> String {
    let mut facts = Facts::new();
    facts.fact("mesh", &report.mesh_name);
    facts.fact("mesh id", &report.mesh);
    if !report.is_compared {
        facts.fact("", "not compared: give the id that you know with --mesh");
    }
    facts.fact("audited", time::utc(report.at));
    facts.fact("period", time::span(report.period_s));
    facts.fact("verdict", sentence(report.verdict));
    let mut table = Table::new(&["LOG", "LEAVES", "SIGNED", "COSIGNED BY", "FIRST", "LAST", "NODES", "KEYS"]);
    for log in &report.logs {
        let none = || "-".to_owned();
        let newest = log.checkpoints.first();
        let cosigned = newest.map_or(0, |one| one.cosigned.len());
        table.row(vec![
            name_of(log).to_owned(),
            log.leaves.to_string(),
            newest.map_or_else(none, |one| one.size.to_string()),
            format!("{cosigned} of {}", report.organisations.len().saturating_sub(1)),
            log.first.map_or_else(none, time::utc),
            log.last.map_or_else(none, time::utc),
            log.nodes.len().to_string(),
            log.keys.len().to_string(),
        ]);
    }
    let roots = report.logs.iter().map(|log| format!("root of {}: {}", name_of(log), log.root));
    let mut parts = vec![facts.to_text(), table.to_text(), roots.collect::<Vec<_>>().join("\n")];
    parts.push(findings(report));
    parts.retain(|part| !part.is_empty());
    parts.join("\n\n")
}

fn sentence(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => "clean: what was signed is all there and follows the rules",
        Verdict::Findings => "findings: what was signed is all there, but breaks rules",
        Verdict::Incomplete => "incomplete: something could not be seen",
        Verdict::Tampering => "TAMPERING: something is not what was signed",
    }
}
