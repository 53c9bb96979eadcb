//! The primitives under the handshake: curve and ciphers of AWS-LC, which is two times faster at X25519 than
//! curve25519-dalek, and BLAKE2s.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use blake2::{Blake2s256, Digest};
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroizing;

use super::Failed;

const KEY_LEN: usize = 32;
const TAG_LEN: usize = 16;
const BLAKE2S_BLOCK_LEN: usize = 64;

/// A private X25519 key and its public half.
pub(crate) struct KeyPair {
    private: PrivateKey,
    public: [u8; KEY_LEN],
}

impl KeyPair {
    pub(crate) fn from_private(private: &[u8; KEY_LEN]) -> Result<Self, Failed> {
        let private = PrivateKey::from_private_key(&X25519, private).map_err(|_| Failed)?;
        let public = private.compute_public_key().map_err(|_| Failed)?;
        let public = public.as_ref().try_into().map_err(|_| Failed)?;
        Ok(Self { private, public })
    }

    pub(crate) fn public(&self) -> &[u8; KEY_LEN] {
        &self.public
    }
}

#[cfg(test)]
thread_local! {
    static DH_CALLS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Diffie-Hellman operations of this thread so far.
#[cfg(test)]
pub(crate) fn dh_calls() -> usize {
    DH_CALLS.get()
}

/// Gives snow the primitives of one handshake.
pub(super) struct Resolver {
    local: Arc<KeyPair>,
    ephemeral: Mutex<Option<Zeroizing<[u8; KEY_LEN]>>>,
}

impl Resolver {
    pub(super) fn new(local: Arc<KeyPair>, ephemeral: Zeroizing<[u8; KEY_LEN]>) -> Self {
        Self { local, ephemeral: Mutex::new(Some(ephemeral)) }
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        let ephemeral = self.ephemeral.lock().unwrap_or_else(PoisonError::into_inner).take();
        Some(Box::new(OneKey(ephemeral)))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519)
            .then(|| Box::new(Curve { local: Arc::clone(&self.local), pair: None }) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::Blake2s).then(|| Box::new(Blake2s(Blake2s256::new())) as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        let kind = match choice {
            CipherChoice::ChaChaPoly => CipherKind::ChaChaPoly,
            CipherChoice::AESGCM => CipherKind::AesGcm,
        };
        Some(Box::new(HandshakeCipher { kind, key: Zeroizing::new([0; KEY_LEN]) }))
    }
}

/// Randomness for exactly one ephemeral key, drawn by the engine.
struct OneKey(Option<Zeroizing<[u8; KEY_LEN]>>);

impl Random for OneKey {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        let key = self.0.take().ok_or(Error::Rng)?;
        if dest.len() != key.len() {
            return Err(Error::Rng);
        }
        dest.copy_from_slice(&*key);
        Ok(())
    }
}

struct Curve {
    local: Arc<KeyPair>,
    pair: Option<Arc<KeyPair>>,
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    /// Snow sets the static key alone; it is the one the resolver holds, its public half known.
    fn set(&mut self, _: &[u8]) {
        self.pair = Some(Arc::clone(&self.local));
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut private = Zeroizing::new([0; KEY_LEN]);
        rng.try_fill_bytes(&mut *private)?;
        self.pair = Some(Arc::new(KeyPair::from_private(&private).map_err(|_| Error::Dh)?));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.pair.as_ref().map_or(&[], |pair| &pair.public)
    }

    /// The bytes stay inside AWS-LC.
    fn privkey(&self) -> &[u8] {
        &[]
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        #[cfg(test)]
        DH_CALLS.set(DH_CALLS.get() + 1);
        let pair = self.pair.as_ref().ok_or(Error::Dh)?;
        let public = UnparsedPublicKey::new(&X25519, public.get(..KEY_LEN).ok_or(Error::Dh)?);
        let out = out.get_mut(..KEY_LEN).ok_or(Error::Dh)?;
        // Refuses points of low order, whose secret everybody knows.
        agreement::agree(&pair.private, public, Error::Dh, |secret| {
            out.copy_from_slice(secret);
            Ok(())
        })
    }
}

struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }

    fn block_len(&self) -> usize {
        BLAKE2S_BLOCK_LEN
    }

    fn hash_len(&self) -> usize {
        KEY_LEN
    }

    fn reset(&mut self) {
        self.0 = Blake2s256::new();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = std::mem::take(&mut self.0).finalize();
        if let Some(out) = out.get_mut(..KEY_LEN) {
            out.copy_from_slice(&hash);
        }
    }
}

#[derive(Clone, Copy)]
enum CipherKind {
    ChaChaPoly,
    AesGcm,
}

/// Most keys of a handshake are replaced before anything uses them, so a key is scheduled at its use.
struct HandshakeCipher {
    kind: CipherKind,
    key: Zeroizing<[u8; KEY_LEN]>,
}

impl HandshakeCipher {
    fn scheduled(&self) -> Result<LessSafeKey, Error> {
        let algorithm: &'static Algorithm = match self.kind {
            CipherKind::ChaChaPoly => &CHACHA20_POLY1305,
            CipherKind::AesGcm => &AES_256_GCM,
        };
        UnboundKey::new(algorithm, &*self.key).map(LessSafeKey::new).map_err(|_| Error::Decrypt)
    }

    fn nonce(&self, counter: u64) -> Nonce {
        let counter = match self.kind {
            CipherKind::ChaChaPoly => counter.to_le_bytes(),
            CipherKind::AesGcm => counter.to_be_bytes(),
        };
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - counter.len()..].copy_from_slice(&counter);
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Cipher for HandshakeCipher {
    fn name(&self) -> &'static str {
        match self.kind {
            CipherKind::ChaChaPoly => "ChaChaPoly",
            CipherKind::AesGcm => "AESGCM",
        }
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        self.key.copy_from_slice(key);
    }

    /// Snow gives lengths of our own messages here, which all fit.
    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let key = self.scheduled().expect("both ciphers take 32 bytes");
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let tag = key
            .seal_in_place_separate_tag(self.nonce(nonce), Aad::from(authtext), text)
            .expect("handshake payloads are short");
        rest[..TAG_LEN].copy_from_slice(tag.as_ref());
        plaintext.len() + TAG_LEN
    }

    fn decrypt(&self, nonce: u64, authtext: &[u8], sealed: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let (text, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(Error::Decrypt)?;
        self.scheduled()?
            .open_separate_gather(self.nonce(nonce), Aad::from(authtext), text, tag, out)
            .map_err(|_| Error::Decrypt)?;
        Ok(text.len())
    }
}
