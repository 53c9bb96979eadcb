//! What stands in JSON, and how errors, HTTP statuses and exit codes belong together.

use meshd_api::{
    Allocation, ApiError, Document, Egress, ErrorCode, Event, EventKind, Exit, InviteReply, InviteRequest,
    JoinRequest, LeaveReply, PeerState, PolicyProtocol, PutNetworkRequest, Secret, SetPoliciesRequest,
};

#[test]
fn a_document_is_its_body_with_a_schema() {
    let document = Document::new(LeaveReply { mesh: "lab".into(), steward_told: true });
    let json = serde_json::to_string(&document).expect("JSON");
    assert_eq!(json, r#"{"schema":"meshd.leave/1","mesh":"lab","steward_told":true}"#);
}

#[test]
fn an_event_is_one_flat_document() {
    let event = Event { at_ms: 1, kind: EventKind::CertRenewed { expires_at: 2 } };
    let json = serde_json::to_string(&Document::new(event)).expect("JSON");
    assert_eq!(json, r#"{"schema":"meshd.event/1","at_ms":1,"kind":"cert-renewed","expires_at":2}"#);
}

#[test]
fn an_error_document_names_code_cause_and_hint() {
    let error = ApiError::new(ErrorCode::NameTaken, "the name b is taken")
        .with_cause("a node joined with it")
        .with_hint("choose another with --name");
    let json = serde_json::to_string(&Document::new(error)).expect("JSON");
    assert_eq!(
        json,
        r#"{"schema":"meshd.error/1","code":"name-taken","error":"the name b is taken","cause":"a node joined with it","hint":"choose another with --name"}"#
    );
}

#[test]
fn a_request_with_an_unknown_field_is_refused() {
    assert!(serde_json::from_str::<JoinRequest>(r#"{"token":"t","nmae":"b"}"#).is_err());
    assert!(serde_json::from_str::<InviteRequest>(r#"{"ttl":5}"#).is_err());
    assert!(serde_json::from_str::<InviteRequest>("{}").is_ok());
}

#[test]
fn a_word_of_a_newer_daemon_is_unknown_and_no_error() {
    let state: PeerState = serde_json::from_str(r#""teleporting""#).expect("a state");
    assert_eq!(state, PeerState::Unknown);
    let code: ErrorCode = serde_json::from_str(r#""volcano""#).expect("a code");
    assert_eq!(code, ErrorCode::Internal);
}

#[test]
fn a_token_is_not_shown_by_debug() {
    let reply = InviteReply { token: Secret("very secret".into()), id: "i".into(), expires_at: 0 };
    assert!(!format!("{reply:?}").contains("very secret"));
}

#[test]
fn every_error_has_a_status_and_an_exit_code() {
    let rows: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| format!("{code} {} {}", code.http_status(), code.exit().code()))
        .collect();
    assert_eq!(
        rows,
        [
            "bad-request 400 2",
            "too-large 413 2",
            "permission-denied 403 4",
            "token-malformed 400 4",
            "token-unknown 403 4",
            "token-used 403 4",
            "token-expired 403 4",
            "clock-off 403 4",
            "record-refused 403 4",
            "wrong-mesh 403 4",
            "revoked 403 4",
            "not-found 404 5",
            "timed-out 504 6",
            "already-member 409 7",
            "not-member 409 7",
            "not-steward 409 7",
            "is-steward 409 7",
            "ambiguous 409 7",
            "name-taken 409 7",
            "key-taken 409 7",
            "address-taken 409 7",
            "in-use 409 7",
            "too-many 409 7",
            "no-address 409 7",
            "prefix-conflict 409 7",
            "device-failed 500 1",
            "steward-unreachable 502 1",
            "storage-failed 507 1",
            "unavailable 503 1",
            "internal 500 1",
        ]
    );
}

#[test]
fn a_network_says_how_addresses_are_chosen_and_a_typing_error_is_refused() {
    let json = r#"{"network":{"runtime":"docker","network":"n","pool4":"10.91.128.0/20","allocation":"sequential"}}"#;
    let request: PutNetworkRequest = serde_json::from_str(json).expect("a request");
    assert_eq!(
        (request.network.allocation, request.network.egress),
        (Allocation::Sequential, Egress::Runtime)
    );
    assert!(serde_json::from_str::<PutNetworkRequest>(&json.replace("sequential", "sequentail")).is_err());
}

#[test]
fn what_a_policy_leaves_out_is_not_the_same_as_what_it_has_none_of() {
    let json = r#"{"runtime":"cni","network":"pods","policies":[{"select":{"k8s.namespace":"shop"},"ingress":[],
        "egress":[{"peers":[{"net":"10.0.0.0/8","except":["10.1.0.0/16"]}],
        "ports":[{"protocol":"sctp","first":1,"last":65535}]},{}]}]}"#;
    let request: SetPoliciesRequest = serde_json::from_str(json).expect("a request");
    let policy = &request.policies[0];
    assert_eq!(policy.ingress.as_ref().map(Vec::len), Some(0));
    let [some, all] = &policy.egress.as_ref().expect("restricted")[..] else { panic!("two rules") };
    assert_eq!(some.ports.as_ref().expect("ports")[0].protocol, PolicyProtocol::Sctp);
    assert_eq!((&all.peers, &all.ports), (&None, &None));
    let read_again = serde_json::to_string(&request).expect("JSON");
    assert_eq!(serde_json::from_str::<SetPoliciesRequest>(&read_again).expect("a request"), request);
    let open: SetPoliciesRequest =
        serde_json::from_str(r#"{"runtime":"cni","network":"pods","policies":[{}]}"#).expect("a request");
    assert_eq!((&open.policies[0].ingress, &open.policies[0].egress), (&None, &None));
    for wrong in
        [json.replace("sctp", "tpc"), json.replace("ingress", "ingres"), json.replace("65535", "65536")]
    {
        assert!(serde_json::from_str::<SetPoliciesRequest>(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn exit_codes_count_from_zero() {
    let codes: Vec<u8> = Exit::ALL.into_iter().map(Exit::code).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7]);
}
