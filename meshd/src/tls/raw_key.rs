//! Ed25519 keys as TLS wants them: PKCS#8 for the secret half, SubjectPublicKeyInfo for the public half.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use meshd_wire::PublicKey;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::provider::{TlsSetupError, provider};

/// DER before the 32 bytes of an Ed25519 public key (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// DER before the 32 bytes of an Ed25519 seed (RFC 8410, section 7, PKCS#8 version 1).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// An Ed25519 key pair that speaks for this host in TLS.
#[derive(Clone)]
pub struct RawKey {
    public: PublicKey,
    certified: Arc<CertifiedKey>,
}

impl RawKey {
    /// Makes the pair of a 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, TlsSetupError> {
        let unusable = |_| rustls::Error::General("an Ed25519 seed that can't be used".into());
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(unusable)?;
        let public: [u8; 32] = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| rustls::Error::General("an Ed25519 public key of another size".into()))?;
        let mut der = Zeroizing::new(PKCS8_PREFIX.to_vec());
        der.reserve_exact(seed.len());
        der.extend_from_slice(seed);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.as_slice()));
        let signer = provider().key_provider.load_private_key(key.clone_key())?;
        let public = PublicKey(public);
        let certified = Arc::new(CertifiedKey::new(vec![spki(&public)], signer));
        Ok(Self { public, certified })
    }

    /// Public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl fmt::Debug for RawKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RawKey").field(&self.public).finish()
    }
}

/// Encodes a public key; TLS carries it in the place of a certificate.
fn spki(key: &PublicKey) -> CertificateDer<'static> {
    CertificateDer::from([&SPKI_PREFIX[..], &key.0].concat())
}

/// Reads the Ed25519 key out of a SubjectPublicKeyInfo; None for any other algorithm or encoding.
pub(super) fn parse_spki(der: &[u8]) -> Option<PublicKey> {
    der.strip_prefix(&SPKI_PREFIX[..])?.try_into().ok().map(PublicKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_half_fits_the_vector_of_rfc_8032() {
        let seed = data_encoding_hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let key = RawKey::from_seed(&seed).expect("key");
        let wanted = data_encoding_hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(key.public(), PublicKey(wanted));
    }

    #[test]
    fn only_the_exact_encoding_is_read() {
        let der = spki(&PublicKey([7; 32]));
        assert_eq!(parse_spki(&der), Some(PublicKey([7; 32])));
        for len in 0..der.len() {
            assert_eq!(parse_spki(&der[..len]), None);
        }
        assert_eq!(parse_spki(&[der.as_ref(), &[0]].concat()), None);
        let mut rsa = der.to_vec();
        rsa[8] ^= 1;
        assert_eq!(parse_spki(&rsa), None);
    }

    fn data_encoding_hex(text: &str) -> [u8; 32] {
        let bytes: Vec<u8> = (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
            .collect();
        bytes.try_into().expect("32 bytes")
    }
}
