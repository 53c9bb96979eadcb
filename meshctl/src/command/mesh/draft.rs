//! `meshctl mesh draft`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use meshd_api::Exit;
use meshd_trust::founding::{Founder as FounderTerms, FoundingTerms, genesis};

use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::founding::{Founder, Founding};
use crate::name::Name;
use crate::output::{self, Form};
use crate::prefix::{ParsePrefixError, Prefix4};
use crate::{root_key, time};

/// Write down what several organisations are to agree on, for each root to sign.
#[derive(Debug, Args)]
pub struct Draft {
    /// Name of the mesh.
    name: Name,
    /// Public root of an organisation and its IPv4 prefix; once for each organisation.
    #[arg(long = "org", value_name = "FILE=PREFIX", required = true)]
    orgs: Vec<Part>,
    /// File for the draft; NAME.draft if none is given. Never overwritten.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Allow second-scale key changes; for laboratories only.
    #[arg(long)]
    lab: bool,
}

/// `FILE=PREFIX`.
#[derive(Debug, Clone)]
struct Part {
    root: PathBuf,
    prefix: Prefix4,
}

/// Reports a text that is not `FILE=PREFIX`.
#[derive(Debug, Clone, thiserror::Error)]
enum ParsePartError {
    #[error("expected FILE=PREFIX, such as uva.root=10.91.0.0/16")]
    Shape,
    #[error(transparent)]
    Prefix(#[from] ParsePrefixError),
}

impl FromStr for Part {
    type Err = ParsePartError;

    fn from_str(text: &str) -> Result<Self, ParsePartError> {
        match text.rsplit_once('=') {
            Some((root, prefix)) if !root.is_empty() => {
                Ok(Self { root: root.into(), prefix: prefix.parse()? })
            }
            Some(_) | None => Err(ParsePartError::Shape),
        }
    }
}

impl Draft {
    /// Reads the roots and writes the draft.
    pub fn run(self, form: Form) -> Result<(), Failure> {
        let path = self.out.unwrap_or_else(|| PathBuf::from(format!("{}.draft", self.name)));
        file::absent(&path)?;
        let mut founders = Vec::new();
        let mut terms = Vec::new();
        for (subnet6, part) in (1..=u16::MAX).zip(&self.orgs) {
            let founder = Founder::read(&part.root)?;
            terms.push(FounderTerms { org: founder.org, prefix4: part.prefix.to_wire(), subnet6 });
            founders.push(founder);
        }
        let genesis = genesis(&FoundingTerms {
            name: self.name.into(),
            nonce: root_key::random_bytes()?,
            lab: self.lab,
            founders: terms,
            now: time::now(),
        })
        .map_err(|error| Failure::new(Exit::Usage, "can't draft this mesh").because(&error))?;
        // The genesis has its own order of founders.
        founders.sort_by_key(|founder| founder.org);
        let founding = Founding::new(genesis, founders);
        file::write_new(&path, founding.to_text().as_bytes(), Readers::All)?;
        super::print(form, &founding, &path)?;
        output::talk(&format!(
            "compare the ids with the other organisations; then each signs: meshctl mesh sign {} --root-key FILE",
            path.display()
        ));
        Ok(())
    }
}
