//! Answers at a socket as meshd would, and remembers what was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use meshd_api::{
    ApiError, AttachRequest, Attachment, Body, CheckReply, CheckRequest, DetachReply, DetachRequest,
    Document, Endpoint, EndpointState, Endpoints, ErrorCode, KeepReply, KeepRequest, NetworkReply,
    PutNetworkRequest, Ready,
};
use serde_json::Value;

/// How it answers.
#[derive(Debug, Clone, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// Never, on paths with this ending.
    Silent(&'static str),
    /// With bytes that are no answer.
    Garbage(&'static [u8]),
    /// With this error, on paths with this ending.
    Refusing(&'static str, ApiError),
    /// That it is not ready, for so many questions.
    NotReady { questions: usize, is_connected: bool },
    /// That these things are missing in whatever is checked.
    Faulty(Vec<String>),
}

#[derive(Default)]
struct State {
    mood: Mood,
    asked: Vec<(String, Value)>,
    endpoints: Vec<Endpoint>,
}

/// The stand-in; it ends with the test's process.
#[derive(Clone)]
pub struct Daemon {
    state: Arc<Mutex<State>>,
}

impl Daemon {
    pub fn start(socket: &Path, mood: Mood) -> Self {
        let listener = UnixListener::bind(socket).expect("a socket");
        let daemon = Self { state: Arc::new(Mutex::new(State { mood, ..State::default() })) };
        let server = daemon.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                thread::spawn(move || server.serve(stream));
            }
        });
        daemon
    }

    /// Paths and bodies that were asked since the last look.
    pub fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.state().asked)
    }

    /// What is attached.
    pub fn attached(&self) -> Vec<Attachment> {
        self.state().endpoints.iter().map(|endpoint| endpoint.attachment.clone()).collect()
    }

    pub fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn serve(&self, mut stream: UnixStream) {
        let Some((path, body)) = request(&stream) else { return };
        self.state().asked.push((path.clone(), body.clone()));
        let mood = self.state().mood.clone();
        let answer = match mood {
            Mood::Silent(ending) if path.ends_with(ending) => {
                // Until the other end gives up.
                let _ = stream.read(&mut [0]);
                return;
            }
            Mood::Garbage(bytes) => bytes.to_vec(),
            Mood::Refusing(ending, error) if path.ends_with(ending) => refused(error),
            _ => self.answer(&path, body),
        };
        let _ = stream.write_all(&answer);
    }

    fn answer(&self, path: &str, body: Value) -> Vec<u8> {
        let mut state = self.state();
        match path {
            "/v1/ready" => ok(ready(&mut state.mood)),
            "/v1/endpoints" => ok(Endpoints { endpoints: state.endpoints.clone() }),
            "/v1/networks/put" => {
                let PutNetworkRequest { network } = serde_json::from_value(body).expect("a request");
                ok(NetworkReply { network })
            }
            "/v1/endpoints/attach" => {
                let endpoint = endpoint(serde_json::from_value(body).expect("a request"));
                state.endpoints.push(endpoint.clone());
                ok(endpoint)
            }
            "/v1/endpoints/check" => {
                let CheckRequest { attachment } = serde_json::from_value(body).expect("a request");
                match (&state.mood, state.endpoints.iter().any(|endpoint| endpoint.attachment == attachment))
                {
                    (Mood::Faulty(faults), true) => ok(CheckReply { faults: faults.clone() }),
                    (_, true) => ok(CheckReply { faults: Vec::new() }),
                    (_, false) => refused(ApiError::new(ErrorCode::NotFound, "it is not attached")),
                }
            }
            "/v1/endpoints/detach" => {
                let DetachRequest { attachment } = serde_json::from_value(body).expect("a request");
                let before = state.endpoints.len();
                state.endpoints.retain(|endpoint| endpoint.attachment != attachment);
                ok(DetachReply { detached: before - state.endpoints.len() })
            }
            "/v1/endpoints/keep" => {
                let keep: KeepRequest = serde_json::from_value(body).expect("a request");
                let is_kept = |one: &Attachment| {
                    let kept = keep
                        .keep
                        .iter()
                        .any(|kept| kept.container == one.container && kept.ifname == one.ifname);
                    kept || one.network != keep.network || one.runtime != keep.runtime
                };
                let (kept, gone) =
                    state.endpoints.drain(..).partition(|one: &Endpoint| is_kept(&one.attachment));
                state.endpoints = kept;
                ok(KeepReply { detached: gone.into_iter().map(|one| one.attachment).collect() })
            }
            _ => refused(ApiError::new(ErrorCode::NotFound, "no such path")),
        }
    }
}

fn ready(mood: &mut Mood) -> Ready {
    match mood {
        Mood::NotReady { questions, is_connected } if *questions > 0 => {
            *questions -= 1;
            let detail = Some("the node has not joined a mesh".to_owned());
            Ready { can_attach: false, is_connected: *is_connected, detail }
        }
        _ => Ready { can_attach: true, is_connected: true, detail: None },
    }
}

/// An endpoint with what was wished, and for the rest always the same.
fn endpoint(request: AttachRequest) -> Endpoint {
    let wished = |is_ipv4, otherwise: &str| -> IpAddr {
        let wished = request.addresses.iter().find(|address| address.is_ipv4() == is_ipv4);
        wished.copied().unwrap_or_else(|| otherwise.parse().expect("an address"))
    };
    let routes =
        if request.is_default_route { ["0.0.0.0/0", "::/0"] } else { ["10.202.0.0/16", "fd77:202::/64"] };
    Endpoint {
        id: "1f0c9d2b7a4c".to_owned() + &"0".repeat(52),
        state: EndpointState::Attached,
        addresses: vec![wished(true, "10.202.0.66"), wished(false, "fd77:202::42")],
        gateways: vec!["169.254.1.1".parse().expect("an address"), "fe80::1".parse().expect("an address")],
        routes: routes.map(str::to_owned).to_vec(),
        mtu: request.mtu.unwrap_or(1420),
        host_link: "msh1f0c9d2b7a4c".to_owned(),
        host_mac: "02:00:00:00:00:01".to_owned(),
        container_link: request.attachment.ifname.clone(),
        container_mac: request.mac.unwrap_or_else(|| "02:00:0a:ca:00:42".to_owned()),
        name: request.name.map(|name| name + ".uva.mesh.internal"),
        labels: request.labels,
        since: 1_795_235_416,
        attachment: request.attachment,
    }
}

/// Reads the path and the body of a request.
fn request(stream: &UnixStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut len = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        match header.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                len = value.trim().parse().ok()?
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some((path, if len == 0 { Value::Null } else { serde_json::from_slice(&body).ok()? }))
}

fn ok<T: Body>(body: T) -> Vec<u8> {
    http(200, &serde_json::to_string(&Document::new(body)).expect("JSON"))
}

fn refused(error: ApiError) -> Vec<u8> {
    http(error.code.http_status(), &serde_json::to_string(&Document::new(error)).expect("JSON"))
}

fn http(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
