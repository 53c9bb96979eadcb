//! `meshctl mesh sign`.

use std::path::PathBuf;

use clap::Args;
use meshd_api::Exit;
use meshd_trust::founding::sign_genesis;

use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::founding::Founding;
use crate::output::{self, Form};
use crate::root_key::{self, Passphrase};

/// Sign a draft with the root key of one of its organisations.
#[derive(Debug, Args)]
pub struct Sign {
    /// The draft; its text gets the signature.
    draft: PathBuf,
    /// File with the secret root key.
    #[arg(long, value_name = "FILE")]
    root_key: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Write the signed draft to another file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Sign {
    /// Adds the signature.
    pub fn run(self, form: Form) -> Result<(), Failure> {
        let mut founding = Founding::read(&[&self.draft])?;
        let key = root_key::open(&self.root_key, &self.passphrase)?;
        founding.own(&key, &self.root_key)?;
        sign_genesis(&mut founding.envelope, &key)
            .map_err(|error| Failure::new(Exit::Refused, "can't sign this draft").because(&error))?;
        let path = self.out.unwrap_or(self.draft);
        file::write_over(&path, founding.to_text().as_bytes(), Readers::All)?;
        super::print(form, &founding, &path)?;
        if founding.unsigned().next().is_none() {
            output::talk(
                "every organisation has signed; on the first host of each: meshctl mesh create --genesis FILE",
            );
        }
        Ok(())
    }
}
