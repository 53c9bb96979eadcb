//! The client against a socket that answers with given bytes.

use std::path::PathBuf;

use meshd_api::{
    Client, ClientError, ErrorCode, EventKind, Exit, GetPeers, GetStatus, JoinRequest, LeaveRequest,
    PingRequest, RESPONSE_BYTES_MAX, Secret,
};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

#[tokio::test]
async fn a_call_sends_json_and_gets_a_document() {
    let body = r#"{"schema":"meshd.ping/1","name":"b","id":"x","address":"10.91.0.2","path":"udp 192.0.2.1:5","rtt_us":410,"new":1}"#;
    let server = Server::answering(http(200, body));
    let answer = server.client().call(&PingRequest { target: "b".into(), payload_len: 56 }).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.json, body, "the JSON is handed out as it came");
    assert_eq!((answer.body.name.as_str(), answer.body.rtt_us), ("b", 410));
    let request = server.request().await;
    assert!(request.starts_with("POST /v1/ping HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with(r#"{"target":"b","payload_len":56}"#), "{request}");
}

#[tokio::test]
async fn an_error_document_becomes_a_typed_error() {
    let body = r#"{"schema":"meshd.error/1","code":"token-used","error":"the token was used before","cause":null,"hint":"ask for another"}"#;
    let server = Server::answering(http(403, body));
    let error = server.client().call(&JoinRequest { token: Secret("T".into()), name: None }).await;
    let error = error.expect_err("an error");
    assert_eq!(error.exit(), Exit::Refused);
    match error {
        ClientError::Api(api) => {
            assert_eq!(api.code, ErrorCode::TokenUsed);
            assert_eq!(api.hint.as_deref(), Some("ask for another"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nobody_at_the_socket_is_not_reachable() {
    let dir = tempfile::tempdir().expect("a directory");
    let client = Client::new(dir.path().join("nobody.sock"));
    let error = client.call(&GetStatus {}).await.expect_err("an error");
    assert_eq!(error.exit(), Exit::NotReachable);
    assert!(client.events().await.is_err());
}

#[tokio::test]
async fn another_schema_is_refused() {
    for body in [r#"{"schema":"meshd.peers/2","peers":[]}"#, r#"{"peers":[]}"#, "[]", "", "\u{0}"] {
        let server = Server::answering(http(200, body));
        let error = server.client().call(&GetPeers {}).await.expect_err("an error");
        assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_status_without_an_error_document_is_told() {
    let server = Server::answering(http(502, "<html>"));
    let error = server.client().call(&GetStatus {}).await.expect_err("an error");
    assert_eq!(
        error.to_string(),
        "can't understand the daemon's answer: HTTP status 502 without an error document"
    );
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_the_end() {
    let mut bytes = http_head(200, RESPONSE_BYTES_MAX + 1);
    bytes.resize(bytes.len() + RESPONSE_BYTES_MAX + 1, b' ');
    let server = Server::answering(bytes);
    let error = server.client().call(&GetStatus {}).await.expect_err("an error");
    assert!(matches!(error, ClientError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn events_come_one_by_one_however_they_are_cut() {
    let up = r#"{"schema":"meshd.event/1","at_ms":7,"kind":"peer-up","name":"b","id":"x","org":"uva","path":null}"#;
    let newer = r#"{"schema":"meshd.event/1","at_ms":8,"kind":"moon-landing","crew":3}"#;
    let stream = format!("{up}\n\n{newer}\n");
    let (first, second) = stream.split_at(31);
    let mut bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for part in [first, second] {
        bytes.extend_from_slice(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    let server = Server::answering(bytes);
    let mut events = server.client().events().await.expect("a stream");
    let event = events.next().await.expect("an event").expect("a readable one");
    assert_eq!(event.json, up);
    assert!(matches!(event.body.kind, EventKind::PeerUp { .. }));
    let event = events.next().await.expect("an event").expect("a readable one");
    assert_eq!(event.body.kind, EventKind::Other, "an unknown kind is no error");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_refused_stream_says_why() {
    let body = r#"{"schema":"meshd.error/1","code":"permission-denied","error":"only root may do this"}"#;
    let server = Server::answering(http(403, body));
    match server.client().events().await {
        Err(error) => assert_eq!(error.exit(), Exit::Refused),
        Ok(_) => panic!("a stream"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn arbitrary_bytes_end_in_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survive(bytes)?;
    }

    #[test]
    fn arbitrary_bodies_end_in_an_answer_or_an_error(
        status in 100u16..600,
        body in r#"(\{|\}|\[|\]|,|:|"schema":"meshd\.(leave|event|error)/1"|"(mesh|kind|at_ms|code|error)"|"[a-z-]{0,9}"|[0-9]{1,25}|-1|true|null|\n|\PC){0,25}"#,
    ) {
        survive(http(status, &body))?;
    }
}

/// Has every way to read an answer read these bytes.
fn survive(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let server = Server::answering(bytes);
        // No wrong answer can make a node have left.
        if let Ok(answer) = server.client().call(&LeaveRequest { force: false }).await {
            prop_assert!(answer.json.contains("meshd.leave/1"));
        }
        if let Ok(mut events) = server.client().events().await {
            while let Some(Ok(event)) = events.next().await {
                prop_assert!(event.json.contains("meshd.event/1"));
            }
        }
        Ok(())
    })
}

fn http(status: u16, body: &str) -> Vec<u8> {
    let mut bytes = http_head(status, body.len());
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

fn http_head(status: u16, len: usize) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n")
        .into_bytes()
}

/// A socket that gives everybody the same bytes and then closes.
struct Server {
    _dir: TempDir,
    path: PathBuf,
    requests: tokio::sync::Mutex<tokio::sync::mpsc::Receiver<String>>,
    task: JoinHandle<()>,
}

impl Server {
    fn answering(bytes: Vec<u8>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let (seen, requests) = tokio::sync::mpsc::channel(16);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 64 * 1024];
                let len = stream.read(&mut request).await.unwrap_or(0);
                let _ = seen.try_send(String::from_utf8_lossy(&request[..len]).into_owned());
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { _dir: dir, path, requests: requests.into(), task }
    }

    fn client(&self) -> Client {
        Client::new(&self.path)
    }

    async fn request(&self) -> String {
        self.requests.lock().await.recv().await.expect("a request")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
