//! `meshctl wait`.

use std::time::Duration;

use clap::Args;
use meshd_api::{
    Answer, Client, ClientError, ErrorCode, EventStream, Exit, GetPeers, GetStatus, Membership, Peer,
    PeerState,
};
use tokio::time::{Instant, timeout_at};

use super::Daemon;
use crate::duration::Typed;
use crate::failure::Failure;
use crate::output::{Form, data, text};

/// Wait until this node is a member, or until others are connected.
#[derive(Debug, Args)]
pub struct Wait {
    /// Wait until this node is connected: name, node id or overlay address.
    #[arg(conflicts_with = "peers")]
    node: Option<String>,
    /// Wait until so many nodes are connected.
    #[arg(long, value_name = "N")]
    peers: Option<usize>,
    /// Give up after this span.
    #[arg(long, default_value = "30s", value_name = "SPAN")]
    timeout: Typed,
}

/// How often to look although no event came: events are hints, and a daemon may still be starting.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What the last look found.
enum Look {
    /// What is waited for is so; JSON to print and words for people.
    Done { json: String, human: String },
    /// It is not so yet; words for a timeout.
    NotYet(String),
}

impl Wait {
    /// Looks after each event, and now and then, until it is so.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let until = Instant::now() + self.timeout.0;
        let mut last = Failure::new(Exit::TimedOut, "timed out before the daemon answered");
        let done = timeout_at(until, async {
            let mut events: Option<EventStream> = None;
            loop {
                if events.is_none() {
                    // Without the stream it still looks now and then.
                    events = daemon.client.events().await.ok();
                }
                match self.look(&daemon.client).await {
                    Ok(Look::Done { json, human }) => return Ok((json, human)),
                    Ok(Look::NotYet(what)) => {
                        last = Failure::new(Exit::TimedOut, format!("timed out: {what}"))
                    }
                    Err(error) if may_pass(&error) => {
                        events = None;
                        last = error.into();
                    }
                    Err(error) => return Err(Failure::from(error)),
                }
                next_look(&mut events).await;
            }
        });
        let found = match done.await {
            Ok(found) => found,
            Err(_) => Err(last),
        };
        let (json, human) = found?;
        match daemon.form {
            Form::Human => text(&human),
            Form::Json => data(json.trim_end()),
        }
    }

    async fn look(&self, client: &Client) -> Result<Look, ClientError> {
        match (&self.node, self.peers) {
            (Some(node), _) => Ok(look_for(node, client.call(&GetPeers {}).await?)),
            (None, Some(count)) => Ok(look_for_many(count, client.call(&GetPeers {}).await?)),
            (None, None) => {
                let Answer { body, json } = client.call(&GetStatus {}).await?;
                Ok(match (body.membership, body.node) {
                    (Membership::Member, Some(node)) => Look::Done {
                        json,
                        human: format!("{} is a member, at {}, {}", node.name, node.addr4, node.addr6),
                    },
                    (membership, _) => Look::NotYet(format!("membership of this node is {membership}")),
                })
            }
        }
    }
}

fn look_for(node: &str, answer: Answer<meshd_api::Peers>) -> Look {
    let Some(peer) = answer.body.peers.iter().find(|peer| is(peer, node)) else {
        return Look::NotYet(format!("no node {node} is known"));
    };
    if peer.state == PeerState::Connected {
        let via = peer.path.as_deref().map(|path| format!(" via {path}")).unwrap_or_default();
        Look::Done { human: format!("{} is connected{via}", peer.name), json: answer.json }
    } else {
        Look::NotYet(format!("{} is {}", peer.name, peer.state))
    }
}

fn look_for_many(count: usize, answer: Answer<meshd_api::Peers>) -> Look {
    let peers = &answer.body.peers;
    let connected = peers.iter().filter(|peer| peer.state == PeerState::Connected).count();
    if connected >= count {
        Look::Done { human: format!("{connected} of {} connected", peers.len()), json: answer.json }
    } else {
        Look::NotYet(format!("{connected} of {} connected, {count} wanted", peers.len()))
    }
}

/// Whether a daemon that is starting or restarting would fail like this.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::NotReachable { .. } => error.exit() == Exit::NotReachable,
        ClientError::TimedOut { .. } => true,
        ClientError::Api(api) => api.code == ErrorCode::Unavailable,
        ClientError::Protocol(_) => false,
    }
}

fn is(peer: &Peer, node: &str) -> bool {
    peer.name == node
        || peer.id == node
        || node.strip_prefix(&peer.name).and_then(|rest| rest.strip_prefix('.')) == Some(peer.org.as_str())
        || node.parse() == Ok(peer.addr4)
        || node.parse() == Ok(peer.addr6)
}

/// Waits for an event or for the next regular look.
async fn next_look(events: &mut Option<EventStream>) {
    let Some(stream) = events else {
        tokio::time::sleep(LOOK_AGAIN).await;
        return;
    };
    // An event or nothing for a while are both reasons to look; a stream that ended is opened again.
    if let Ok(None | Some(Err(_))) = tokio::time::timeout(LOOK_AGAIN, stream.next()).await {
        *events = None;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
