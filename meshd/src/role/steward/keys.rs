//! The four keys of a steward and the file that keeps them.

use std::path::Path;

use meshd_trust::SigningKey;
use meshd_trust::founding::StewardPublicKeys;
use meshd_wire::cbor;
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::StewardError;
use crate::generations::Generations;
use crate::tls::{RawKey, TlsSetupError};

/// Name of the file in the steward's directory.
const FILE: &str = "keys";
/// Format of the file.
const FORMAT: u8 = 1;

/// Seeds of a steward's keys, one purpose each.
#[derive(Encode, Decode, Zeroize, ZeroizeOnDrop)]
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
    /// Makes seeds of 128 random bytes.
    pub fn new(random: &[u8; 128]) -> Self {
        let mut seeds =
            Self { format: FORMAT, record: [0; 32], log: [0; 32], witness: [0; 32], tls: [0; 32] };
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

    /// Public halves, for the root to delegate to.
    pub(super) fn public_keys(&self) -> StewardPublicKeys {
        StewardPublicKeys {
            record: self.record().public(),
            log: SigningKey::from_seed(self.log).public(),
            witness: SigningKey::from_seed(self.witness).public(),
            tls: SigningKey::from_seed(self.tls).public(),
        }
    }

    /// Key of the TLS server.
    pub(super) fn tls(&self) -> Result<RawKey, TlsSetupError> {
        RawKey::from_seed(&self.tls)
    }

    /// Reads the file, if it exists.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, StewardError> {
        let (_file, bytes) = Generations::open(dir, FILE)?;
        let Some(bytes) = bytes else { return Ok(None) };
        let seeds: Self = cbor::decode(&bytes).map_err(StewardError::Keys)?;
        if seeds.format == FORMAT {
            return Ok(Some(seeds));
        }
        let error = format!("format {} of the steward's keys", seeds.format);
        Err(StewardError::Keys(meshd_wire::DecodeError::Malformed(error)))
    }

    /// Writes the file; when this returns, it is on disk.
    pub(super) fn store(&self, dir: &Path) -> Result<(), StewardError> {
        let (mut file, _before) = Generations::open(dir, FILE)?;
        Ok(file.write(&Zeroizing::new(cbor::encode(self)))?)
    }
}
