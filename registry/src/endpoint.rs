//! Where a registry is and how to speak to it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Certificate, Channel, Identity, TlsOptions};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::Endpoint as TonicEndpoint;

use crate::error::chain;

/// Time for TCP, TLS and HTTP/2 set-up of one endpoint.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// Ping interval on a connection with open streams; etcd closes clients that ping more often than every 5 s.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// An unanswered ping ends the connection, so that a cut network does not leave a watch hanging.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A byte stream to a registry, already authenticated.
pub trait Link: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

/// Opens a [`Link`]; called for each new connection.
pub type Dial =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Link>>> + Send>> + Send + Sync>;

/// Credentials for an etcd that requires TLS, each as PEM.
#[derive(Clone)]
pub struct EtcdTls {
    /// Certificates that may sign the server's.
    pub ca: Vec<u8>,
    /// The client's own certificate and private key, if the server asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").finish_non_exhaustive()
    }
}

/// One registry server, or the members of one etcd cluster.
#[derive(Clone)]
pub enum Endpoint {
    /// A real etcd; all `urls` are members of the same cluster.
    Etcd {
        /// `http://host:port`, `https://host:port` or `host:port`.
        urls: Vec<String>,
        /// Credentials; their presence makes `host:port` mean `https`.
        tls: Option<EtcdTls>,
    },
    /// A server reached over a stream that the caller opens.
    Channel {
        /// Name for messages.
        name: String,
        /// Opens the stream.
        dial: Dial,
    },
}

impl Endpoint {
    /// An etcd without TLS.
    pub fn etcd<I: IntoIterator<Item: Into<String>>>(urls: I) -> Self {
        Self::Etcd { urls: urls.into_iter().map(Into::into).collect(), tls: None }
    }

    /// A server reached through `dial`, which returns an open and authenticated stream.
    pub fn channel<F, Fut, L>(name: impl Into<String>, dial: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<L>> + Send + 'static,
        L: Link + 'static,
    {
        let dial: Dial = Arc::new(move || {
            let opening = dial();
            Box::pin(async move { opening.await.map(|link| Box::new(link) as Box<dyn Link>) })
        });
        Self::Channel { name: name.into(), dial }
    }

    /// The channels of this endpoint, each with its name; nothing is connected before the first call.
    pub(crate) fn channels(self) -> Result<Vec<(String, Channel)>, EndpointError> {
        match self {
            Self::Etcd { urls, tls } => urls.into_iter().map(|url| etcd_channel(url, tls.as_ref())).collect(),
            Self::Channel { name, dial } => {
                let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
                    let opening = dial();
                    async move { opening.await.map(TokioIo::new) }
                });
                let endpoint = with_timeouts(TonicEndpoint::from_static("http://registry.invalid"));
                Ok(vec![(name, Channel::Tonic(endpoint.connect_with_connector_lazy(connector)))])
            }
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd { urls, tls } => {
                f.debug_struct("Etcd").field("urls", urls).field("tls", &tls.is_some()).finish()
            }
            Self::Channel { name, dial: _ } => f.debug_tuple("Channel").field(name).finish(),
        }
    }
}

/// Why a set of endpoints cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// There is none.
    #[error("no registry endpoint given")]
    None,
    /// A URL does not parse.
    #[error("registry endpoint {url:?} is not a URL: {reason}")]
    BadUrl {
        /// The text.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `https` without credentials, or `http` with them.
    #[error("registry endpoint {url:?} does not fit its TLS settings: {reason}")]
    TlsMismatch {
        /// The URL.
        url: String,
        /// What does not fit.
        reason: &'static str,
    },
    /// The certificates or the key are not usable.
    #[error("TLS settings of registry endpoint {url:?} are not usable: {reason}")]
    BadTls {
        /// The URL.
        url: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The client could not be built.
    #[error("registry client for {name:?} could not be built: {reason}")]
    Client {
        /// The endpoint.
        name: String,
        /// Why.
        reason: String,
    },
}

fn etcd_channel(url: String, tls: Option<&EtcdTls>) -> Result<(String, Channel), EndpointError> {
    let full = match (url.split_once("://"), tls) {
        (None, None) => format!("http://{url}"),
        (None, Some(_)) => format!("https://{url}"),
        (Some(("http", _)), None) | (Some(("https", _)), Some(_)) => url.clone(),
        (Some(("http", _)), Some(_)) => {
            return Err(EndpointError::TlsMismatch { url, reason: "http with certificates" });
        }
        (Some(("https", _)), None) => {
            return Err(EndpointError::TlsMismatch { url, reason: "https without a ca" });
        }
        (Some(_), _) => {
            return Err(EndpointError::BadUrl { url, reason: "scheme is not http or https".to_owned() });
        }
    };
    let endpoint = TonicEndpoint::from_shared(full)
        .map_err(|error| EndpointError::BadUrl { url: url.clone(), reason: chain(&error) })?;
    if endpoint.uri().authority().is_none_or(|authority| authority.port().is_none()) {
        return Err(EndpointError::BadUrl { url, reason: "port is missing".to_owned() });
    }
    let mut endpoint = with_timeouts(endpoint);
    if let Some(EtcdTls { ca, identity }) = tls {
        let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
        if let Some((certificate, key)) = identity {
            options = options.identity(Identity::from_pem(certificate, key));
        }
        endpoint = endpoint
            .tls_config(options)
            .map_err(|error| EndpointError::BadTls { url: url.clone(), reason: chain(&error) })?;
    }
    Ok((url, Channel::Tonic(endpoint.connect_lazy())))
}

fn with_timeouts(endpoint: TonicEndpoint) -> TonicEndpoint {
    endpoint
        .connect_timeout(CONNECT_DEADLINE)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(false)
        .tcp_nodelay(true)
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, EndpointError, EtcdTls};

    fn refusal(url: &str, tls: bool) -> EndpointError {
        let tls = tls.then(|| EtcdTls { ca: Vec::new(), identity: None });
        let endpoint = Endpoint::Etcd { urls: vec![url.to_owned()], tls };
        match endpoint.channels() {
            Ok(_) => panic!("{url} was accepted"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn urls_that_cannot_work_are_refused_by_name() {
        for url in ["", "ftp://h:1", "http://", "http://host", "host", "not a url:1"] {
            let error = refusal(url, false);
            assert!(matches!(error, EndpointError::BadUrl { .. }), "{url}: {error}");
            assert!(error.to_string().contains(url));
        }
        assert!(matches!(refusal("https://h:1", false), EndpointError::TlsMismatch { .. }));
        assert!(matches!(refusal("http://h:1", true), EndpointError::TlsMismatch { .. }));
    }
}
