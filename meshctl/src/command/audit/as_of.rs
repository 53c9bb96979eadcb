//! `meshctl audit as-of`.

use clap::Args;
use meshd_api::Body;
use meshd_audit::{MemberAt, Verdict};
use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::failure::Failure;
use crate::output::Form;
use crate::table::Table;
use crate::time::{self, Moment};

/// Show who was a member at a time, and with which key.
#[derive(Debug, Args)]
pub struct AsOf {
    /// The time, in UTC: 2026-11-21, 2026-11-21T04:30:16Z or seconds since 1970.
    time: Moment,
    #[command(flatten)]
    source: Source,
}

/// Members as programs see them.
#[derive(Debug, Serialize, Deserialize)]
struct Members {
    verdict: Verdict,
    time: u64,
    members: Vec<MemberAt>,
}

impl Body for Members {
    const SCHEMA: &'static str = "meshctl.audit-members/1";
}

impl AsOf {
    /// Audits and prints.
    pub fn run(self, form: Form) -> Result<Verdict, Failure> {
        let report = self.source.report()?;
        let members = report.logs.iter().flat_map(|log| log.members_at(self.time.0)).collect();
        form.own(Members { verdict: report.verdict, time: self.time.0, members }, human)?;
        Ok(report.verdict)
    }
}

fn human(members: &Members) -> String {
    let at = time::utc(members.time);
    if members.members.is_empty() {
        return format!("nobody was a member at {at}");
    }
    let mut table = Table::new(&["ORGANISATION", "NODE", "ADDRESS", "EPOCH", "KEY", "ID"]);
    for member in &members.members {
        let none = || "-".to_owned();
        table.row(vec![
            member.org.clone(),
            member.name.clone(),
            member.addr4.clone(),
            member.epoch.map_or_else(none, |epoch| epoch.to_string()),
            member.key.clone().unwrap_or_else(none),
            member.node.clone(),
        ]);
    }
    format!("members at {at}:\n{}\nverdict of the whole audit: {}", table.to_text(), members.verdict.word())
}
