//! The Noise handshake IKpsk2 as WireGuard uses it, over `snow` with primitives of our choice.

mod resolver;

use std::sync::Arc;

use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

pub(crate) use resolver::KeyPair;
#[cfg(test)]
pub(crate) use resolver::dh_calls;

use crate::message::{NOISE_INITIATION_LEN, NOISE_RESPONSE_LEN};
use crate::noise::resolver::Resolver;
use crate::{SessionKeys, Suite, Tai64n};

const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Where the pre-shared key enters: after the second message's Diffie-Hellman operations.
const PSK_POSITION: usize = 2;
/// Bytes of the timestamp, the only payload of a handshake.
const STAMP_LEN: usize = 12;
/// The private key stays with [`KeyPair`]; snow only wants to see that there is one.
const PRIVATE_KEY_IN_RESOLVER: [u8; 32] = [0; 32];

/// The handshake did not verify, or a public key on the way is no point of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed;

/// What both ends must agree on before the first message.
pub(crate) struct Terms<'a> {
    pub(crate) local: &'a Arc<KeyPair>,
    pub(crate) suite: Suite,
    /// Random bytes that become the ephemeral key, used once.
    pub(crate) ephemeral: Zeroizing<[u8; 32]>,
}

/// An initiation that waits for its response.
pub(crate) struct Initiator(Box<HandshakeState>);

/// An initiation that verified, not yet answered.
pub(crate) struct Responder {
    state: Box<HandshakeState>,
    pub(crate) peer: [u8; 32],
    pub(crate) stamp: Tai64n,
}

impl Initiator {
    pub(crate) fn start(
        terms: Terms<'_>,
        peer: &[u8; 32],
        psk: &[u8; 32],
        stamp: Tai64n,
    ) -> Result<(Self, [u8; NOISE_INITIATION_LEN]), Failed> {
        let mut state = builder(terms)?
            .remote_public_key(peer)
            .and_then(|builder| builder.psk(PSK_POSITION as u8, psk))
            .and_then(Builder::build_initiator)?;
        let mut message = [0; NOISE_INITIATION_LEN];
        state.write_message(&stamp.to_bytes(), &mut message)?;
        Ok((Self(Box::new(state)), message))
    }

    /// Takes the response. A wrong one changes nothing: the right one may still come.
    pub(crate) fn finish(&mut self, message: &[u8; NOISE_RESPONSE_LEN]) -> Result<SessionKeys, Failed> {
        self.0.read_message(message, &mut [])?;
        let (to_responder, to_initiator) = split(&mut self.0);
        Ok(SessionKeys { send: to_responder, receive: to_initiator })
    }
}

impl Responder {
    pub(crate) fn read(terms: Terms<'_>, message: &[u8; NOISE_INITIATION_LEN]) -> Result<Self, Failed> {
        let mut state = builder(terms)?.build_responder()?;
        let mut stamp = [0; STAMP_LEN];
        state.read_message(message, &mut stamp)?;
        let peer = state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(Failed)?;
        Ok(Self { state: Box::new(state), peer, stamp: Tai64n::from_bytes(stamp) })
    }

    pub(crate) fn respond(
        mut self,
        psk: &[u8; 32],
    ) -> Result<([u8; NOISE_RESPONSE_LEN], SessionKeys), Failed> {
        self.state.set_psk(PSK_POSITION, psk)?;
        let mut message = [0; NOISE_RESPONSE_LEN];
        self.state.write_message(&[], &mut message)?;
        let (to_responder, to_initiator) = split(&mut self.state);
        Ok((message, SessionKeys { send: to_initiator, receive: to_responder }))
    }
}

impl From<snow::Error> for Failed {
    fn from(_: snow::Error) -> Self {
        Self
    }
}

fn builder(terms: Terms<'_>) -> Result<Builder<'static>, Failed> {
    let Terms { local, suite, ephemeral } = terms;
    let params = suite.noise_name().parse()?;
    let resolver = Resolver::new(Arc::clone(local), ephemeral);
    let builder = Builder::with_resolver(params, Box::new(resolver));
    Ok(builder.prologue(PROLOGUE)?.local_private_key(&PRIVATE_KEY_IN_RESOLVER)?)
}

fn split(state: &mut HandshakeState) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    let (to_responder, to_initiator) = state.dangerously_get_raw_split();
    (Zeroizing::new(to_responder), Zeroizing::new(to_initiator))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn terms(local: &Arc<KeyPair>, ephemeral: u8) -> Terms<'_> {
        Terms { local, suite: Suite::Wg, ephemeral: Zeroizing::new([ephemeral; 32]) }
    }

    #[test]
    fn bug19_each_message_costs_the_two_curve_operations_it_must() {
        let key = |seed| Arc::new(KeyPair::from_private(&[seed; 32]).expect("a key"));
        let (left, right) = (key(1), key(2));
        let stamp = Tai64n::from_unix(Duration::from_secs(1));
        let count = |before: usize| dh_calls() - before;

        let before = dh_calls();
        let started = Initiator::start(terms(&left, 3), right.public(), &[0; 32], stamp);
        let (mut initiator, initiation) = started.expect("an initiation");
        assert_eq!(count(before), 2, "es and ss to initiate");

        let before = dh_calls();
        let responder = Responder::read(terms(&right, 4), &initiation).expect("it verifies");
        assert_eq!(count(before), 2, "es and ss to read");
        assert_eq!((responder.peer, responder.stamp), (*left.public(), stamp));

        let before = dh_calls();
        let (response, responder_keys) = responder.respond(&[0; 32]).expect("a response");
        assert_eq!(count(before), 2, "ee and se to respond");

        let before = dh_calls();
        let initiator_keys = initiator.finish(&response).expect("it verifies");
        assert_eq!(count(before), 2, "ee and se to finish");
        assert_eq!(initiator_keys.send, responder_keys.receive);
        assert_eq!(initiator_keys.receive, responder_keys.send);
    }

    /// The same handshake in snow alone, with the primitives it brings.
    fn reference<'a>(suite: Suite, private: &'a [u8; 32], psk: &'a [u8; 32]) -> Builder<'a> {
        let builder = Builder::new(suite.noise_name().parse().expect("a protocol name"));
        let builder = builder.prologue(PROLOGUE).and_then(|builder| builder.local_private_key(private));
        builder.and_then(|builder| builder.psk(2, psk)).expect("a builder")
    }

    #[test]
    fn both_roles_agree_with_the_primitives_of_snow_in_every_suite() {
        let (ours, theirs, psk) = ([1; 32], [2; 32], [3; 32]);
        let local = Arc::new(KeyPair::from_private(&ours).expect("a key"));
        let remote = KeyPair::from_private(&theirs).expect("a key");
        let stamp = Tai64n::from_unix(Duration::from_secs(5));
        for suite in Suite::ALL {
            let terms =
                |ephemeral| Terms { local: &local, suite, ephemeral: Zeroizing::new([ephemeral; 32]) };

            let started = Initiator::start(terms(4), remote.public(), &psk, stamp);
            let (mut initiator, initiation) = started.expect("an initiation");
            let mut other = reference(suite, &theirs, &psk).build_responder().expect("a responder");
            let mut payload = [0; STAMP_LEN];
            other.read_message(&initiation, &mut payload).expect("it verifies there");
            assert_eq!(payload, stamp.to_bytes());
            let mut response = [0; NOISE_RESPONSE_LEN];
            other.write_message(&[], &mut response).expect("a response");
            let keys = initiator.finish(&response).expect("it verifies here");
            assert_eq!((*keys.send, *keys.receive), other.dangerously_get_raw_split());

            let other = reference(suite, &theirs, &psk).remote_public_key(local.public());
            let mut other = other.and_then(Builder::build_initiator).expect("an initiator");
            let mut initiation = [0; NOISE_INITIATION_LEN];
            other.write_message(&stamp.to_bytes(), &mut initiation).expect("an initiation");
            let responder = Responder::read(terms(5), &initiation).expect("it verifies here");
            assert_eq!((responder.peer, responder.stamp), (*remote.public(), stamp));
            let (response, keys) = responder.respond(&psk).expect("a response");
            other.read_message(&response, &mut []).expect("it verifies there");
            assert_eq!((*keys.receive, *keys.send), other.dangerously_get_raw_split());
        }
    }

    #[test]
    fn a_public_key_of_low_order_is_refused() {
        let local = Arc::new(KeyPair::from_private(&[1; 32]).expect("a key"));
        let stamp = Tai64n::from_unix(Duration::from_secs(1));
        assert!(Initiator::start(terms(&local, 3), &[0; 32], &[0; 32], stamp).is_err());
    }
}
