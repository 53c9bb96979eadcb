//! Stands in for meshd in the tests of plugins: answers at a socket as meshd would, and remembers what was asked.
//!
//! What it knows is small and always the same, so that tests can say word for word what comes out. It is no model of
//! meshd: nothing is judged here that a plugin does not have to cope with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use meshd_api::{
    ApiError, AttachRequest, Attachment, Body, CheckReply, CheckRequest, ClaimReply, ClaimRequest,
    DescribeRequest, DetachReply, DetachRequest, Document, Endpoint, EndpointState, Endpoints, ErrorCode,
    Identity, KeepReply, KeepRequest, Network, NetworkReply, Networks, PoliciesReply, PutNetworkRequest,
    Ready, ReleaseReply, ReleaseRequest, RemoveNetworkReply, RemoveNetworkRequest,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Number of the first address that is given in a pool.
const FIRST_ADDRESS: u32 = 101;

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
    NotReady {
        /// How many questions get this answer.
        questions: usize,
        /// What it says of what is attached already.
        is_connected: bool,
    },
    /// That these things are missing in whatever is checked.
    Faulty(Vec<String>),
}

#[derive(Debug, Default)]
struct State {
    mood: Mood,
    asked: Vec<(String, Value)>,
    networks: Vec<Network>,
    claimed: Vec<IpAddr>,
    endpoints: Vec<Endpoint>,
}

/// The stand-in; it ends with the test's process.
#[derive(Debug, Clone)]
pub struct Daemon {
    state: Arc<Mutex<State>>,
}

impl Daemon {
    /// Listens at a socket.
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

    /// Addresses that were claimed and not given back.
    pub fn claimed(&self) -> Vec<IpAddr> {
        self.state().claimed.clone()
    }

    /// Networks that are known.
    pub fn networks(&self) -> Vec<Network> {
        self.state().networks.clone()
    }

    /// Forgets everything, as a meshd that left its mesh.
    pub fn forget(&self) {
        let mut state = self.state();
        *state = State { mood: state.mood.clone(), ..State::default() };
    }

    /// From now on it answers so.
    pub fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    fn serve(&self, mut stream: UnixStream) {
        let Some((path, body)) = read(&stream) else { return };
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
            "/v1/policies/set" => ok(PoliciesReply { endpoints: state.endpoints.len() }),
            "/v1/networks" => ok(networks(&state.networks)),
            "/v1/networks/put" => {
                let PutNetworkRequest { network } = request(body);
                state.networks.retain(|one| !is_same(one, &network.runtime, &network.network));
                state.networks.push(network.clone());
                ok(NetworkReply { network })
            }
            "/v1/networks/remove" => {
                let RemoveNetworkRequest { runtime, network } = request(body);
                if state.endpoints.iter().any(|one| one.attachment.network == network) {
                    return refused(ApiError::new(ErrorCode::InUse, "the network has endpoints"));
                }
                let before = state.networks.len();
                state.networks.retain(|one| !is_same(one, &runtime, &network));
                ok(RemoveNetworkReply { existed: state.networks.len() < before })
            }
            "/v1/addresses/claim" => match claim(&state.claimed, &request(body)) {
                Ok(address) => {
                    state.claimed.push(address);
                    ok(ClaimReply { address })
                }
                Err(error) => refused(error),
            },
            "/v1/addresses/release" => {
                let ReleaseRequest { address } = request(body);
                let before = state.claimed.len();
                state.claimed.retain(|one| *one != address);
                ok(ReleaseReply { existed: state.claimed.len() < before })
            }
            "/v1/endpoints/attach" => {
                let endpoint = endpoint(request(body));
                state.endpoints.retain(|one| one.attachment != endpoint.attachment);
                state.endpoints.push(endpoint.clone());
                ok(endpoint)
            }
            "/v1/endpoints/describe" => {
                let DescribeRequest { attachment, sandbox: _, identity } = request(body);
                match state.endpoints.iter_mut().find(|endpoint| endpoint.attachment == attachment) {
                    Some(endpoint) => {
                        if let Some(Identity { name, labels, image: _ }) = identity {
                            (endpoint.name, endpoint.labels) = (name, labels);
                        }
                        ok(endpoint.clone())
                    }
                    None => refused(ApiError::new(ErrorCode::NotFound, "it is not attached")),
                }
            }
            "/v1/endpoints/check" => {
                let CheckRequest { attachment } = request(body);
                match (&state.mood, state.endpoints.iter().any(|endpoint| endpoint.attachment == attachment))
                {
                    (Mood::Faulty(faults), true) => ok(CheckReply { faults: faults.clone() }),
                    (_, true) => ok(CheckReply { faults: Vec::new() }),
                    (_, false) => refused(ApiError::new(ErrorCode::NotFound, "it is not attached")),
                }
            }
            "/v1/endpoints/detach" => {
                let DetachRequest { attachment } = request(body);
                let before = state.endpoints.len();
                state.endpoints.retain(|endpoint| endpoint.attachment != attachment);
                ok(DetachReply { detached: before - state.endpoints.len() })
            }
            "/v1/endpoints/keep" => {
                let keep: KeepRequest = request(body);
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

fn is_same(known: &Network, runtime: &str, network: &str) -> bool {
    known.runtime == runtime && known.network == network
}

/// The networks, in an organisation with room for those of the tests and a mesh with room for more.
fn networks(networks: &[Network]) -> Networks {
    let texts = |texts: [&str; 2]| texts.map(str::to_owned).to_vec();
    Networks {
        networks: networks.to_vec(),
        own_prefixes: texts(["10.200.0.0/14", "fd77:202::/48"]),
        mesh_prefixes: texts(["10.192.0.0/10", "fd77::/16"]),
    }
}

/// The address that is wished for, or the first free one from a fixed number on.
fn claim(claimed: &[IpAddr], request: &ClaimRequest) -> Result<IpAddr, ApiError> {
    if let Some(address) = request.address {
        return match claimed.contains(&address) {
            true => Err(ApiError::new(ErrorCode::AddressTaken, format!("{address} is taken"))
                .with_cause("by web of node b")),
            false => Ok(address),
        };
    }
    let from = request.range.as_ref().unwrap_or(&request.pool);
    let base = from.split('/').next().and_then(|base| base.parse().ok()).expect("a prefix");
    let address = |number: u32| -> IpAddr {
        match base {
            IpAddr::V4(base) => Ipv4Addr::from(u32::from(base).wrapping_add(number)).into(),
            IpAddr::V6(base) => Ipv6Addr::from(u128::from(base).wrapping_add(number.into())).into(),
        }
    };
    Ok((FIRST_ADDRESS..).map(address).find(|one| !claimed.contains(one)).expect("a free address"))
}

/// An endpoint with what was wished, and for the rest always the same.
fn endpoint(request: AttachRequest) -> Endpoint {
    let chosen = ["10.202.0.66", "fd77:202::42"].map(|text| text.parse().expect("an address"));
    // A runtime that takes the link over has chosen all addresses before.
    let is_handed_over = request.namespace.is_none();
    let address = |otherwise: IpAddr| -> Option<IpAddr> {
        let wished = request.addresses.iter().find(|address| address.is_ipv4() == otherwise.is_ipv4());
        wished.copied().or_else(|| (!is_handed_over).then_some(otherwise))
    };
    let addresses: Vec<IpAddr> = chosen.into_iter().filter_map(address).collect();
    let has = |is_ipv4| addresses.iter().any(|address| address.is_ipv4() == is_ipv4);
    let gateways = ["169.254.1.1", "fe80::1"].map(|text| text.parse::<IpAddr>().expect("an address"));
    let routes =
        if request.is_default_route { ["0.0.0.0/0", "::/0"] } else { ["10.202.0.0/16", "fd77:202::/64"] };
    Endpoint {
        id: "1f0c9d2b7a4c".to_owned() + &"0".repeat(52),
        state: EndpointState::Attached,
        gateways: gateways.into_iter().filter(|gateway| has(gateway.is_ipv4())).collect(),
        routes: routes.into_iter().filter(|route| has(!route.contains(':'))).map(str::to_owned).collect(),
        addresses,
        mtu: request.mtu.unwrap_or(1420),
        host_link: "msh1f0c9d2b7a4c".to_owned(),
        host_mac: "02:00:00:00:00:01".to_owned(),
        container_link: match request.attachment.ifname.as_str() {
            "" => "msc1f0c9d2b7a4c".to_owned(),
            ifname => ifname.to_owned(),
        },
        container_mac: request.mac.unwrap_or_else(|| "02:00:0a:ca:00:42".to_owned()),
        dns_name: request.name.as_ref().map(|name| format!("{name}.uva.mesh.internal")),
        name: request.name,
        labels: request.labels,
        since: 1_795_235_416,
        attachment: request.attachment,
    }
}

fn request<C: DeserializeOwned>(body: Value) -> C {
    serde_json::from_value(body).expect("a request")
}

/// Reads the path and the body of a request.
fn read(stream: &UnixStream) -> Option<(String, Value)> {
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
    http(200, &serde_json::to_string(&Document::new(body)).expect("a document"))
}

fn refused(error: ApiError) -> Vec<u8> {
    http(error.code.http_status(), &serde_json::to_string(&Document::new(error)).expect("a document"))
}

fn http(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
