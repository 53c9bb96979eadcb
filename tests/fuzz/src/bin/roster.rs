//! The verified view of a mesh: what nobody entitled has signed is never new, and what is refused changes nothing.
#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::edit::Script;
use meshd_fuzz::honest::{self, MESH, NOW, key, node_id};
use meshd_fuzz::seed;
use meshd_trust::{Accepted, Change, Floor, Roster, SigningKey};
use meshd_wire::record::{
    Endpoint, MeshGenesis, NodeCert, NodeKeys, NodePaths, OrgRoot, OrgState, Revocations, StewardDelegation,
};
use meshd_wire::{Envelope, Kind, PeerBundle, Record, RecordId};

static HONEST: LazyLock<Vec<Envelope>> = LazyLock::new(|| MESH.envelopes());
static HONEST_IDS: LazyLock<Vec<RecordId>> =
    LazyLock::new(|| HONEST.iter().filter_map(|envelope| envelope.record_id(&MESH.id)).collect());
/// A member that turned hostile, and somebody who never was a member.
static INSIDER: LazyLock<SigningKey> = LazyLock::new(|| key("identity", 2));
static STRANGER: LazyLock<SigningKey> = LazyLock::new(|| key("stranger", 0));

const RAW: usize = 0;
/// An honest envelope with some bytes changed.
const EDITED: usize = 1;
/// The payload of an honest envelope, edited and signed by the hostile ones.
const SIGNED_AGAIN: usize = 2;
/// The payload of one honest envelope under the signatures of another.
const MIXED: usize = 3;
const BUNDLE: usize = 4;
const CHOICES: usize = 5;

/// Where keys and paths have their sequence number: after the array's head, the version and the node.
const SEQ_AT: u8 = 36;

thread_local! {
    /// Rosters before anything, after the chain, and after everything; replaced whenever they change.
    static ROSTERS: RefCell<Vec<State>> = RefCell::new((0..3).map(State::new).collect());
}

struct State {
    stage: usize,
    roster: Roster,
    bytes: Vec<u8>,
}

impl State {
    fn new(stage: usize) -> Self {
        let roster = match stage {
            0 => Roster::new(MESH.id, Floor::of_org(MESH.orgs[0])),
            1 => MESH.founded(),
            _ => MESH.complete(),
        };
        let bytes = roster.to_bytes();
        Self { stage, roster, bytes }
    }
}

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let stage = usize::from(script.byte());
    ROSTERS.with_borrow_mut(|rosters| {
        let at = stage % rosters.len();
        let state = &mut rosters[at];
        match usize::from(script.byte()) % CHOICES {
            RAW => one(state, script.rest()),
            EDITED => {
                let mut edited = script.choose(&HONEST).to_bytes();
                script.edit(&mut edited);
                one(state, &edited);
            }
            SIGNED_AGAIN => {
                if let Some(forged) = forged(script) {
                    one(state, &forged);
                }
            }
            MIXED => {
                let mut mixed = script.choose(&HONEST).clone();
                for signature in script.choose(&HONEST).signatures() {
                    mixed.sign_with(*signature);
                }
                one(state, &mixed.to_bytes());
            }
            _ => bundle(state, script),
        }
    });
}

/// Hands over one envelope.
fn one(state: &mut State, bytes: &[u8]) {
    match state.roster.accept(bytes, NOW) {
        Ok(Accepted::New(change)) => {
            let envelope = Envelope::from_bytes(bytes).expect("what was accepted decodes");
            assert!(is_entitled(&envelope, &change), "{change:?} was believed: {envelope:?}");
            *state = State::new(state.stage);
        }
        // A kind of a later release is kept unread, so it changes the roster and nothing that is believed.
        Ok(Accepted::Opaque) => *state = State::new(state.stage),
        Ok(Accepted::Known) | Err(_) => {
            assert_eq!(state.roster.to_bytes(), state.bytes, "something refused changed the roster");
        }
    }
}

/// Hands over a certificate and keys, each edited.
fn bundle(state: &mut State, mut script: Script<'_>) {
    let (mut cert, mut keys) = (script.choose(&HONEST).to_bytes(), script.choose(&HONEST).to_bytes());
    if script.byte().is_multiple_of(2) {
        script.edit(&mut cert)
    } else {
        script.edit(&mut keys)
    }
    let Ok(changes) =
        state.roster.accept_bundle(&PeerBundle::new(cert.clone(), keys.clone()).to_bytes(), NOW)
    else {
        // The certificate stays also if the keys beside it are refused.
        *state = State::new(state.stage);
        return;
    };
    for change in changes {
        let bytes = if matches!(change, Change::Cert(_)) { &cert } else { &keys };
        let envelope = Envelope::from_bytes(bytes).expect("what was accepted decodes");
        assert!(is_entitled(&envelope, &change), "{change:?} was believed: {envelope:?}");
    }
    *state = State::new(state.stage);
}

/// What an honest one signed is new, and so is what the insider says of itself.
fn is_entitled(envelope: &Envelope, change: &Change) -> bool {
    let is_honest = envelope.record_id(&MESH.id).is_some_and(|id| HONEST_IDS.contains(&id));
    let of_insider = matches!(
        change,
        Change::Keys(node) | Change::Paths(node) | Change::Endpoint(node, _) if *node == node_id(2)
    );
    is_honest || of_insider
}

/// An edited payload with signatures of the insider, of the stranger, or of both.
fn forged(mut script: Script<'_>) -> Option<Vec<u8>> {
    let honest = script.choose(&HONEST);
    let signers: &[&SigningKey] = match script.byte() % 3 {
        0 => &[&INSIDER],
        1 => &[&STRANGER],
        _ => &[&INSIDER, &STRANGER],
    };
    let mut payload = honest.payload().to_vec();
    script.edit(&mut payload);
    match honest.kind()? {
        Kind::OrgRoot => signed::<OrgRoot>(&payload, signers),
        Kind::StewardDelegation => signed::<StewardDelegation>(&payload, signers),
        Kind::MeshGenesis => signed::<MeshGenesis>(&payload, signers),
        Kind::NodeCert => signed::<NodeCert>(&payload, signers),
        Kind::NodeKeys => signed::<NodeKeys>(&payload, signers),
        Kind::NodePaths => signed::<NodePaths>(&payload, signers),
        Kind::Endpoint => signed::<Endpoint>(&payload, signers),
        Kind::Revocations => signed::<Revocations>(&payload, signers),
        Kind::OrgState => signed::<OrgState>(&payload, signers),
        // They never enter a roster.
        Kind::JoinRequest | Kind::NodeLeave | Kind::NodeExternals => None,
        // The honest say nothing of these kinds.
        Kind::Agreement | Kind::Leave | Kind::OrgPolicy | Kind::Receipt | Kind::Recovery => None,
    }
}

fn signed<R: Record>(payload: &[u8], signers: &[&SigningKey]) -> Option<Vec<u8>> {
    let record = R::decode_payload(payload).ok()?;
    Some(MESH.signed(&record, signers).to_bytes())
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for stage in 0..3 {
        let mut add = |choice, bytes: &[u8]| seeds.push(seed::chosen(stage, &seed::chosen(choice, bytes)));
        for (which, bytes) in (0..).zip(honest::bytes_of(&HONEST)) {
            add(RAW, &bytes);
            add(EDITED, &[which, 0, 0, 60, 1]);
            add(SIGNED_AGAIN, &[which, 0]);
            add(SIGNED_AGAIN, &[which, 1, 0, 0, 2, 1]);
            // The sequence number of keys and paths goes up: new, if the insider says it of itself.
            add(SIGNED_AGAIN, &[which, 0, 0, 0, SEQ_AT, 2]);
            add(MIXED, &[which, which.wrapping_add(1)]);
        }
        let cert_at = u8::try_from(MESH.chain.len()).expect("few records");
        add(BUNDLE, &[cert_at, cert_at + 1]);
    }
    seeds
}
