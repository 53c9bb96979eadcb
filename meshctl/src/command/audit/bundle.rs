//! `meshctl audit bundle`.

use std::path::PathBuf;

use clap::Args;
use meshd_api::{Body, Exit};
use meshd_audit::{Chain, LogSource, Verdict, audit, write_bundle};
use serde::{Deserialize, Serialize};

use super::source::{Opened, Source, progress};
use super::{bad_bundle, unreadable};
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
        let terms = self.source.directory_terms();
        let log = || LogSource { org, files: &files, sealed: None };
        let shown = self.out.display().to_string();
        let bytes =
            write_bundle(again(&chain)?, &[log()], terms.at).map_err(|error| bad_bundle(&shown, &error))?;
        let report = audit(chain, &[log()], &terms, &mut progress()).map_err(|error| unreadable(&error))?;
        file::write_new(&self.out, &bytes, Readers::All)?;
        let made = Made {
            file: self.out,
            mesh: report.mesh.clone(),
            bytes: bytes.len() as u64,
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

/// The chain once more: writing a bundle and auditing it each take one.
fn again(chain: &Chain) -> Result<Chain, Failure> {
    let wrong =
        |error: &dyn std::error::Error| Failure::new(Exit::Failed, "can't copy the chain").because(error);
    let envelopes = chain.in_order();
    let framed =
        meshd_audit::write_frames(envelopes.iter().map(Vec::as_slice)).map_err(|error| wrong(&error))?;
    Chain::read(&framed, Some(chain.mesh())).map_err(|error| wrong(&error))
}
