//! DNS over TCP: connections of bounded number, each with one query at a time.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Transport, answer};
use super::listen::{Asked, Desk};
use crate::places::{Place, Places, Source};

/// Connections to one socket at a time, each with a buffer of one query.
const CONNECTIONS_MAX: usize = 64;
/// Of them, connections of one source.
const CONNECTIONS_PER_SOURCE_MAX: usize = 32;
/// Longest query; longer ones end the connection.
const QUERY_BYTES_MAX: usize = 4096;
/// Longest wait for a whole query (RFC 7766, section 6.2.3), and for the asker to take its answer.
const ASKER_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after the system could not accept, out of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections; they end with its future.
pub(super) async fn serve(listener: TcpListener, asked: Asked, desk: Desk) {
    let places = Places::new(CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, asker)) => {
                if let Some(place) = places.take(Source::of(asker.ip())) {
                    connections.spawn(attend(stream, asker.ip(), place, asked, desk.clone()));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "accept a connection for queries");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection as long as it may keep its place.
async fn attend(stream: TcpStream, asker: IpAddr, place: Place, asked: Asked, desk: Desk) {
    let ended = tokio::select! {
        ended = converse(stream, asker, asked, &desk) => ended,
        () = place.lost() => return,
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection for queries ended");
    }
}

async fn converse(mut stream: TcpStream, asker: IpAddr, asked: Asked, desk: &Desk) -> io::Result<()> {
    loop {
        let query = timeout(ASKER_DEADLINE, read_query(&mut stream)).await??;
        let zone = desk.zone_for(asked, asker);
        let Some(reply) = answer(&zone, &query, Transport::Tcp) else { return Ok(()) };
        let Ok(len) = u16::try_from(reply.len()) else { return Ok(()) };
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend(reply);
        timeout(ASKER_DEADLINE, stream.write_all(&framed)).await??;
    }
}

async fn read_query(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = usize::from(stream.read_u16().await?);
    if len > QUERY_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the query is too long"));
    }
    let mut query = vec![0; len];
    stream.read_exact(&mut query).await?;
    Ok(query)
}
