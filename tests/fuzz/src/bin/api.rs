//! Bodies of the local API: the first byte chooses the type, what decodes encodes and decodes again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshd_api::{
    AdmitReply, AdmitRequest, ApiError, Body, Call, ConfigReply, Document, ErrorCode, Event, EventKind,
    GetConfig, GetEvents, GetPeers, GetStatus, ImportRequest, InviteReply, InviteRequest, JoinFileReply,
    JoinFileRequest, JoinRequest, LeaveReply, LeaveRequest, MemberReply, MeshCreateRequest, Peers, PingReply,
    PingRequest, Secret, Signed, Status, StewardKeys, StewardPrepareRequest, StewardRenewRequest, StewardReply,
};
use meshd_fuzz::seed;
use serde::Serialize;
use serde::de::DeserializeOwned;

const REQUESTS: [fn(&[u8]); 13] = [
    request::<AdmitRequest>,
    request::<GetConfig>,
    request::<GetEvents>,
    request::<GetPeers>,
    request::<GetStatus>,
    request::<ImportRequest>,
    request::<InviteRequest>,
    request::<JoinFileRequest>,
    request::<JoinRequest>,
    request::<LeaveRequest>,
    request::<MeshCreateRequest>,
    request::<PingRequest>,
    request::<StewardRenewRequest>,
];
const REPLIES: [fn(&[u8]); 13] = [
    reply::<AdmitReply>,
    reply::<ApiError>,
    reply::<ConfigReply>,
    reply::<Event>,
    reply::<InviteReply>,
    reply::<JoinFileReply>,
    reply::<LeaveReply>,
    reply::<MemberReply>,
    reply::<Peers>,
    reply::<PingReply>,
    reply::<Status>,
    reply::<StewardKeys>,
    reply::<StewardReply>,
];

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, json)) = bytes.split_first() else { return };
    let choice = usize::from(*choice) % (REQUESTS.len() + REPLIES.len() + 1);
    if let Some(request) = REQUESTS.get(choice) {
        request(json);
    } else if let Some(reply) = REPLIES.get(choice - REQUESTS.len()) {
        reply(json);
    } else {
        request::<StewardPrepareRequest>(json);
    }
}

fn request<T: Call + DeserializeOwned + PartialEq + std::fmt::Debug>(json: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<T>(json) {
        let again: T = serde_json::from_str(&text(&request)).expect("what was written decodes");
        assert_eq!(again, request);
    }
}

/// Replies may hold fractions, which do not always come back to the last digit, so only that they decode is held.
fn reply<T: Body>(json: &[u8]) {
    if let Ok(document) = serde_json::from_slice::<Document<T>>(json) {
        serde_json::from_str::<Document<T>>(&text(&document)).expect("what was written decodes");
    }
}

fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("encodes")
}

/// Every honest body under every choice: most do not fit, and the fuzzer drops what adds nothing.
fn seeds() -> Vec<Vec<u8>> {
    let signed = Signed("AAAA".into());
    let name = Some("host-1".to_owned());
    let labels = || [("site".to_owned(), "a".to_owned())].into();
    let create = MeshCreateRequest {
        org: "o".into(),
        roots: vec![signed.clone()],
        genesis: signed.clone(),
        delegations: vec![signed.clone()],
        name: name.clone(),
        registries: vec!["https://etcd.example:2379".into()],
    };
    let up = EventKind::PeerUp { name: "a".into(), id: "i".into(), org: "o".into(), path: None };
    let keys = StewardKeys {
        record_key: "r".into(),
        log_key: "l".into(),
        witness_key: "w".into(),
        tls_key: "t".into(),
    };
    let error = ApiError::new(ErrorCode::NameTaken, "taken").with_cause("a node").with_hint("choose another");
    let bodies = [
        "{}".to_owned(),
        text(&AdmitRequest { request: signed.clone(), labels: labels() }),
        text(&ImportRequest { response: signed.clone() }),
        text(&InviteRequest { ttl_s: Some(900), labels: labels(), name: name.clone() }),
        text(&JoinFileRequest { mesh: "m".into(), org: "o".into(), name: name.clone() }),
        text(&JoinRequest { token: Secret("T".into()), name }),
        text(&create),
        text(&PingRequest { target: "b".into(), payload_len: 56 }),
        text(&LeaveRequest { force: true }),
        text(&Document::new(LeaveReply { mesh: "m".into(), steward_told: true })),
        text(&Document::new(error)),
        text(&Document::new(Event { at_ms: 1, kind: up })),
        text(&Document::new(Event { at_ms: 1, kind: EventKind::CertRenewed { expires_at: 2 } })),
        text(&Document::new(InviteReply { token: Secret("T".into()), id: "i".into(), expires_at: 3 })),
        text(&Document::new(keys)),
        concat!(
            r#"{"schema":"meshd.peers/1","peers":[{"name":"b","id":"i","org":"o","addr4":"10.91.0.2","#,
            r#""addr6":"fd00::2","labels":{},"state":"connected","path":"192.0.2.1:51820","rtt_ms":1.5,"#,
            r#""last_handshake_s":3,"rx_bytes":1,"tx_bytes":2,"key_epoch":1,"cert_expires_at":9}]}"#,
        )
        .to_owned(),
        concat!(
            r#"{"schema":"meshd.status/1","version":"0.1.0","uptime_s":1,"membership":"member","node":null,"#,
            r#""mesh":null,"registry":{"kind":"embedded","endpoints":[],"connected":true,"since":1},"#,
            r#""peers":{"total":1,"connected":1},"warnings":[]}"#,
        )
        .to_owned(),
        r#"{"schema":"meshd.config/1","file":null,"config":{"tunnel":{"port":51820}}}"#.to_owned(),
    ];
    let choices = 0..REQUESTS.len() + REPLIES.len() + 1;
    let under = |choice| bodies.iter().map(move |body| seed::chosen(choice, body.as_bytes()));
    choices.flat_map(under).collect()
}
