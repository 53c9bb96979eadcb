//! `meshctl man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use meshd_api::Exit;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output;

/// Print the manual page, or write one a verb into a directory.
#[derive(Debug, Args)]
pub struct Man {
    /// Directory that gets meshctl.1 and a page a verb.
    dir: Option<PathBuf>,
}

impl Man {
    /// Prints or writes it.
    pub fn run(self) -> Result<(), Failure> {
        match self.dir {
            Some(dir) => clap_mangen::generate_to(Cli::command(), &dir).map_err(|error| {
                Failure::new(Exit::Failed, format!("can't write manual pages to {}", dir.display()))
                    .because(&error)
            }),
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(|error| {
                    Failure::new(Exit::Failed, "can't make the manual page").because(&error)
                })?;
                output::data(String::from_utf8_lossy(&page).trim_end())
            }
        }
    }
}
