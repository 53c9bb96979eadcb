//! Cookies: under load, whoever wants an answer first proves that it receives at the address it sends from.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use zeroize::Zeroizing;

use crate::mac::{equal, keyed_tag, mac2};
use crate::message::{COOKIE_NONCE_LEN, CookieReply, MAC_LEN, Macs, Message};
use crate::rng::Rng;

/// Age at which the secret behind all cookies is replaced.
const SECRET_AGE_MAX: Duration = Duration::from_secs(120);
/// A cookie is not used for this last part of its life: the message may arrive after the secret's end.
const LATENCY: Duration = Duration::from_secs(5);

/// Makes cookies and checks messages for them; nothing is kept for any sender.
pub(crate) struct CookieJar {
    secret: Zeroizing<[u8; 32]>,
    born: Duration,
}

/// A cookie another node gave us.
#[derive(Clone, Copy)]
pub(crate) struct Cookie {
    value: [u8; MAC_LEN],
    received: Duration,
}

impl CookieJar {
    pub(crate) fn new(now: Duration, rng: &mut Rng) -> Self {
        Self { secret: rng.secret(), born: now }
    }

    /// Whether the second MAC shows that the sender got a cookie at this address and port.
    pub(crate) fn is_proven(
        &mut self,
        now: Duration,
        rng: &mut Rng,
        source: SocketAddr,
        macs: &Macs<'_>,
    ) -> bool {
        // Whoever has no cookie sends zeros, and a flood is made of them.
        if macs.mac2 == &[0; MAC_LEN] {
            return false;
        }
        let cookie = self.cookie(now, rng, source);
        equal(&mac2(&cookie, macs.covered_by_mac2), macs.mac2)
    }

    /// Seals a cookie for the sender of a message, to be opened only by whoever has seen that message.
    pub(crate) fn reply(
        &mut self,
        now: Duration,
        rng: &mut Rng,
        key: &[u8; 32],
        (source, receiver, mac1): (SocketAddr, u32, &[u8; MAC_LEN]),
    ) -> Message {
        let nonce: [u8; COOKIE_NONCE_LEN] = rng.bytes();
        let mut sealed = [0; 2 * MAC_LEN];
        let (cookie, tag) = sealed.split_at_mut(MAC_LEN);
        cookie.copy_from_slice(&self.cookie(now, rng, source));
        let made = XChaCha20Poly1305::new(key.into())
            .encrypt_in_place_detached(&nonce.into(), mac1, cookie)
            .expect("a cookie is short");
        tag.copy_from_slice(&made);
        Message::cookie_reply(receiver, &nonce, &sealed)
    }

    fn cookie(&mut self, now: Duration, rng: &mut Rng, source: SocketAddr) -> [u8; MAC_LEN] {
        if now.saturating_sub(self.born) >= SECRET_AGE_MAX {
            *self = Self::new(now, rng);
        }
        let port = source.port().to_le_bytes();
        match source.ip().to_canonical() {
            IpAddr::V4(address) => keyed_tag(&*self.secret, &[&address.octets(), &port]),
            IpAddr::V6(address) => keyed_tag(&*self.secret, &[&address.octets(), &port]),
        }
    }
}

impl Cookie {
    /// Opens a cookie that answers the message with this first MAC.
    pub(crate) fn open(
        now: Duration,
        key: &[u8; 32],
        mac1: &[u8; MAC_LEN],
        reply: &CookieReply<'_>,
    ) -> Option<Self> {
        let (value, tag) = reply.sealed.split_first_chunk::<MAC_LEN>()?;
        let mut value = *value;
        let tag: &[u8; MAC_LEN] = tag.try_into().ok()?;
        XChaCha20Poly1305::new(key.into())
            .decrypt_in_place_detached(reply.nonce.into(), mac1, &mut value, tag.into())
            .ok()?;
        Some(Self { value, received: now })
    }

    /// The cookie, while the other node still takes it.
    pub(crate) fn value(&self, now: Duration) -> Option<&[u8; MAC_LEN]> {
        (now.saturating_sub(self.received) < SECRET_AGE_MAX - LATENCY).then_some(&self.value)
    }
}
