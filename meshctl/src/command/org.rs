//! `meshctl org`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use meshd_api::{Body, Exit};
use meshd_trust::founding;
use serde::{Deserialize, Serialize};

use crate::armour::{self, Content};
use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::name::Name;
use crate::output::{self, Form};
use crate::root_key::{self, NewPassphrase};
use crate::time;

/// Make the root of an organisation.
#[derive(Debug, Subcommand)]
pub enum Org {
    /// Make a root key and the public root of an organisation, without talking to any daemon.
    Create(Create),
}

impl Org {
    /// Does what was typed.
    pub fn run(self, form: Form) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(form),
        }
    }
}

/// Make a root key and the public root of an organisation, without talking to any daemon.
#[derive(Debug, Args)]
pub struct Create {
    /// Name of the organisation.
    name: Name,
    /// File for the secret root key; NAME.root.key if none is given. Never overwritten.
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// File for the public root; NAME.root if none is given. Never overwritten.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: NewPassphrase,
}

/// What was made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    name: String,
    id: String,
    root_key_file: PathBuf,
    root_file: PathBuf,
}

impl Body for Made {
    const SCHEMA: &'static str = "meshctl.organisation/1";
}

impl Create {
    fn run(self, form: Form) -> Result<(), Failure> {
        let root_key_file = self.root_key.unwrap_or_else(|| root_key::default_file(&self.name));
        let root_file = self.out.unwrap_or_else(|| PathBuf::from(format!("{}.root", self.name)));
        if root_key_file == root_file {
            return Err(Failure::new(Exit::Usage, "the secret key and the public root can't be one file"));
        }
        file::absent(&root_key_file)?;
        file::absent(&root_file)?;
        let passphrase = self.passphrase.read()?;
        let key = root_key::random()?;
        let (org, root) = founding::org_root(&self.name.to_string(), &[&key], 1, time::now())
            .map_err(|error| Failure::new(Exit::Usage, "can't make this organisation").because(&error))?;
        root_key::write(&root_key_file, &key, passphrase.as_deref())?;
        let text = armour::write(Content::OrgRoot, &root.to_bytes());
        if let Err(failure) = file::write_new(&root_file, text.as_bytes(), Readers::All) {
            // Nothing was signed with the key but a root that nobody has seen.
            file::remove(&root_key_file);
            return Err(failure);
        }
        let warning = root_key::warning(&root_key_file);
        let made = Made { name: self.name.into(), id: org.to_string(), root_key_file, root_file };
        form.own(made, |made| {
            format!("organisation {}\nid {}\npublic root in {}", made.name, made.id, made.root_file.display())
        })?;
        output::talk(&warning);
        Ok(())
    }
}
