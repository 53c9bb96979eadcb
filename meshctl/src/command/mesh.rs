//! `meshctl mesh`.

mod create;
mod draft;
mod sign;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use meshd_api::Body;
use serde::{Deserialize, Serialize};

use super::{Daemon, online};
use crate::failure::Failure;
use crate::founding::Founding;
use crate::output::Form;

pub use create::public_keys;

/// Found a mesh, alone or with other organisations.
#[derive(Debug, Subcommand)]
pub enum Mesh {
    /// Found a mesh and make this host its first node, or that of one more founder.
    Create(create::Create),
    /// Write down what several organisations are to agree on, for each root to sign.
    Draft(draft::Draft),
    /// Sign a draft with the root key of one of its organisations.
    Sign(sign::Sign),
}

impl Mesh {
    /// Does what was typed.
    pub fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        match self {
            Self::Create(create) => online(create.run(daemon)),
            Self::Draft(draft) => draft.run(daemon.form),
            Self::Sign(sign) => sign.run(daemon.form),
        }
    }
}

/// A founding file as programs see it.
#[derive(Debug, Serialize, Deserialize)]
struct Drafted {
    mesh: String,
    id: String,
    file: PathBuf,
    founders: Vec<DraftedFounder>,
}

/// One founder in it.
#[derive(Debug, Serialize, Deserialize)]
struct DraftedFounder {
    name: String,
    id: String,
    prefix4: String,
    signed: bool,
}

impl Body for Drafted {
    const SCHEMA: &'static str = "meshctl.draft/1";
}

/// Prints what a founding file says.
fn print(form: Form, founding: &Founding, file: &Path) -> Result<(), Failure> {
    let founders =
        founding.founders.iter().zip(founding.prefixes()).map(|(founder, prefix4)| DraftedFounder {
            name: founder.root.name.clone(),
            id: founder.org.to_string(),
            prefix4,
            signed: founding.has_signed(founder),
        });
    let drafted = Drafted {
        mesh: founding.genesis.name.clone(),
        id: founding.mesh().to_string(),
        file: file.to_owned(),
        founders: founders.collect(),
    };
    form.own(drafted, |_| founding.summary())
}
