//! Envelopes: what decodes encodes to the same bytes, and so does the record inside.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::honest::{self, MESH};
use meshd_fuzz::seed;
use meshd_wire::record::{
    Endpoint, JoinRequest, MeshGenesis, NodeCert, NodeExternals, NodeKeys, NodeLeave, NodePaths, OrgRoot,
    OrgState, Revocations, StewardDelegation,
};
use meshd_wire::{Envelope, Kind, Record};

fuzz_target!(init: seed::write(honest::bytes_of(&MESH.envelopes())), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Ok(envelope) = Envelope::from_bytes(bytes) else { return };
    assert_eq!(envelope.to_bytes(), bytes);
    assert_eq!(envelope.record_id(&MESH.id).is_some(), envelope.kind().is_some());
    let Some(kind) = envelope.kind() else { return };
    match kind {
        Kind::OrgRoot => record::<OrgRoot>(&envelope),
        Kind::StewardDelegation => record::<StewardDelegation>(&envelope),
        Kind::MeshGenesis => record::<MeshGenesis>(&envelope),
        Kind::NodeCert => record::<NodeCert>(&envelope),
        Kind::NodeKeys => record::<NodeKeys>(&envelope),
        Kind::NodePaths => record::<NodePaths>(&envelope),
        Kind::Endpoint => record::<Endpoint>(&envelope),
        Kind::Revocations => record::<Revocations>(&envelope),
        Kind::OrgState => record::<OrgState>(&envelope),
        Kind::JoinRequest => record::<JoinRequest>(&envelope),
        Kind::NodeLeave => record::<NodeLeave>(&envelope),
        Kind::NodeExternals => record::<NodeExternals>(&envelope),
        // They have a number and no payload in this release.
        Kind::Agreement | Kind::Leave | Kind::OrgPolicy | Kind::Receipt | Kind::Recovery => {}
    }
}

fn record<R: Record>(envelope: &Envelope) {
    if let Ok(record) = envelope.record::<R>() {
        assert_eq!(record.encode_payload(), envelope.payload());
    }
}
