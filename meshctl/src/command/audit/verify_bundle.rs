//! `meshctl audit verify-bundle`.

use std::path::PathBuf;

use clap::Args;
use meshd_audit::Verdict;
use meshd_wire::MeshId;

use super::source::{Period, audit_bundle};
use super::verify;
use crate::failure::Failure;
use crate::output::Form;

/// Verify such a file, by the id of the mesh alone.
#[derive(Debug, Args)]
pub struct VerifyBundle {
    /// The bundle.
    file: PathBuf,
    /// Id of the mesh as you know it, by another way than the bundle came.
    #[arg(long, value_name = "ID")]
    mesh: MeshId,
    #[command(flatten)]
    period: Period,
}

impl VerifyBundle {
    /// Audits and prints.
    pub fn run(self, form: Form) -> Result<Verdict, Failure> {
        verify::print(form, audit_bundle(&self.file, Some(self.mesh), &self.period)?)
    }
}
