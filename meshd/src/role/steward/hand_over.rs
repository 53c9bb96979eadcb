//! The keys that follow those of this steward: made, delegated to by the root, and then in office.
//!
//! Before the ones in use are destroyed, the next ones vouch for what these have signed and others go on from: the newest
//! checkpoint of the log, and the cosignatures of other logs. What only the root's word holds together, certificates and
//! revocations, is signed anew afterwards, so that nothing hangs on the keys before.

use std::fs;
use std::io;

use meshd_trust::Roster;
use meshd_trust::founding::StewardPublicKeys;
use meshd_trust::log::{Checkpoint, NOTE_BYTES_MAX, Note};
use meshd_wire::record::StewardDelegation;
use meshd_wire::{OrgId, Timestamp};
use zeroize::Zeroizing;

use super::entry::{Admitted, Station};
use super::keys::NextSeeds;
use super::logging::signer;
use super::{Declined, LogError, Steward, StewardError, StewardSeeds};
use crate::whole_file::{FileError, read, replace};

/// Reports next keys that can't take office.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The keys can't be stored.
    #[error(transparent)]
    Keys(#[from] StewardError),
    /// What the keys before have signed can't be signed by the next ones.
    #[error("sign with the next keys")]
    Log(#[from] LogError),
    /// The log would not open any more without the keys in use.
    #[error("the audit log can't be opened")]
    NoLog,
}

impl Steward {
    /// Public halves of the keys that follow, made of random bytes if there are none yet.
    pub fn next_keys(
        &mut self,
        random: &Zeroizing<[u8; StewardSeeds::RANDOM_LEN]>,
    ) -> Result<StewardPublicKeys, StewardError> {
        if let Some(next) = &self.next {
            return Ok(next.public_keys());
        }
        let next = NextSeeds::new(random);
        next.store(&self.dir)?;
        let keys = next.public_keys();
        self.next = Some(next);
        Ok(keys)
    }

    /// Whether these are the keys that follow.
    pub fn awaits(&self, keys: &StewardPublicKeys) -> bool {
        self.next.as_ref().is_some_and(|next| next.public_keys() == *keys)
    }

    /// Whether the next keys can take office, as far as that can be told before anybody has heard of them.
    pub fn is_ready(&mut self) -> Result<(), HandOverError> {
        self.open_log();
        self.log.as_ref().map(drop).ok_or(HandOverError::NoLog)
    }

    /// Lets the next keys take office, if the root has delegated to them last. Tells whether it did.
    pub fn hand_over(&mut self, proven: &Roster, org: &OrgId) -> Result<bool, HandOverError> {
        let newest = proven.org(org).and_then(|org| org.delegations().filter(|one| self.is_own(one)).last());
        if !newest.is_some_and(|newest| self.awaits(&newest.into())) {
            return Ok(false);
        }
        let Some(next) = self.next.take() else { return Ok(false) };
        match self.give_office(&next) {
            Ok(seeds) => {
                tracing::info!(
                    "the next keys of this steward have taken office, and those before are destroyed"
                );
                self.seeds = seeds;
                Ok(true)
            }
            Err(error) => {
                self.next = Some(next);
                Err(error)
            }
        }
    }

    /// Whether the station is what the root has made of the keys in use last.
    pub fn is_adopted(&self, proven: &Roster, org: &OrgId) -> bool {
        let keys = self.public_keys();
        let is_own = |one: &&StewardDelegation| keys == (*one).into();
        let newest = proven.org(org).and_then(|org| org.delegations().filter(is_own).last());
        newest.zip(self.station.as_ref()).is_none_or(|(newest, station)| {
            let of = (newest.root_version, newest.not_before, newest.not_after);
            of == (station.root_version, station.not_before, station.not_after)
        })
    }

    /// Whether a delegation names keys of this steward, in use or next.
    fn is_own(&self, delegation: &StewardDelegation) -> bool {
        let keys = StewardPublicKeys::from(delegation);
        keys == self.public_keys() || self.awaits(&keys)
    }

    fn give_office(&mut self, next: &NextSeeds) -> Result<StewardSeeds, HandOverError> {
        self.open_log();
        let log = self.log.as_mut().ok_or(HandOverError::NoLog)?;
        log.countersign(&next.seeds().log())?;
        self.cosign_with(next)?;
        let seeds = next.take_office(&self.dir)?;
        if let Some(log) = &mut self.log {
            log.sign_with(seeds.log());
        }
        Ok(seeds)
    }

    /// Cosigns with the next key what was cosigned last of each log.
    fn cosign_with(&self, next: &NextSeeds) -> Result<(), LogError> {
        let Some(own) = self.own_origin() else { return Ok(()) };
        let (name, before, key) = (own.to_string(), self.seeds.witness().public(), next.seeds().witness());
        let dir = self.witnessed_dir();
        let files = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            files => files.map_err(|source| FileError::new("list", &dir, source))?,
        };
        for path in files.flatten().map(|file| file.path()) {
            let bytes =
                read(&path, NOTE_BYTES_MAX).map_err(|source| FileError::new("read", &path, source))?;
            // One that can't be believed stays as it is: somebody has to look at it anyway.
            let Ok(mut note) = Note::from_bytes(&bytes) else { continue };
            let Ok(Some(at)) = note.cosigned_by(&name, &before) else { continue };
            let Ok(checkpoint) = note.text().parse::<Checkpoint>() else { continue };
            if note.signatures().iter().any(|one| one.is_of_witness(&name, &key.public())) {
                continue;
            }
            let signature = checkpoint.cosign(own.org, &key, at);
            note.add(signature).map_err(|source| LogError::Note { path: path.clone(), source })?;
            replace(&path, note.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Certificates that this steward has given and a roster does not have: an end may have come in between.
    pub fn certs_newer_than(&self, known: &Roster, now: Timestamp) -> Result<Vec<Vec<u8>>, Declined> {
        let Some(station) = &self.station else { return Ok(Vec::new()) };
        let mut nodes = self.book.nodes()?;
        nodes.retain(|node| {
            let serial = known.node(&node.cert.node).map(|view| view.cert().serial);
            serial.is_some_and(|serial| serial < node.cert.serial) && self.is_good(station, node, now)
        });
        Ok(nodes.into_iter().map(|node| node.envelope).collect())
    }

    /// Whether a certificate is neither over nor taken back, by anybody.
    fn is_good(&self, station: &Station, node: &Admitted, now: Timestamp) -> bool {
        let (id, subject) = (&node.cert.node, node.cert.node.into());
        let is_out = node.revoked_at.is_some()
            || self.is_taken_back(station, id)
            || self.log.as_ref().is_some_and(|log| log.has_revoked(&subject));
        !is_out && node.cert.not_after >= now
    }

    /// Signs anew what keys before have signed and is still in force. Gives what the mesh must hear, in order.
    pub fn sign_anew(&mut self, now: Timestamp) -> Result<Vec<Vec<u8>>, Declined> {
        let Some(station) = &self.station else { return Ok(Vec::new()) };
        let own = self.seeds.record().key_id();
        let is_old = |envelope: &[u8]| signer(envelope).is_some_and(|signer| signer != own);
        let revocations = match self.book.revocations()? {
            Some(signed) => is_old(&signed.envelope),
            // A book from a backup may have forgotten whom the mesh has not.
            None => !self.nodes_taken_back(station).is_empty(),
        };
        let mut certs = self.book.nodes()?;
        certs.retain(|node| self.is_good(station, node, now) && is_old(&node.envelope));
        if !revocations && certs.is_empty() {
            return Ok(Vec::new());
        }
        let signed = self.book.write(|page| {
            let mut signed = Vec::with_capacity(certs.len() + 1);
            if revocations {
                signed.push(self.sign_revocations(page, station, now)?);
            }
            for node in certs {
                signed.push(self.issue(page, station, node.cert, now)?.envelope);
            }
            Ok::<_, Declined>(signed)
        })?;
        tracing::info!(records = signed.len(), "signed anew what keys before had signed");
        self.take_own(&signed.iter().map(Vec::as_slice).collect::<Vec<_>>(), now);
        Ok(signed)
    }
}

#[cfg(test)]
mod tests;
