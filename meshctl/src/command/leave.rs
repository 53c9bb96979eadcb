//! `meshctl leave`.

use clap::Args;
use meshd_api::LeaveRequest;

use super::Daemon;
use crate::failure::Failure;
use crate::output::{self, Form};

/// Leave the mesh and forget its keys.
#[derive(Debug, Args)]
pub struct Leave {
    /// Leave although no steward can be told, or although this is the steward.
    #[arg(long)]
    force: bool,
}

impl Leave {
    /// Leaves.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let answer = daemon.client.call(&LeaveRequest { force: self.force }).await?;
        daemon.form.answer(&answer, |left| format!("left the mesh {}", left.mesh))?;
        if !answer.body.steward_told && daemon.form == Form::Human {
            output::talk("warning: no steward was told; others keep this node until its certificate expires");
        }
        Ok(())
    }
}
