//! The secret root key of an organisation: a file that only its owner reads, to be kept off any host.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use meshd_api::{ClientError, Exit};
use meshd_trust::SigningKey;
use meshd_trust::root_file;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::name::Name;
use crate::{output, passphrase};

/// How to open an existing root key.
#[derive(Debug, Args)]
pub struct Passphrase {
    /// File whose first line is the passphrase of the root key; asked at the terminal when needed and not given.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// How to protect a new root key.
#[derive(Debug, Args)]
pub struct NewPassphrase {
    /// Protect the root key with the first line of a file.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
    passphrase_file: Option<PathBuf>,
    /// Protect the root key with a passphrase asked at the terminal.
    #[arg(long)]
    passphrase: bool,
}

impl NewPassphrase {
    /// Reads or asks, if a passphrase is wanted.
    pub fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        match &self.passphrase_file {
            Some(path) => passphrase::from_file(path).map(Some),
            None if self.passphrase => passphrase::ask_new().map(Some),
            None => Ok(None),
        }
    }

    /// The same options where the key exists already.
    pub fn existing(self) -> Passphrase {
        Passphrase { passphrase_file: self.passphrase_file }
    }
}

/// Where the root key of an organisation goes unless told otherwise.
pub fn default_file(org: &Name) -> PathBuf {
    PathBuf::from(format!("{org}.root.key"))
}

/// Makes a key of the system's randomness.
pub fn random() -> Result<SigningKey, Failure> {
    random_bytes().map(SigningKey::from_seed)
}

/// Draws from the system's randomness.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Exit::Failed, "no randomness").because(&error))?;
    Ok(bytes)
}

/// Writes a key to a file that must not exist yet.
pub fn write(path: &Path, key: &SigningKey, passphrase: Option<&Vec<u8>>) -> Result<(), Failure> {
    let passphrase = passphrase.map(Vec::as_slice);
    let random = Zeroizing::new(random_bytes()?);
    let text = root_file::seal(key, passphrase, &random)
        .map_err(|error| Failure::new(Exit::Usage, "can't seal the root key").because(&error))?;
    file::write_new(path, text.as_bytes(), Readers::Owner)
}

/// Reads a key, with its passphrase if it has one.
pub fn open(path: &Path, passphrase: &Passphrase) -> Result<SigningKey, Failure> {
    warn_of_readers(path);
    let text = Zeroizing::new(file::read_text(path)?);
    let given = passphrase.passphrase_file.as_deref().map(passphrase::from_file).transpose()?;
    let passphrase = match given {
        None if root_file::is_sealed(&text) => {
            Some(passphrase::ask(&format!("Passphrase of {}", path.display()))?)
        }
        given => given,
    };
    root_file::open(&text, passphrase.as_ref().map(|given| given.as_slice())).map_err(|error| {
        Failure::new(Exit::Refused, format!("can't open the root key {}", path.display())).because(&error)
    })
}

/// Keeps a new key only where the daemon may have used it. `hint` says how to find out, and names the key last.
pub fn unused(error: ClientError, path: &Path, hint: &str) -> Failure {
    match error {
        ClientError::Api(_) | ClientError::NotReachable { .. } => {
            file::remove(path);
            error.into()
        }
        ClientError::Protocol(_) | ClientError::TimedOut { .. } => {
            Failure::from(error).with_hint(format!("{hint} is in {}", path.display()))
        }
    }
}

/// What to tell whoever has just made a root key.
pub fn warning(path: &Path) -> String {
    format!(
        "the root key is in {}: move it off this host, to a safe place; who has it, owns the organisation",
        path.display()
    )
}

/// A removable disk may have no modes to set, so this is no error.
fn warn_of_readers(path: &Path) {
    if let Ok(metadata) = path.metadata()
        && metadata.permissions().mode() & 0o077 != 0
    {
        output::talk(&format!("warning: others may read the root key {}: chmod 600 it", path.display()));
    }
}
