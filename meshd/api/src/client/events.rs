//! Reading the stream of events.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::{Body as _, Incoming};

use super::{
    Answer, CONNECT_DEADLINE, Client, ClientError, Connection, decode, document, drive, protocol, request,
    text, within,
};
use crate::events::{Event, GetEvents};

/// Longest line of the stream: an event is a few hundred bytes, this leaves room for many addresses.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;

/// Events as they happen, each with its line as it came.
pub struct EventStream {
    body: Incoming,
    connection: Option<Pin<Box<Connection>>>,
    buffer: BytesMut,
}

impl EventStream {
    pub(super) async fn open(client: &Client) -> Result<Self, ClientError> {
        within(CONNECT_DEADLINE, async {
            let (mut sender, connection) = client.connect().await?;
            let mut connection = Box::pin(connection);
            let mut sending = Box::pin(sender.send_request(request(&GetEvents {})?));
            let mut ended = false;
            let response = poll_fn(|cx| {
                if !ended && connection.as_mut().poll(cx).is_ready() {
                    ended = true;
                }
                sending.as_mut().poll(cx)
            })
            .await
            .map_err(protocol)?;
            drop(sending);
            if !response.status().is_success() {
                let (status, json) = drive(connection, text(response)).await?;
                return Err(match decode::<Event>(status, &json) {
                    Ok(_) => ClientError::Protocol("an event where an error was expected".into()),
                    Err(error) => error,
                });
            }
            let connection = (!ended).then_some(connection);
            Ok(Self { body: response.into_body(), connection, buffer: BytesMut::new() })
        })
        .await
    }

    /// Waits for the next event; none when the daemon ends the stream. May be cancelled without loss.
    pub async fn next(&mut self) -> Option<Result<Answer<Event>, ClientError>> {
        loop {
            if let Some(line) = self.take_line() {
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some(parse(&line));
            }
            if self.buffer.len() > EVENT_BYTES_MAX {
                self.buffer.clear();
                return Some(Err(ClientError::Protocol("a line of the event stream is too long".into())));
            }
            match poll_fn(|cx| self.poll_data(cx)).await? {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn take_line(&mut self) -> Option<BytesMut> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let line = self.buffer.split_to(end);
        self.buffer.advance(1);
        Some(line)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClientError>>> {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            // The body tells how it ended.
            self.connection = None;
        }
        loop {
            return Poll::Ready(match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => None,
                Some(Err(error)) => Some(Err(protocol(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(data)),
                    // Trailers say nothing here.
                    Err(_) => continue,
                },
            });
        }
    }
}

fn parse(line: &[u8]) -> Result<Answer<Event>, ClientError> {
    let json = std::str::from_utf8(line).map_err(protocol)?.to_owned();
    document(&json).map(|body| Answer { body, json })
}
