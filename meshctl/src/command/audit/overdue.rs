//! `meshctl audit overdue`.

use clap::Args;
use meshd_api::Body;
use meshd_audit::{KeyReport, Report, Verdict};
use serde::{Deserialize, Serialize};

use super::key;
use super::source::Source;
use crate::failure::Failure;
use crate::output::Form;
use crate::time;

/// Codes that are about the time that a key is used or kept.
const LATE: [&str; 3] = ["OVERDUE", "UNDESTROYED", "DORMANT"];

/// Show the keys in use and how long each has been, the oldest first.
#[derive(Debug, Args)]
pub struct Overdue {
    #[command(flatten)]
    source: Source,
}

/// Keys as programs see them.
#[derive(Debug, Serialize, Deserialize)]
struct Ages {
    verdict: Verdict,
    period_s: u64,
    /// Keys in use, the oldest first.
    in_use: Vec<KeyReport>,
    /// Keys that ever were used or kept for too long.
    late: Vec<KeyReport>,
}

impl Body for Ages {
    const SCHEMA: &'static str = "meshctl.audit-ages/1";
}

impl Overdue {
    /// Audits and prints.
    pub fn run(self, form: Form) -> Result<Verdict, Failure> {
        let report = self.source.report()?;
        let verdict = report.verdict;
        form.own(ages(report), |ages| {
            let mut text = format!(
                "in use, to be replaced every {}:\n{}",
                time::span(ages.period_s),
                key::table(&ages.in_use)
            );
            if ages.late.is_empty() {
                text.push_str("\n\nno key was ever used or kept for too long");
            } else {
                text.push_str(&format!("\n\nused or kept for too long:\n{}", key::table(&ages.late)));
            }
            text
        })?;
        Ok(verdict)
    }
}

fn ages(report: Report) -> Ages {
    let (verdict, period_s) = (report.verdict, report.period_s);
    let keys: Vec<KeyReport> = report.logs.into_iter().flat_map(|log| log.keys).collect();
    let mut in_use: Vec<KeyReport> = keys.iter().filter(|key| key.state() == "in use").cloned().collect();
    in_use.sort_by_key(|key| key.active_from);
    let is_late = |key: &KeyReport| key.exceptions.iter().any(|code| LATE.contains(&code.as_str()));
    Ages { verdict, period_s, in_use, late: keys.into_iter().filter(is_late).collect() }
}
