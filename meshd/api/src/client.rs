//! The client end: one connection a call, with a deadline and a bound on what is read.

mod events;

pub use events::{EVENT_BYTES_MAX, EventStream};

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::call::{Body, Call, Document, Method};
use crate::error::ApiError;
use crate::exit::Exit;

/// Largest answer read: the peers of a mesh of ten thousand nodes fit.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a daemon may take to accept a connection: it is local, so longer means that it hangs.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

/// Talks to the daemon behind a socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// What was answered, decoded and as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The body.
    pub body: T,
    /// The JSON text as it came.
    pub json: String,
}

/// Reports a call that did not come to a good end.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the socket, or it may not be opened.
    #[error("can't reach the daemon at {}", path.display())]
    NotReachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The daemon said no.
    #[error(transparent)]
    Api(Box<ApiError>),
    /// The daemon, or whoever listens there, does not speak this API.
    #[error("can't understand the daemon's answer: {0}")]
    Protocol(String),
    /// No answer in time.
    #[error("no answer from the daemon within {after_s} s")]
    TimedOut {
        /// How long it was waited for.
        after_s: u64,
    },
}

impl ClientError {
    /// How a command ends that meets this.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotReachable { source, path: _ } => match source.kind() {
                io::ErrorKind::PermissionDenied => Exit::Refused,
                _ => Exit::NotReachable,
            },
            Self::Api(error) => error.code.exit(),
            Self::Protocol(_) => Exit::Failed,
            Self::TimedOut { .. } => Exit::TimedOut,
        }
    }
}

impl Client {
    /// Makes a client of the daemon at `socket`; connects only when something is asked.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Socket it talks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes a call and waits for its answer.
    pub async fn call<C: Call>(&self, call: &C) -> Result<Answer<C::Reply>, ClientError> {
        let work = async {
            let (sender, connection) = self.connect().await?;
            drive(Box::pin(connection), exchange(sender, call)).await
        };
        let (status, json) = within(Duration::from_secs(C::DEADLINE_S), work).await?;
        decode(status, &json).map(|body| Answer { body, json })
    }

    /// Opens the stream of events; everything that happens after this returned is seen.
    pub async fn events(&self) -> Result<EventStream, ClientError> {
        EventStream::open(self).await
    }

    async fn connect(&self) -> Result<(http1::SendRequest<Full<Bytes>>, Connection), ClientError> {
        let not_reachable = |source| ClientError::NotReachable { path: self.socket.clone(), source };
        let stream = timeout(CONNECT_DEADLINE, UnixStream::connect(&self.socket))
            .await
            .map_err(|_| not_reachable(io::ErrorKind::TimedOut.into()))?
            .map_err(not_reachable)?;
        http1::handshake(TokioIo::new(stream)).await.map_err(protocol)
    }
}

/// Decodes an answer by its status: a body of the type wanted, or an error.
fn decode<T: Body>(status: u16, json: &str) -> Result<T, ClientError> {
    if (200..300).contains(&status) {
        return document(json);
    }
    match document::<ApiError>(json) {
        Ok(error) => Err(ClientError::Api(Box::new(error))),
        Err(_) => Err(ClientError::Protocol(format!("HTTP status {status} without an error document"))),
    }
}

/// Decodes a document and holds it to the schema of its type.
fn document<T: Body>(json: &str) -> Result<T, ClientError> {
    let document: Document<T> = serde_json::from_str(json).map_err(protocol)?;
    if document.fits() {
        return Ok(document.body);
    }
    Err(ClientError::Protocol(format!("schema {:?} where {:?} was expected", document.schema(), T::SCHEMA)))
}

fn protocol(error: impl std::fmt::Display) -> ClientError {
    ClientError::Protocol(error.to_string())
}

fn request<C: Call>(call: &C) -> Result<Request<Full<Bytes>>, ClientError> {
    // HTTP/1.1 asks for a host; on a unix socket its name has no meaning.
    let head = Request::builder().uri(C::PATH).header(header::HOST, "meshd");
    let request = match C::METHOD {
        Method::Get => head.method(hyper::Method::GET).body(Full::default()),
        Method::Post => {
            let body = serde_json::to_vec(call).map_err(protocol)?;
            head.method(hyper::Method::POST)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(body.into()))
        }
    };
    request.map_err(protocol)
}

async fn exchange<C: Call>(
    mut sender: http1::SendRequest<Full<Bytes>>,
    call: &C,
) -> Result<(u16, String), ClientError> {
    let response = sender.send_request(request(call)?).await.map_err(protocol)?;
    text(response).await
}

/// Reads a whole body, up to the bound.
async fn text(response: Response<Incoming>) -> Result<(u16, String), ClientError> {
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect().await.map_err(protocol)?;
    let text = String::from_utf8(body.to_bytes().into()).map_err(protocol)?;
    Ok((status, text))
}

/// Runs the connection beside the work that needs it, so that no task outlives the call.
async fn drive<T>(mut connection: Pin<Box<Connection>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        done = &mut work => done,
        // Whatever ended the connection, the work learns it from its own end.
        _ = &mut connection => work.await,
    }
}

async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match timeout(deadline, work).await {
        Ok(done) => done,
        Err(_) => Err(ClientError::TimedOut { after_s: deadline.as_secs() }),
    }
}
