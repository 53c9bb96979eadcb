//! `meshctl audit bundle`.

use std::io;
use std::path::PathBuf;

use clap::Args;
use meshd_api::{Body, Exit};
use meshd_audit::{LogSource, Verdict, write_bundle};
use serde::{Deserialize, Serialize};

use super::source::{Opened, Source, audit_bytes, open_bundle, open_dir};
use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::output::Form;
use crate::size;

/// Put everything that an auditor needs into one file.
#[derive(Debug, Args)]
pub struct Bundle {
    /// The file; never overwritten.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Directory of the log of another organisation of the mesh, to go into the bundle as well; may be repeated.
    #[arg(long, value_name = "DIR")]
    also: Vec<PathBuf>,
    #[command(flatten)]
    source: Source,
}

/// What was made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    file: PathBuf,
    mesh: String,
    bytes: u64,
    leaves: u64,
    verdict: Verdict,
}

impl Body for Made {
    const SCHEMA: &'static str = "meshctl.bundle/1";
}

impl Bundle {
    /// Writes it, and says what an audit of it gives.
    pub fn run(self, form: Form) -> Result<Verdict, Failure> {
        file::absent(&self.out)?;
        let Opened { chain, org, files } = self.source.open()?;
        let mut opened = vec![(org, files)];
        for dir in &self.also {
            let Opened { chain: _, org, files } = open_dir(dir, Some(chain.mesh()))?;
            if opened.iter().any(|(other, _)| *other == org) {
                let twice =
                    format!("{} is of an organisation whose log is in the bundle already", dir.display());
                return Err(Failure::new(Exit::Failed, twice));
            }
            opened.push((org, files));
        }
        let logs = opened.iter().map(|(org, files)| LogSource { org: *org, files, sealed: None });
        let terms = self.source.directory_terms();
        let logs: Vec<LogSource<'_>> = logs.collect();
        file::write_new_by(&self.out, Readers::All, |out| {
            write_bundle(chain, &logs, terms.at, out).map_err(io::Error::other)
        })?;
        let bytes = open_bundle(&self.out)?;
        let shown = self.out.display().to_string();
        let report =
            audit_bytes(&shown, &*bytes, None, |_| terms).inspect_err(|_| file::remove(&self.out))?;
        let made = Made {
            file: self.out,
            mesh: report.mesh.clone(),
            bytes: bytes.size(),
            leaves: report.logs.iter().map(|log| log.leaves).sum(),
            verdict: report.verdict,
        };
        form.own(made, |made| {
            format!(
                "{} leaves, {}, in {}\nverdict of an audit: {}\nverify it with: meshctl audit verify-bundle {} --mesh {}",
                made.leaves,
                size::bytes(made.bytes),
                made.file.display(),
                made.verdict.word(),
                made.file.display(),
                made.mesh
            )
        })?;
        Ok(report.verdict)
    }
}
