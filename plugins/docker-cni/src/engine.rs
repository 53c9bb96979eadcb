//! Docker's own API, asked for what Docker tells no plugin: the names of containers, and which networks there are.
//!
//! Never asked from within a call of Docker: it may wait for the plugin while the plugin would wait for it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::body::nullable;
use crate::failure::Failure;

/// How long an answer may take; a daemon that starts containers is slow.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Largest answer read: a few thousand containers fit.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What happens comes in heaps: this long without news ends one,
const QUIET: Duration = Duration::from_millis(20);
/// and it is not waited longer for its end.
const HEAP_MAX: Duration = Duration::from_millis(200);

/// Asks for what changes names, labels and networks: `{"event":{"connect":true,…},"type":{…}}`, escaped. What is executed
/// in containers, and how well they are, would be told otherwise, too.
const EVENTS: &str = "/events?filters=%7B%22event%22%3A%7B%22connect%22%3Atrue%2C%22create%22%3Atrue%2C%22destroy%22%3Atrue%2C%22disconnect%22%3Atrue%2C%22rename%22%3Atrue%2C%22start%22%3Atrue%7D%2C%22type%22%3A%7B%22container%22%3Atrue%2C%22network%22%3Atrue%7D%7D";

type Connection = http1::Connection<TokioIo<UnixStream>, Empty<Bytes>>;

/// Docker behind its socket.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
}

/// A container that runs.
#[derive(Debug, Deserialize)]
pub struct Container {
    /// Its name, behind a slash; further ones are links of other containers.
    #[serde(rename = "Names", default, deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// Digest of its image.
    #[serde(rename = "ImageID", default, deserialize_with = "nullable")]
    pub image: String,
    /// Its labels.
    #[serde(rename = "Labels", default, deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    #[serde(rename = "NetworkSettings", default, deserialize_with = "nullable")]
    settings: Settings,
}

#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(rename = "Networks", default, deserialize_with = "nullable")]
    networks: BTreeMap<String, Place>,
}

/// A container's place in a network.
#[derive(Debug, Deserialize)]
pub struct Place {
    /// The network.
    #[serde(rename = "NetworkID", default, deserialize_with = "nullable")]
    pub network: String,
    /// The endpoint.
    #[serde(rename = "EndpointID", default, deserialize_with = "nullable")]
    pub endpoint: String,
}

#[derive(Debug, Deserialize)]
struct Network {
    #[serde(rename = "Id", default, deserialize_with = "nullable")]
    id: String,
}

impl Container {
    /// Where it is.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.settings.networks.values()
    }
}

impl Engine {
    /// Docker at a socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The containers that run.
    pub async fn containers(&self) -> Result<Vec<Container>, Failure> {
        self.get("/containers/json").await
    }

    /// Ids of all networks.
    pub async fn networks(&self) -> Result<Vec<String>, Failure> {
        let networks: Vec<Network> = self.get("/networks").await?;
        Ok(networks.into_iter().map(|network| network.id).collect())
    }

    /// Begins to listen; what happens after this returned is heard.
    pub async fn news(&self) -> Result<News, Failure> {
        let asked = async {
            let (mut sender, connection) = self.connect().await?;
            let mut connection = Box::pin(connection);
            let response = tokio::select! {
                response = sender.send_request(request(EVENTS)?) => response,
                _ = &mut connection => return Err(Failure::new("Docker hung up")),
            };
            let response = succeeded(response.map_err(|error| broken(&error))?)?;
            Ok(News { body: response.into_body(), connection, _sender: sender })
        };
        timeout(ANSWER_MAX, asked).await.unwrap_or_else(|_| Err(slow()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let asked = async {
            let (mut sender, connection) = self.connect().await?;
            let answer = async {
                let response = sender.send_request(request(path)?).await.map_err(|error| broken(&error))?;
                let body = Limited::new(succeeded(response)?.into_body(), ANSWER_BYTES_MAX).collect().await;
                let body = body.map_err(|error| broken(error.as_ref()))?.to_bytes();
                serde_json::from_slice(&body).map_err(|error| broken(&error))
            };
            let mut answer = std::pin::pin!(answer);
            tokio::select! {
                answer = &mut answer => answer,
                // Whatever ended the connection, the answer tells of it.
                _ = connection => answer.await,
            }
        };
        timeout(ANSWER_MAX, asked).await.unwrap_or_else(|_| Err(slow()))
    }

    async fn connect(&self) -> Result<(http1::SendRequest<Empty<Bytes>>, Connection), Failure> {
        let failed = |error: io::Error| {
            Failure::new(format!("Docker can't be reached at {}", self.socket.display())).because(&error)
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(failed)?;
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))
    }
}

/// What happens in Docker. It is not read: whoever hears of something looks at everything.
pub struct News {
    body: Incoming,
    connection: Pin<Box<Connection>>,
    /// Without it the connection ends.
    _sender: http1::SendRequest<Empty<Bytes>>,
}

impl News {
    /// Waits until something has happened; false when Docker ends the stream. May be cancelled without loss.
    pub async fn happened(&mut self) -> bool {
        if !self.frame().await {
            return false;
        }
        let end = Instant::now() + HEAP_MAX;
        // What comes after the heap is heard next time.
        while timeout_at(end.min(Instant::now() + QUIET), self.frame()).await.unwrap_or(false) {}
        true
    }

    async fn frame(&mut self) -> bool {
        let Self { body, connection, _sender } = self;
        tokio::select! {
            frame = body.frame() => frame.is_some_and(|frame| frame.is_ok()),
            _ = connection => false,
        }
    }
}

fn request(path: &str) -> Result<Request<Empty<Bytes>>, Failure> {
    // HTTP/1.1 asks for a host; on a unix socket its name has no meaning.
    let request = Request::get(path).header(header::HOST, "docker").body(Empty::new());
    request.map_err(|error| broken(&error))
}

fn succeeded(response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    match response.status().is_success() {
        true => Ok(response),
        false => Err(Failure::new(format!("Docker answered {}", response.status()))),
    }
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new("Docker's answer can't be read").because(error)
}

fn slow() -> Failure {
    Failure::new("Docker is too slow")
}
