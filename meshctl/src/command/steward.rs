//! `meshctl steward`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use data_encoding::BASE64;
use meshd_api::{
    Answer, ClientError, Exit, GetSteward, Signed, StewardPrepareRequest, StewardRenewRequest, StewardReply,
};
use meshd_trust::SigningKey;
use meshd_trust::founding::{self, DelegationTerms, FoundingError};
use meshd_wire::record::{OrgRoot, Roles};
use meshd_wire::{Envelope, MeshId, OrgId};

use super::mesh::public_keys;
use super::{Daemon, unbase64};
use crate::failure::Failure;
use crate::root_key::{self, Passphrase};
use crate::{file, output, passphrase, time};

/// Show and renew what the root lets this host do as a steward.
#[derive(Debug, Subcommand)]
pub enum Steward {
    /// Show until when this host may act as the steward of its organisation.
    Show,
    /// Let the root sign for another 90 days, and replace the root key if wanted.
    ///
    /// Needs the root key for a moment: bring it, renew, and take it away again. Nothing is interrupted. The keys of the
    /// steward stay, or are replaced with --new-keys: those it signs records, its log and others' logs with, and that of
    /// the registry it serves. A root is good for two years: --new-root-key makes the one that follows, signed by both.
    Renew(Renew),
}

impl Steward {
    /// Does what was typed.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let answer = match self {
            Self::Show => daemon.client.call(&GetSteward {}).await?,
            Self::Renew(renew) => renew.run(daemon).await?,
        };
        daemon.form.answer(&answer, |steward| {
            let StewardReply { org, root_version, serial, .. } = steward;
            let office = match steward.not_after {
                0 => ", not in office".to_owned(),
                until => format!(" until {}", time::utc(until)),
            };
            format!("steward of {org}{office}, root {root_version}, delegation {serial}")
        })
    }
}

/// Let the root sign for another 90 days, and replace the root key if wanted.
#[derive(Debug, Args)]
pub struct Renew {
    /// File of the secret root key.
    #[arg(long, value_name = "FILE")]
    root_key: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
    /// Replace the keys of the steward, that of its registry included. Those before are destroyed.
    #[arg(long)]
    new_keys: bool,
    /// File for a new secret root key that takes the place of the one before. Never overwritten.
    #[arg(long, value_name = "FILE")]
    new_root_key: Option<PathBuf>,
    /// Protect the new root key with the first line of a file.
    #[arg(long, value_name = "FILE", requires = "new_root_key")]
    new_passphrase_file: Option<PathBuf>,
}

impl Renew {
    async fn run(self, daemon: &Daemon) -> Result<Answer<StewardReply>, Failure> {
        let mut before = daemon.client.call(&GetSteward {}).await?.body;
        let key = root_key::open(&self.root_key, &self.passphrase)?;
        let root = newest_root(&before)?;
        if self.new_keys {
            before.keys = daemon.client.call(&StewardPrepareRequest {}).await?.body;
        }
        let Some(path) = &self.new_root_key else {
            let request = request(&before, root.root_version, None, &key)?;
            return Ok(daemon.client.call(&request).await?);
        };
        file::absent(path)?;
        let passphrase = self.new_passphrase_file.as_deref().map(passphrase::from_file).transpose()?;
        let heir = root_key::random()?;
        let next = founding::next_root(&root, &[&key], &[&heir], 1, time::now()).map_err(unsigned)?;
        let request = request(&before, root.root_version + 1, Some(&next), &heir)?;
        // Before the daemon gets what only this key can have signed.
        root_key::write(path, &heir, passphrase.as_deref())?;
        match daemon.client.call(&request).await {
            Ok(answer) => {
                output::talk(&replaced(&self.root_key, path));
                Ok(answer)
            }
            // What the daemon refuses, or fails at later, may be in force all the same.
            Err(error @ ClientError::Api(_)) => Err(Failure::from(error).with_hint(format!(
                "keep {}: `meshctl steward show` tells whether its root counts by now",
                path.display()
            ))),
            Err(error) => {
                let hint = "`meshctl steward show` tells which root counts; the new root key";
                Err(root_key::unused(error, path, hint))
            }
        }
    }
}

/// What the root signs next: the same for later.
fn request(
    before: &StewardReply,
    root_version: u32,
    root: Option<&Envelope>,
    key: &SigningKey,
) -> Result<StewardRenewRequest, Failure> {
    let mesh: MeshId = before.mesh.parse().map_err(|_| strange())?;
    let org: OrgId = before.org.parse().map_err(|_| strange())?;
    // A steward that was restored from a backup may not know the last one.
    let minutes = u32::try_from(time::now().0 / 60).unwrap_or(u32::MAX);
    let serial = before.serial.max(minutes).checked_add(1).ok_or_else(strange)?;
    let keys = public_keys(&before.keys)?;
    let terms = DelegationTerms { org, root_version, serial, keys, roles: Roles::ALL, now: time::now() };
    let delegation = founding::delegate(&terms, &mesh, &[key]).map_err(unsigned)?;
    let signed = |envelope: &Envelope| Signed(BASE64.encode(&envelope.to_bytes()));
    Ok(StewardRenewRequest { root: root.map(signed), delegation: signed(&delegation) })
}

fn newest_root(before: &StewardReply) -> Result<OrgRoot, Failure> {
    let envelope = Envelope::from_bytes(&unbase64(&before.root)?).map_err(|_| strange())?;
    envelope.record().map_err(|_| strange())
}

fn strange() -> Failure {
    Failure::new(Exit::Failed, "can't understand the daemon's answer")
}

fn unsigned(error: FoundingError) -> Failure {
    Failure::new(Exit::Failed, "can't sign for this steward").because(&error)
}

fn replaced(old: &Path, new: &Path) -> String {
    format!(
        "{}; keep {} until every node has heard of the new one, then destroy it",
        root_key::warning(new),
        old.display()
    )
}
