//! The node's end of an enrolment connection.

use std::net::SocketAddr;
use std::time::Duration;

use meshd_wire::enrol::{EnrolReply, EnrolRequest};
use meshd_wire::limits::FRAME_BYTES_MAX;
use meshd_wire::{DecodeError, PublicKey};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::frame::{FrameError, read_frame, write_frame};
use crate::tls::{ALPN_ENROL, ConnectError, Connection, EXPORTER_LABEL, RawKey, ServerKey, connect};

/// Longest wait for a reply: the steward's own deadline and the way.
const REPLY_DEADLINE: Duration = Duration::from_secs(15);
/// Addresses tried for one call: those a host publishes at most.
pub(super) const ADDRESSES_MAX: usize = 12;

/// Reports a request without a usable reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection broke.
    #[error("the connection to the steward broke")]
    Broken(#[source] FrameError),
    /// The steward closed the connection instead of answering.
    #[error("the steward closed the connection without an answer")]
    Closed,
    /// No reply in time.
    #[error("the steward does not answer within {} s", REPLY_DEADLINE.as_secs())]
    TimedOut,
    /// The reply can't be read.
    #[error("read the steward's answer")]
    Reply(#[source] DecodeError),
}

/// A connection to a steward.
#[derive(Debug)]
pub struct EnrolClient {
    connection: Connection,
    exporter: Zeroizing<[u8; 32]>,
}

impl EnrolClient {
    /// Connects to the first address that answers; the error is that of the last one tried.
    ///
    /// None if there is no address at all.
    pub async fn connect(
        at: &[SocketAddr],
        key: &RawKey,
        server: ServerKey,
    ) -> Option<Result<Self, ConnectError>> {
        let mut last = None;
        for &at in at.iter().take(ADDRESSES_MAX) {
            match Self::connect_one(at, key, server.clone()).await {
                Ok(client) => return Some(Ok(client)),
                Err(error) => last = Some(Err(error)),
            }
        }
        last
    }

    async fn connect_one(at: SocketAddr, key: &RawKey, server: ServerKey) -> Result<Self, ConnectError> {
        let connection = connect(at, key, server, ALPN_ENROL).await?;
        let session = connection.stream.get_ref().1;
        let exporter = session
            .export_keying_material([0; 32], EXPORTER_LABEL, None)
            .map_err(|error| ConnectError::Protocol { at, source: std::io::Error::other(error) })?;
        Ok(Self { connection, exporter: Zeroizing::new(exporter) })
    }

    /// Key that the server has proved.
    pub fn server_key(&self) -> PublicKey {
        self.connection.server
    }

    /// Exporter of this connection.
    pub fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }

    /// Sends a request and waits for its reply.
    pub async fn call(&mut self, request: &EnrolRequest) -> Result<EnrolReply, CallError> {
        timeout(REPLY_DEADLINE, self.exchange(request)).await.unwrap_or(Err(CallError::TimedOut))
    }

    async fn exchange(&mut self, request: &EnrolRequest) -> Result<EnrolReply, CallError> {
        let stream = &mut self.connection.stream;
        let broken = |error: std::io::Error| CallError::Broken(FrameError::Io(error));
        write_frame(stream, &request.to_bytes()).await.map_err(broken)?;
        let frame = read_frame(stream, FRAME_BYTES_MAX).await.map_err(CallError::Broken)?;
        EnrolReply::from_bytes(&frame.ok_or(CallError::Closed)?).map_err(CallError::Reply)
    }
}
