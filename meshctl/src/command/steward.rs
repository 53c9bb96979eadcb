//! `meshctl steward`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use data_encoding::BASE64;
use meshd_api::{Exit, GetSteward, Signed, StewardRenewRequest, StewardReply};
use meshd_trust::founding::{self, DelegationTerms};
use meshd_wire::record::Roles;
use meshd_wire::{MeshId, OrgId};

use super::Daemon;
use super::mesh::public_keys;
use crate::failure::Failure;
use crate::root_key::{self, Passphrase};
use crate::time;

/// Show and renew what the root lets this host do as a steward.
#[derive(Debug, Subcommand)]
pub enum Steward {
    /// Show until when this host may act as the steward of its organisation.
    Show,
    /// Let the root sign for another 90 days.
    ///
    /// Needs the root key for a moment: bring it, renew, and take it away again. The keys of the steward stay, and nothing
    /// is interrupted.
    Renew(Renew),
}

impl Steward {
    /// Does what was typed.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let answer = match self {
            Self::Show => daemon.client.call(&GetSteward {}).await?,
            Self::Renew(renew) => daemon.client.call(&renew.request(daemon).await?).await?,
        };
        daemon.form.answer(&answer, |steward| {
            let (until, serial) = (time::utc(steward.not_after), steward.serial);
            format!("steward of {} until {until}, delegation {serial}", steward.org)
        })
    }
}

/// Let the root sign for another 90 days.
#[derive(Debug, Args)]
pub struct Renew {
    /// File of the secret root key.
    #[arg(long, value_name = "FILE")]
    root_key: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

impl Renew {
    async fn request(self, daemon: &Daemon) -> Result<StewardRenewRequest, Failure> {
        let before = daemon.client.call(&GetSteward {}).await?.body;
        let (mesh, terms) = next(&before)?;
        let key = root_key::open(&self.root_key, &self.passphrase)?;
        let envelope = founding::delegate(&terms, &mesh, &[&key])
            .map_err(|error| Failure::new(Exit::Failed, "can't sign this delegation").because(&error))?;
        Ok(StewardRenewRequest { delegation: Signed(BASE64.encode(&envelope.to_bytes())) })
    }
}

/// What the root signs next: the same for later.
fn next(before: &StewardReply) -> Result<(MeshId, DelegationTerms), Failure> {
    let strange = || Failure::new(Exit::Failed, "can't understand the daemon's answer");
    let mesh = before.mesh.parse().map_err(|_| strange())?;
    let org: OrgId = before.org.parse().map_err(|_| strange())?;
    let serial = before.serial.checked_add(1).ok_or_else(strange)?;
    let (root_version, keys) = (before.root_version, public_keys(&before.keys)?);
    Ok((mesh, DelegationTerms { org, root_version, serial, keys, roles: Roles::ALL, now: time::now() }))
}
