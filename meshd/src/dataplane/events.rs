//! What the data plane tells the control plane.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use meshd_wire::NodeId;
use tokio::sync::mpsc;

use super::counters::{Counters, Reason};

/// Events that wait for the control plane: all peers of a large mesh may change at once.
const QUEUE_LEN_MAX: usize = 1024;

/// A change of a peer's tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Something authentic was received from a peer that was down.
    PeerUp {
        /// The peer.
        node: NodeId,
        /// Its proven address.
        endpoint: SocketAddr,
    },
    /// Nothing authentic was received for a minute, or the peer was removed.
    PeerDown {
        /// The peer.
        node: NodeId,
    },
    /// A peer that is up proved another address.
    PathChanged {
        /// The peer.
        node: NodeId,
        /// Its new address.
        endpoint: SocketAddr,
    },
    /// The overlay device was taken away; this data plane is of no more use.
    DeviceLost,
    /// A data thread panicked and started again; what it held is lost.
    ThreadRestarted {
        /// Name of the thread.
        thread: &'static str,
    },
    /// A thread ended that nobody told to; this data plane is of no more use.
    ThreadEnded {
        /// Name of the thread.
        thread: &'static str,
    },
}

/// The sending side; events beyond the queue are counted and dropped.
#[derive(Debug, Default)]
pub(super) struct Events {
    sender: Mutex<Option<mpsc::Sender<Event>>>,
}

impl Events {
    pub(super) fn subscribe(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(QUEUE_LEN_MAX);
        *self.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    pub(super) fn send(&self, event: Event, counters: &Counters) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        match sender.as_ref().map(|sender| sender.try_send(event)) {
            None | Some(Ok(())) => {}
            Some(Err(mpsc::error::TrySendError::Full(_))) => counters.add(Reason::EventQueueFull),
            Some(Err(mpsc::error::TrySendError::Closed(_))) => *sender = None,
        }
    }
}
