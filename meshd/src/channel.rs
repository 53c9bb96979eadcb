//! Control channels: records travel from node to node over QUIC, beside every registry (docs/channel.md).
//!
//! A node has a channel with each of its neighbours, on the tunnel's UDP port and outside the tunnels. Both ends say what
//! they hold, ask for what they lack, and pass on what is new; what comes is verified like anything else. All of it runs
//! on a thread of its own, so that neither the event loop nor the data threads wait for it, whatever neighbours send.

mod allowance;
mod backoff;
mod holdings;
mod hub;
mod ledger;
mod members;
mod session;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use meshd_wire::NodeId;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::dataplane::QuicPort;
use crate::tls::{Admission, RawKey, TlsSetupError};

use hub::{Ends, Hub};
use socket::TunnelSocket;

pub use holdings::Holdings;
pub use members::{Member, Members};
pub use session::Received;

/// Name of the thread.
const THREAD: &str = "meshd-channel";
/// Messages of neighbours that wait for the event loop; then their channels wait.
const RECEIVED_MAX: usize = 16;
/// Complaints that wait; one that finds no room is made again with the next bad record.
const COMPLAINTS_MAX: usize = 64;

/// Says why there are no control channels.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The thread or its runtime.
    #[error("start thread {THREAD}")]
    Thread(#[from] io::Error),
    /// The node's key.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

/// The control channels of one node; dropping them closes all.
#[derive(Debug)]
pub struct Channels {
    /// What the channels tell others.
    pub holdings: Arc<Holdings>,
    members: watch::Sender<Arc<Members>>,
    complaints: mpsc::Sender<NodeId>,
    /// None once the thread has ended.
    received: Option<mpsc::Receiver<Received>>,
    connected: watch::Receiver<usize>,
    thread: Option<JoinHandle<()>>,
}

impl Channels {
    /// Starts the thread. `admitted` are the keys that may call.
    pub fn start(
        port: QuicPort,
        node: NodeId,
        key: RawKey,
        admitted: Admission,
    ) -> Result<Self, ChannelError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let holdings = Arc::new(Holdings::default());
        let (members, watched) = watch::channel(Arc::default());
        let (complaints, complained) = mpsc::channel(COMPLAINTS_MAX);
        let (receiver, received) = mpsc::channel(RECEIVED_MAX);
        let (counter, connected) = watch::channel(0);
        let endpoint = {
            // Its tasks are spawned on the runtime that is entered.
            let _entered = runtime.enter();
            hub::endpoint(Arc::new(TunnelSocket::new(port)), &key, admitted)?
        };
        let ends = Ends { members: watched, complaints: complained, received: receiver, connected: counter };
        let hub = Hub::new(node, key, endpoint, Arc::clone(&holdings), ends);
        let thread = Builder::new().name(THREAD.to_owned()).spawn(move || run(&runtime, hub))?;
        Ok(Self { holdings, members, complaints, received: Some(received), connected, thread: Some(thread) })
    }

    /// Replaces the members of the mesh, and where they are: who is none any more loses its channel.
    pub fn set_members(&self, members: Members) {
        self.members.send_if_modified(|held| {
            let differs = **held != members;
            if differs {
                *held = Arc::new(members);
            }
            differs
        });
    }

    /// All that neighbours have sent by now, once there is something. Cancel safe.
    pub async fn received(&mut self) -> Vec<Received> {
        let Some(receiver) = &mut self.received else { return std::future::pending().await };
        let mut received = Vec::new();
        if receiver.recv_many(&mut received, RECEIVED_MAX).await == 0 {
            tracing::error!(
                "the thread of the control channels has ended: records come from registries alone"
            );
            self.received = None;
        }
        received
    }

    /// Closes the channel of a neighbour that sends what no honest node holds, and has none with it for a while.
    pub fn complain(&self, neighbour: NodeId) {
        let _ = self.complaints.try_send(neighbour);
    }

    /// Channels at this moment.
    pub fn connected(&self) -> usize {
        *self.connected.borrow()
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        // The hub ends with its last sender.
        self.received = None;
        self.members = watch::channel(Arc::default()).0;
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread of the control channels had panicked");
        }
    }
}

fn run(runtime: &Runtime, hub: Hub) {
    runtime.block_on(hub.run());
}
