//! What an engine asks its caller to do.

use std::sync::Arc;
use std::time::Duration;

use crate::message::Message;
use crate::{Refused, RxSession, TunnelId, TxSession, Via};

/// One thing to do; [`crate::Engine::poll`] gives them in the order they must be done.
#[derive(Debug)]
pub enum Action {
    /// Send a message.
    Send {
        /// The tunnel it belongs to; none for a cookie, whose receiver is nobody yet.
        tunnel: Option<TunnelId>,
        /// Which way.
        to: To,
        /// The bytes.
        message: Message,
    },
    /// Open messages with this index by this session.
    InstallRx {
        /// The tunnel.
        tunnel: TunnelId,
        /// The session.
        rx: Arc<RxSession>,
    },
    /// Seal the packets of this tunnel by this session from now on.
    InstallTx {
        /// The tunnel.
        tunnel: TunnelId,
        /// The session.
        tx: Arc<TxSession>,
    },
    /// Forget the receiving session with this index.
    RetireIndex {
        /// The index.
        index: u32,
    },
    /// Forget the sending session of this tunnel.
    DropTx {
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// Note what became of a tunnel.
    Event(TunnelEvent),
    /// Count a message that was refused.
    Refused(Refused),
}

/// How soon a message that waits should be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// An answer that this node waits for. Who has not seen what it answers cannot make one up.
    Awaited,
    /// An initiation from an address that is proven.
    Proven,
    /// What anybody may send from anywhere.
    Last,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Back the way the message came that it answers.
    Reply(Via),
    /// The way the caller has chosen for the tunnel.
    Chosen,
}

/// What became of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEvent {
    /// A handshake is complete and both ends have shown that they hold its keys.
    Established {
        /// The tunnel.
        tunnel: TunnelId,
        /// The way the handshake message of the peer came.
        via: Via,
    },
    /// The peer has not answered for 90 seconds. The next packet for it starts anew.
    GaveUp {
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// The keys of the tunnel are too old for any use and were wiped.
    Expired {
        /// The tunnel.
        tunnel: TunnelId,
    },
}

/// How a tunnel is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelStatus {
    /// When the session that seals was made.
    pub established_at: Option<Duration>,
    /// Whether packets can be sealed.
    pub has_session: bool,
    /// Whether the last handshake was given up and nothing has started one since.
    pub given_up: bool,
    /// Since when the running handshake goes without an answer.
    pub attempts_since: Option<Duration>,
    /// When something authentic came last.
    pub received_at: Option<Duration>,
}
