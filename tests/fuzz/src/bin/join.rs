//! Join requests and farewells: nothing but what the newcomer itself signed is believed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::edit::Script;
use meshd_fuzz::honest::{self, MESH, NOW, key};
use meshd_fuzz::seed;
use meshd_trust::join;
use meshd_wire::Envelope;
use meshd_wire::record::{JoinRequest, NodeLeave, Record};

static REQUEST: LazyLock<Envelope> = LazyLock::new(|| MESH.join_request());
static FAREWELL: LazyLock<Envelope> = LazyLock::new(|| MESH.farewell(1));
const RAW: usize = 0;
const EDITED: usize = 1;
/// The payload is edited and then signed by the newcomer itself: everything behind the signatures is reached.
const SIGNED_AGAIN: usize = 2;

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    match usize::from(*choice) % 3 {
        RAW => believed_is_honest(rest),
        EDITED => {
            let mut script = Script::new(rest);
            let mut edited = script.choose(&[&*REQUEST, &*FAREWELL]).to_bytes();
            script.edit(&mut edited);
            believed_is_honest(&edited);
        }
        _ => {
            let mut payload = REQUEST.payload().to_vec();
            Script::new(rest).edit(&mut payload);
            signed_by_itself(&payload);
        }
    }
}

fn believed_is_honest(bytes: &[u8]) {
    if let Ok(verified) = join::verify_request(bytes, &MESH.id, NOW) {
        assert_eq!(verified.request.encode_payload(), REQUEST.payload());
    }
    let identity = |_: &_| Some(key("identity", 1).public());
    if let Ok(leave) = join::verify_leave(bytes, &MESH.id, identity) {
        let leave: NodeLeave = leave;
        assert_eq!(leave.encode_payload(), FAREWELL.payload());
    }
}

fn signed_by_itself(payload: &[u8]) {
    let Ok(request) = JoinRequest::decode_payload(payload) else { return };
    let newcomer = key("identity", 7);
    let envelope = MESH.signed(&request, &[&newcomer, &key("transport", 7)]).to_bytes();
    if let Ok(verified) = join::verify_request(&envelope, &MESH.id, NOW) {
        assert_eq!(verified.request.identity, newcomer.public());
        assert_eq!(verified.request.mesh, MESH.id);
        assert_eq!(verified.node, honest::node_id(7));
        assert_eq!(verified.keys.node, verified.node);
        assert_eq!(verified.keys_envelope, verified.request.keys);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    vec![
        seed::chosen(RAW, &REQUEST.to_bytes()),
        seed::chosen(RAW, &FAREWELL.to_bytes()),
        seed::chosen(EDITED, &[0]),
        seed::chosen(EDITED, &[1]),
        seed::chosen(EDITED, &[0, 0, 0, 40, 1]),
        seed::chosen(SIGNED_AGAIN, &[]),
        seed::chosen(SIGNED_AGAIN, &[0, 0, 3, 1]),
    ]
}
