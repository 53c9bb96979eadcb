//! Watching a prefix across disconnects, restarts and compactions.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use etcd_client::proto::{PbEvent, PbWatchResponse};
use etcd_client::{WatchOptions, WatchStream};
use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::client::{ATTEMPT_DEADLINE, Registry};
use crate::error::{Attempt, CallError};
use crate::list::Listing;
use crate::range::KeyRange;
use crate::record::{Rev, Versioned};
use crate::task::Task;

/// Events waiting for a slow consumer; beyond, the connection itself is held back and the server's bound decides.
const EVENTS_WAITING_MAX: usize = 256;
/// Events of one change assembled from fragments: a change of more keys is seen by listing again.
const CHANGE_EVENTS_MAX: usize = 100_000;
/// `type` of a deletion on the wire.
const WIRE_DELETE: i32 = 1;

/// What happened under the watched prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key was written.
    Put(Versioned),
    /// A key was deleted, or vanished with its lease.
    Delete {
        /// The key.
        key: Bytes,
        /// The revision of the deletion.
        rev: Rev,
    },
    /// Changes were missed and are not kept: everything known before is replaced by `entries`.
    Resync {
        /// The revision that the entries show.
        rev: Rev,
        /// All keys under the prefix.
        entries: Vec<Versioned>,
    },
    /// The registry does not answer; events come late from here on.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// The registry answers (again).
    Connected,
}

/// Stream of [`Event`]s; it ends only when dropped.
#[derive(Debug)]
pub struct Watch {
    events: mpsc::Receiver<Event>,
    _task: Task,
}

impl Watch {
    pub(crate) fn start(registry: Registry, prefix: Vec<u8>, from: Rev) -> Self {
        let (out, events) = mpsc::channel(EVENTS_WAITING_MAX);
        let follower =
            Follower { registry, prefix, next: from, history: None, connected: false, heard: true, out };
        let task = Task::spawn(async move {
            // The consumer is gone: the task is about to be aborted anyway.
            let Err(ConsumerGone) = follower.run().await;
        });
        Self { events, _task: task }
    }

    /// The next event.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Stream for Watch {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(cx)
    }
}

struct ConsumerGone;

enum Never {}

/// Why one watch at one server ended.
enum Ended {
    /// The server or the connection failed.
    Lost(String),
    /// The revision wanted is not kept, or the server's history is another one: list again.
    Stale,
    ConsumerGone,
}

struct Follower {
    registry: Registry,
    prefix: Vec<u8>,
    /// First revision not yet delivered; zero before the first listing.
    next: Rev,
    /// The registry's own number; another number means another history.
    history: Option<u64>,
    connected: bool,
    /// Whether a disconnect is worth an event: true at the start and after each connect.
    heard: bool,
    out: mpsc::Sender<Event>,
}

impl Follower {
    async fn run(mut self) -> Result<Never, ConsumerGone> {
        let mut backoff = Backoff::new();
        loop {
            if self.next == Rev::ZERO {
                match self.registry.list_all(&self.prefix).await {
                    Ok(listing) => self.resync(listing).await?,
                    Err(error) => {
                        self.disconnected(error.to_string()).await?;
                        backoff.pause().await;
                        continue;
                    }
                }
            }
            let server = self.registry.server();
            let index = server.index;
            match self.follow(server.watch).await {
                Ended::ConsumerGone => return Err(ConsumerGone),
                Ended::Stale => self.next = Rev::ZERO,
                Ended::Lost(reason) => {
                    if self.connected {
                        backoff.reset();
                    }
                    self.registry.turn_from(index);
                    self.disconnected(reason).await?;
                }
            }
            backoff.pause().await;
        }
    }

    /// Watches at one server until that ends.
    async fn follow(&mut self, mut client: etcd_client::WatchClient) -> Ended {
        let (key, range_end) = KeyRange::prefix(self.prefix.clone()).to_wire();
        let options = WatchOptions::new()
            .with_range(range_end)
            .with_start_revision(self.next.to_wire())
            .with_progress_notify()
            .with_fragment();
        let opening = async {
            let mut stream = client.watch(key, Some(options)).await?;
            let first = stream.message().await?;
            Ok::<_, etcd_client::Error>((stream, first))
        };
        let (mut stream, first) = match timeout(ATTEMPT_DEADLINE, opening).await {
            Ok(Ok((stream, Some(first)))) => (stream, first.0),
            Ok(Ok((_, None))) => return Ended::Lost(String::from("watch ended before it began")),
            Ok(Err(error)) => return ended_by(error.into()),
            Err(_) => return Ended::Lost(String::from("no answer to a watch")),
        };
        if let Err(ended) = self.admit(&first) {
            return ended;
        }
        if self.connected().await.is_err() {
            return Ended::ConsumerGone;
        }
        self.pump(first, &mut stream).await
    }

    /// Judges the first response of a watch.
    fn admit(&mut self, first: &PbWatchResponse) -> Result<(), Ended> {
        if first.canceled {
            return Err(cancelled(first));
        }
        let Some(header) = &first.header else {
            return Err(Ended::Lost(String::from("watch response without a header")));
        };
        let known = self.history.replace(header.cluster_id);
        // A registry that was wiped counts anew: its revisions say nothing about what was delivered so far.
        let other_history = known.is_some_and(|known| known != header.cluster_id);
        if other_history || Rev::from_wire(header.revision).next() < self.next {
            return Err(Ended::Stale);
        }
        Ok(())
    }

    async fn pump(&mut self, first: PbWatchResponse, stream: &mut WatchStream) -> Ended {
        let mut response = first;
        let mut assembled = Vec::new();
        loop {
            if response.canceled {
                return cancelled(&response);
            }
            let progress = response.events.is_empty() && !response.created;
            let header_rev = response.header.as_ref().map_or(Rev::ZERO, |h| Rev::from_wire(h.revision));
            assembled.append(&mut response.events);
            if assembled.len() > CHANGE_EVENTS_MAX {
                return Ended::Stale;
            }
            if !response.fragment {
                for event in assembled.drain(..) {
                    if let Err(ended) = self.deliver(event).await {
                        return ended;
                    }
                }
                if progress {
                    self.next = self.next.max(header_rev.next());
                }
            }
            response = match stream.message().await {
                Ok(Some(next)) => next.0,
                Ok(None) => return Ended::Lost(String::from("watch ended")),
                Err(error) => return ended_by(error.into()),
            };
        }
    }

    async fn deliver(&mut self, wire: PbEvent) -> Result<(), Ended> {
        let Some(kv) = wire.kv else {
            return Err(Ended::Lost(String::from("event without a key")));
        };
        let entry = Versioned::from(kv);
        let rev = entry.modified;
        let event = if wire.r#type == WIRE_DELETE {
            Event::Delete { key: entry.key, rev }
        } else {
            Event::Put(entry)
        };
        self.out.send(event).await.map_err(|_| Ended::ConsumerGone)?;
        // All events of a revision are delivered together, so a resume never splits one.
        self.next = self.next.max(rev.next());
        Ok(())
    }

    async fn resync(&mut self, listing: Listing) -> Result<(), ConsumerGone> {
        let Listing { entries, rev } = listing;
        self.connected().await?;
        self.send(Event::Resync { rev, entries }).await?;
        self.next = rev.next();
        Ok(())
    }

    async fn connected(&mut self) -> Result<(), ConsumerGone> {
        self.heard = true;
        if !self.connected {
            self.connected = true;
            self.send(Event::Connected).await?;
        }
        Ok(())
    }

    async fn disconnected(&mut self, reason: String) -> Result<(), ConsumerGone> {
        self.connected = false;
        if self.heard {
            self.heard = false;
            self.send(Event::Disconnected { reason }).await?;
        }
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<(), ConsumerGone> {
        self.out.send(event).await.map_err(|_| ConsumerGone)
    }
}

fn cancelled(response: &PbWatchResponse) -> Ended {
    // The number tells a compaction; etcd 3.4 leaves the reason empty.
    if response.compact_revision > 0 {
        return Ended::Stale;
    }
    Ended::Lost(format!("watch cancelled: {}", response.cancel_reason))
}

fn ended_by(attempt: Attempt) -> Ended {
    match attempt {
        // One change that does not fit the message limit would come again for ever.
        Attempt::Refused(CallError::TooLarge { .. } | CallError::Compacted { .. }) => Ended::Stale,
        Attempt::Refused(error) => Ended::Lost(error.to_string()),
        Attempt::NotSent(reason) | Attempt::Lost(reason) => Ended::Lost(reason),
    }
}
