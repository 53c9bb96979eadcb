//! The four keys of a steward, those that follow them, and the files that keep both.

use std::path::Path;

use meshd_trust::SigningKey;
use meshd_trust::founding::StewardPublicKeys;
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::StewardError;
use crate::generations::{Generations, GenerationsError};
use crate::stored::{self, Stored, StoredError};
use crate::tls::{RawKey, TlsSetupError};

/// Seeds of a steward's keys, one purpose each.
#[derive(Clone, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(array)]
pub struct StewardSeeds {
    #[n(0)]
    format: u8,
    #[cbor(n(1), with = "minicbor::bytes")]
    record: [u8; 32],
    #[cbor(n(2), with = "minicbor::bytes")]
    log: [u8; 32],
    #[cbor(n(3), with = "minicbor::bytes")]
    witness: [u8; 32],
    #[cbor(n(4), with = "minicbor::bytes")]
    tls: [u8; 32],
}

impl StewardSeeds {
    /// Random bytes that they are made of.
    pub const RANDOM_LEN: usize = 128;

    /// Makes seeds of random bytes.
    pub fn new(random: &[u8; Self::RANDOM_LEN]) -> Self {
        let mut seeds =
            Self { format: Self::FORMAT, record: [0; 32], log: [0; 32], witness: [0; 32], tls: [0; 32] };
        for (seed, bytes) in [&mut seeds.record, &mut seeds.log, &mut seeds.witness, &mut seeds.tls]
            .into_iter()
            .zip(random.chunks_exact(32))
        {
            seed.copy_from_slice(bytes);
        }
        seeds
    }

    /// Key that signs records.
    pub(super) fn record(&self) -> SigningKey {
        SigningKey::from_seed(self.record)
    }

    /// Key that signs checkpoints of the log.
    pub(super) fn log(&self) -> SigningKey {
        SigningKey::from_seed(self.log)
    }

    /// Key that cosigns checkpoints of other logs.
    pub(super) fn witness(&self) -> SigningKey {
        SigningKey::from_seed(self.witness)
    }

    /// Public halves, for the root to delegate to.
    pub(super) fn public_keys(&self) -> StewardPublicKeys {
        StewardPublicKeys {
            record: self.record().public(),
            log: self.log().public(),
            witness: self.witness().public(),
            tls: SigningKey::from_seed(self.tls).public(),
        }
    }

    /// Key of the TLS server.
    pub(super) fn tls(&self) -> Result<RawKey, TlsSetupError> {
        RawKey::from_seed(&self.tls)
    }

    /// Reads the file, if it exists.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, StewardError> {
        let (_file, seeds) = stored::open(dir)?;
        Ok(seeds)
    }

    /// Writes the file; when this returns, it is on disk.
    pub(super) fn store(&self, dir: &Path) -> Result<(), StewardError> {
        let (mut file, _before) = stored::open::<Self>(dir)?;
        Ok(stored::write(&mut file, self)?)
    }
}

impl Stored for StewardSeeds {
    const NAME: &'static str = "keys";
    const FORMAT: u8 = 1;

    fn format(&self) -> u8 {
        self.format
    }
}

/// Keys that the root has not delegated to yet, in a file of their own until it has.
#[derive(Encode, Decode)]
#[cbor(transparent)]
pub(super) struct NextSeeds(StewardSeeds);

impl NextSeeds {
    pub(super) fn new(random: &[u8; StewardSeeds::RANDOM_LEN]) -> Self {
        Self(StewardSeeds::new(random))
    }

    /// Public halves, for the root to delegate to.
    pub(super) fn public_keys(&self) -> StewardPublicKeys {
        self.0.public_keys()
    }

    /// Reads the file, if it exists and holds others than those in use. A damaged one is put aside: others can be made.
    pub(super) fn load(dir: &Path, in_use: &StewardSeeds) -> Result<Option<Self>, StewardError> {
        let next = match stored::open::<Self>(dir) {
            Ok((_file, next)) => next,
            Err(
                error @ (StoredError::Decode { .. } | StoredError::File(GenerationsError::Damaged { .. })),
            ) => {
                let error = crate::chain::of(&error);
                tracing::error!(
                    error,
                    "the next keys of the steward are put aside in `next-keys.*.damaged`; if the root has delegated to \
                     them already, it has to do so once more"
                );
                Generations::set_aside(dir, Self::NAME)?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        match next {
            Some(next) if next.public_keys() == in_use.public_keys() => {
                // They had just taken office: a copy of those before may be left.
                in_use.store(dir)?;
                Generations::forget(dir, Self::NAME)?;
                Ok(None)
            }
            next => Ok(next),
        }
    }

    /// Writes the file; when this returns, it is on disk.
    pub(super) fn store(&self, dir: &Path) -> Result<(), StewardError> {
        let (mut file, _before) = stored::open::<Self>(dir)?;
        Ok(stored::write(&mut file, self)?)
    }

    /// The seeds.
    pub(super) fn seeds(&self) -> &StewardSeeds {
        &self.0
    }

    /// Puts them in the place of those in use. A crash in between leaves them in both, which [`Self::load`] tidies up.
    pub(super) fn take_office(&self, dir: &Path) -> Result<StewardSeeds, StewardError> {
        match self.0.store(dir) {
            // From here on the others are gone.
            Ok(()) => {
                if let Err(error) = Generations::forget(dir, Self::NAME) {
                    tracing::warn!(
                        error = crate::chain::of(&error),
                        "the file of the next keys can't be removed"
                    );
                }
            }
            // They count if a start would find them now. Whether they outlive the power is not known, so both files stay.
            Err(error) => match StewardSeeds::load(dir) {
                Ok(Some(stored)) if stored.public_keys() == self.public_keys() => {}
                Ok(_) | Err(_) => return Err(error),
            },
        }
        Ok(self.0.clone())
    }
}

impl Stored for NextSeeds {
    const NAME: &'static str = "next-keys";
    const FORMAT: u8 = StewardSeeds::FORMAT;

    fn format(&self) -> u8 {
        self.0.format
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_were_stored_by_the_first_release_are_read() {
        let dir = tempfile::tempdir().expect("directory");
        let (mut file, _) = Generations::open(dir.path(), "keys").expect("opens");
        // An array of the format and four seeds of 32 bytes.
        let mut bytes = vec![0x85, 1];
        for seed in 1..=4 {
            bytes.extend([0x58, 32]);
            bytes.extend([seed; 32]);
        }
        file.write(&bytes).expect("writes");

        let read = StewardSeeds::load(dir.path()).expect("reads").expect("keys");
        assert_eq!(read.record().public(), SigningKey::from_seed([1; 32]).public());
        assert_eq!(read.public_keys().tls, SigningKey::from_seed([4; 32]).public());
        read.store(dir.path()).expect("stores");
        let (_, stored) = Generations::open(dir.path(), "keys").expect("opens");
        assert_eq!(stored.as_deref(), Some(&bytes), "and so they are written");
    }
}
