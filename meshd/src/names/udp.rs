//! DNS over UDP: one query after the other, each answered from memory.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::answer::{Transport, answer};
use super::listen::{Asked, Desk};

/// Longest query read whole; a name and its options have a fifth of that.
const QUERY_BYTES_MAX: usize = 4096;
/// Pause after the socket failed, so that one that goes on failing costs nothing.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes; ends with its future.
pub(super) async fn serve(socket: UdpSocket, asked: Asked, desk: Desk) {
    let mut buffer = [0; QUERY_BYTES_MAX];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, asker)) => {
                reply(&socket, buffer.get(..len).unwrap_or_default(), asker, asked, &desk).await
            }
            Err(error) => {
                tracing::debug!(%error, "receive a query");
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

async fn reply(socket: &UdpSocket, query: &[u8], asker: SocketAddr, asked: Asked, desk: &Desk) {
    let zone = desk.zone_for(asked, asker.ip());
    let Some(reply) = answer(&zone, query, Transport::Udp) else { return };
    // An asker that can't be reached asks again.
    if let Err(error) = socket.send_to(&reply, asker).await {
        tracing::trace!(%error, "send an answer");
    }
}
