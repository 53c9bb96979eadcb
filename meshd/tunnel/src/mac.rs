//! The MACs at the end of handshake messages: the first proves that the sender knows the receiver's key, the second
//! that it receives at its address.

use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};

use crate::Suite;
use crate::message::MAC_LEN;

const COOKIE_LABEL: &[u8; 8] = b"cookie--";

/// Makes and checks the first MAC of messages to one public key in one suite.
#[derive(Clone)]
pub(crate) struct Mac1(Blake2sMac<U16>);

impl Mac1 {
    pub(crate) fn new(suite: Suite, public: &[u8; 32]) -> Self {
        Self(keyed(&hash(suite.mac1_label(), public)))
    }

    pub(crate) fn tag(&self, bytes: &[u8]) -> [u8; MAC_LEN] {
        let mut mac = self.0.clone();
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    pub(crate) fn verifies(&self, bytes: &[u8], tag: &[u8; MAC_LEN]) -> bool {
        equal(&self.tag(bytes), tag)
    }
}

/// The second MAC, keyed by a cookie.
pub(crate) fn mac2(cookie: &[u8; MAC_LEN], bytes: &[u8]) -> [u8; MAC_LEN] {
    keyed_tag(cookie, &[bytes])
}

/// The key under which the holder of a public key sends cookies.
pub(crate) fn cookie_key(public: &[u8; 32]) -> [u8; 32] {
    hash(COOKIE_LABEL, public)
}

pub(crate) fn keyed_tag(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_LEN] {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Compares without telling by its duration where two tags differ.
pub(crate) fn equal(left: &[u8; MAC_LEN], right: &[u8; MAC_LEN]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(left, right).is_ok()
}

fn hash(label: &[u8], public: &[u8; 32]) -> [u8; 32] {
    Blake2s256::new().chain_update(label).chain_update(public).finalize().into()
}

fn keyed(key: &[u8]) -> Blake2sMac<U16> {
    <Blake2sMac<U16> as KeyInit>::new_from_slice(key).expect("keys of 16 and 32 bytes fit")
}
