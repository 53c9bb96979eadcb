//! Claims addresses and blocks in the registry, beside the event loop.
//!
//! ```text
//! Pool::next ─▶ sign ─▶ compare-and-swap ─▶ look around ─▶ own roster ─▶ it is ours
//!                            │ somebody's         │ a block around it,     │ refused
//!                            ▼                    ▼ or one that overlaps   ▼
//!                       the roster judges     withdrawn, the next one is tried
//! ```
//!
//! Nothing that the registry says is believed here: values go to the event loop, whose roster verifies them and says
//! who holds what. A claim that was written and then could not be looked after is withdrawn; what of that is lost, the
//! loop finds in its roster ([`crate::mesh::Mesh::withdraw_strays`]).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use meshd_core::pool::{Allocation, Claimed, Holder, Next, NoAddress, REST, Step, Wish};
use meshd_registry::{CallError, CasOutcome, Expect, Registry, Versioned};
use meshd_trust::Refusal;
use meshd_wire::record::Endpoint;
use meshd_wire::{Envelope, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::addresses::{Addresses, NoPool, time};
use super::signer::{Claim, ClaimSigner};
use crate::clock::wall;
use crate::daemon::Message;
use crate::discovery::keyspace::{Keyspace, Slot};

/// Longest time one call of the registry, or one question to the loop, takes.
const CALL_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest time an address takes: less than a caller of the control API waits.
const TAKE_TIME_MAX: Duration = Duration::from_secs(20);
/// Tries to write a claim whose key changes meanwhile.
const SWAPS_MAX: u32 = 8;
/// Blocks tried ahead of need at one time, if others have them.
const BLOCKS_TRIED_MAX: usize = 8;
/// Nodes whose certificates are fetched to judge one claim; more than one is unknown only when many join at once.
const STRANGERS_MAX: usize = 16;

/// Key and value as a registry has them.
type Entry = (Vec<u8>, Vec<u8>);

/// Says why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Not a pool.
    #[error(transparent)]
    NoPool(#[from] NoPool),
    /// The pool has none, or not the wanted one.
    #[error("{}", asked_for(*wanted))]
    NoAddress {
        /// The wanted one.
        wanted: Option<IpAddr>,
        /// Why not.
        #[source]
        why: NoAddress<NodeId>,
    },
    /// Nobody can be asked which addresses are free.
    #[error("the registry is not reached, and this node has no block with a free address: {cause}")]
    NoRegistry {
        /// What was tried last.
        cause: String,
    },
    /// The own roster does not accept the claim.
    #[error("this node may not claim it")]
    Refused(#[source] Refusal),
    /// The pool or the mesh was left meanwhile.
    #[error("the pool is not used any more")]
    Gone,
    /// Others were always faster, or the registry slow.
    #[error("no claim was settled within {} s", TAKE_TIME_MAX.as_secs())]
    Late,
}

/// Why a claim did not come to its end.
#[derive(Debug)]
enum Failure {
    /// Nobody has heard of it.
    Unheard(String),
    /// Somebody may have heard of it.
    Unknown(String),
    Refused(Refusal),
    LoopGone,
}

/// What came of a claim.
enum Outcome {
    /// It stands; others have these claims inside, if it is a block.
    Stands(Vec<Claimed<NodeId>>),
    /// Another one is in its way.
    Refused(Claimed<NodeId>),
}

/// Claims addresses and blocks for this node; clones claim side by side.
#[derive(Clone)]
pub struct Claimant {
    registry: Option<Registry>,
    keyspace: Keyspace,
    signer: ClaimSigner,
    addresses: Addresses,
    messages: mpsc::Sender<Message>,
}

impl Claimant {
    /// Claims in one registry, or in none.
    pub fn new(
        registry: Option<Registry>,
        keyspace: Keyspace,
        signer: ClaimSigner,
        addresses: Addresses,
        messages: mpsc::Sender<Message>,
    ) -> Self {
        Self { registry, keyspace, signer, addresses, messages }
    }

    /// Takes an address of a pool: the wanted one, or one in the ranges, at the same place as another one if that is
    /// free. To be awaited to its end: what is dropped half done stays claimed until the loop looks after it.
    pub async fn take(
        &self,
        pool: IpNet,
        allocation: Allocation,
        ranges: &[IpNet],
        wanted: Option<IpAddr>,
        step: Option<Step>,
    ) -> Result<IpAddr, TakeError> {
        self.addresses.pool(pool, allocation)?;
        let end = Instant::now() + TAKE_TIME_MAX;
        while Instant::now() < end {
            let answered = self.addresses.answered();
            let wish = Wish { ranges, step };
            let next = self.addresses.next(pool, wanted, &wish, wall()).ok_or(TakeError::Gone)?;
            match next.map_err(|why| TakeError::NoAddress { wanted, why })? {
                Next::Given(addr) => return Ok(addr),
                Next::Claim(addr) => {
                    if self.claim(addr.into(), wanted.is_some()).await? {
                        return Ok(addr);
                    }
                }
                Next::ClaimBlock(block) => {
                    self.claim(block, false).await?;
                }
                Next::Wait => {
                    // Whether it was answered or the time is over: the pool says more.
                    let _ = timeout_at(end, answered).await;
                }
            }
        }
        Err(TakeError::Late)
    }

    /// Claims the blocks that [`Addresses::block_changes`] wants before they are needed, and withdraws those that it
    /// gives back.
    pub async fn tend(&self, (mut wanted, mut given_back): (Vec<IpNet>, Vec<IpNet>)) {
        for _ in 0..BLOCKS_TRIED_MAX {
            for block in given_back {
                self.give_up(block).await;
            }
            if wanted.is_empty() {
                return;
            }
            for block in wanted {
                if let Err(error) = self.claim(block, false).await {
                    return tracing::debug!(error = crate::chain::of(&error), "no block ahead of need");
                }
            }
            (wanted, given_back) = self.addresses.block_changes(wall());
        }
    }

    /// Claims what the pool has chosen, and tells it what came of that: true if the claim stands.
    async fn claim(&self, net: IpNet, is_wanted: bool) -> Result<bool, TakeError> {
        match self.settle(net, is_wanted).await {
            Ok(Outcome::Stands(inside)) => {
                self.addresses.answer(net, |pool| match is_host(net) {
                    true => pool.claimed(net.addr()),
                    false => pool.claimed_block(net, inside, time(wall())),
                });
                Ok(true)
            }
            Ok(Outcome::Refused(because)) => {
                self.addresses.answer(net, |pool| pool.refused(net, because, time(wall())));
                Ok(false)
            }
            Err(failure) => {
                self.addresses.answer(net, |pool| match &failure {
                    Failure::Unheard(_) | Failure::Refused(_) => pool.not_asked(net),
                    Failure::Unknown(_) | Failure::LoopGone if is_host(net) => {
                        pool.release(net.addr(), time(wall()));
                    }
                    Failure::Unknown(_) | Failure::LoopGone => pool.unanswered(net),
                });
                Err(failure.into())
            }
        }
    }

    async fn settle(&self, net: IpNet, is_wanted: bool) -> Result<Outcome, Failure> {
        let no_registry = || Failure::Unheard("there is none".to_owned());
        let registry = self.registry.as_ref().ok_or_else(no_registry)?;
        let envelope = self.signer.sign(&Claim::of_net(net), false, wall());
        let settled = match self.write(registry, net, &envelope, is_wanted).await {
            Ok(None) => self.look_around(registry, net, envelope).await,
            Ok(Some(because)) => return Ok(Outcome::Refused(because)),
            Err(Failure::Unheard(cause)) => return Err(Failure::Unheard(cause)),
            Err(failure) => Err(failure),
        };
        if !matches!(settled, Ok(Outcome::Stands(_))) {
            self.give_up(net).await;
        }
        settled
    }

    /// Writes a claim where no other stands, or says which one does.
    async fn write(
        &self,
        registry: &Registry,
        net: IpNet,
        envelope: &[u8],
        is_wanted: bool,
    ) -> Result<Option<Claimed<NodeId>>, Failure> {
        let key = self.keyspace.key(Slot::of_claim(net));
        let mut expect = Expect::Absent;
        for _ in 0..SWAPS_MAX {
            let swap = registry.cas(&key, expect, Some(envelope.to_vec().into()), None);
            let there = match in_time(swap).await {
                Ok(CasOutcome::Done(_)) => return Ok(None),
                Ok(CasOutcome::Conflict(there)) => there,
                Err(Failure::Unknown(_)) => {
                    in_time(registry.get(&key)).await.map_err(Failure::may_be_heard)?
                }
                Err(failure) => return Err(failure),
            };
            expect = match there {
                None => Expect::Absent,
                Some(there) if there.value == envelope => return Ok(None),
                Some(there) => {
                    let rest_max = if is_wanted { REST } else { Duration::ZERO };
                    let claims = self.learn_of(registry, vec![entry(&there)], net).await?;
                    if let Some(rival) = rival(claims, net, rest_max) {
                        return Ok(Some(rival));
                    }
                    Expect::Rev(there.modified)
                }
            };
        }
        Err(Failure::Unknown("its key changes all the time".to_owned()))
    }

    /// Looks for what would not stand beside a claim that was written: whoever claims an address looks for blocks,
    /// whoever claims a block for addresses. So of two that meet, one sees the other.
    async fn look_around(&self, registry: &Registry, net: IpNet, own: Vec<u8>) -> Result<Outcome, Failure> {
        let listed = in_time(registry.list_all(self.around(net))).await.map_err(Failure::may_be_heard)?;
        let mut near: Vec<Entry> =
            listed.entries.iter().filter(|there| self.is_near(there, net)).map(entry).collect();
        let block = near.first().and_then(|(key, _)| self.keyspace.slot(key)?.claimed());
        if let Some(block) = block.filter(|_| is_host(net)) {
            // Whoever hears of a block first refuses the addresses that were claimed in it before.
            let inside =
                in_time(registry.list_all(self.around(block))).await.map_err(Failure::may_be_heard)?;
            near.extend(inside.entries.iter().filter(|there| self.is_near(there, block)).map(entry));
        }
        let claims = self.learn_of(registry, near, net).await?;
        let inside =
            claims.iter().filter(|claim| claim.net != net && net.contains(&claim.net)).cloned().collect();
        // What rests is nobody's any more.
        if let Some(rival) = rival(claims, net, Duration::MAX) {
            return Ok(Outcome::Refused(rival));
        }
        match self.ask(|reply| Message::Own { node: self.signer.node(), envelope: own, reply }).await? {
            Ok(()) => Ok(Outcome::Stands(inside)),
            Err(Refusal::AddressTaken { holder }) => {
                Ok(Outcome::Refused(Claimed { net, holder: Holder::Other(holder), rests_until: None }))
            }
            Err(refusal) => Err(Failure::Refused(refusal)),
        }
    }

    /// Whether something else is claimed in or around a prefix at a key.
    fn is_near(&self, there: &Versioned, net: IpNet) -> bool {
        let claimed = self.keyspace.slot(&there.key).and_then(|slot| slot.claimed());
        claimed.is_some_and(|claimed| claimed != net && (claimed.contains(&net) || net.contains(&claimed)))
    }

    /// Prefix of all keys at which something may stand beside a claim.
    fn around(&self, net: IpNet) -> String {
        let tree = match (is_host(net), net) {
            (true, _) => "s",
            (false, IpNet::V4(_)) => "a4",
            (false, IpNet::V6(_)) => "a6",
        };
        let prefix = self.keyspace.prefix();
        match net.addr() {
            // No block is larger than this.
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                format!("{prefix}{tree}/{a}.{b}.{c}.")
            }
            // How one is spelt hangs on its zeros.
            IpAddr::V6(_) => format!("{prefix}{tree}/"),
        }
    }

    /// Has the roster judge values, and says what it knows of a prefix then. Nodes that it does not know yet are
    /// introduced.
    async fn learn_of(
        &self,
        registry: &Registry,
        values: Vec<Entry>,
        net: IpNet,
    ) -> Result<Vec<Claimed<NodeId>>, Failure> {
        let own = self.signer.node();
        let nodes: BTreeSet<NodeId> = values.iter().filter_map(|(_, value)| claiming_node(value)).collect();
        let claims = self.learn(values.clone(), net).await?;
        let is_known = |node: &NodeId| {
            *node == own
                || claims.iter().any(|claim| matches!(&claim.holder, Holder::Other(other) if other == node))
        };
        let mut introduced = Vec::new();
        for node in nodes.iter().filter(|node| !is_known(node)).take(STRANGERS_MAX) {
            let key = self.keyspace.key(Slot::Peer(*node));
            let there = in_time(registry.get(&key)).await.map_err(Failure::may_be_heard)?;
            introduced.extend(there.as_ref().map(entry));
        }
        if introduced.is_empty() {
            return Ok(claims);
        }
        introduced.extend(values);
        self.learn(introduced, net).await
    }

    async fn learn(&self, values: Vec<Entry>, net: IpNet) -> Result<Vec<Claimed<NodeId>>, Failure> {
        self.ask(|reply| Message::Learn { node: self.signer.node(), values, net, reply }).await
    }

    /// Withdraws a claim that was written. The loop sees to it that the registry hears of it.
    async fn give_up(&self, net: IpNet) {
        let envelope = self.signer.sign(&Claim::of_net(net), true, wall());
        let own = self.ask(|reply| Message::Own { node: self.signer.node(), envelope, reply }).await;
        if !matches!(own, Ok(Ok(()))) {
            tracing::warn!(%net, "a claim was not withdrawn");
        }
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.messages.send(question(reply)).await.ok()?;
            answer.await.ok()
        };
        let busy = |_| Failure::Unknown("meshd is too busy to note it".to_owned());
        timeout(CALL_TIME_MAX, asked).await.map_err(busy)?.ok_or(Failure::LoopGone)
    }
}

impl Failure {
    /// The same after something was written.
    fn may_be_heard(self) -> Self {
        match self {
            Self::Unheard(cause) => Self::Unknown(cause),
            Self::Unknown(_) | Self::Refused(_) | Self::LoopGone => self,
        }
    }
}

fn asked_for(wanted: Option<IpAddr>) -> String {
    wanted.map_or_else(|| "there is no address".to_owned(), |address| format!("{address} can't be had"))
}

impl From<Failure> for TakeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unheard(cause) | Failure::Unknown(cause) => Self::NoRegistry { cause },
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::LoopGone => Self::Gone,
        }
    }
}

/// Makes a call of the registry that does not take long.
async fn in_time<T>(call: impl Future<Output = Result<T, CallError>>) -> Result<T, Failure> {
    match timeout(CALL_TIME_MAX, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error @ (CallError::OutcomeUnknown { .. } | CallError::NoAnswer { .. }))) => {
            Err(Failure::Unknown(crate::chain::of(&error)))
        }
        Ok(Err(error)) => Err(Failure::Unheard(crate::chain::of(&error))),
        Err(_) => Err(Failure::Unknown(format!("no answer within {} s", CALL_TIME_MAX.as_secs()))),
    }
}

/// The claim of another node that does not stand beside one: on the same address, on a block around it, or on a block
/// that overlaps it. One that rests no longer than so is none.
fn rival(claims: Vec<Claimed<NodeId>>, net: IpNet, rest_max: Duration) -> Option<Claimed<NodeId>> {
    let now = time(wall());
    claims.into_iter().find(|claim| {
        let is_rest = claim.rests_until.is_some_and(|until| until.saturating_sub(now) <= rest_max);
        let is_beside = !is_host(net) && is_host(claim.net);
        matches!(claim.holder, Holder::Other(_)) && !is_rest && !is_beside
    })
}

/// Node that says to claim something; it may be anybody who says so.
fn claiming_node(value: &[u8]) -> Option<NodeId> {
    let claim: Endpoint = Envelope::from_bytes(value).ok()?.record().ok()?;
    (!claim.withdrawn).then_some(claim.node)
}

fn entry(there: &Versioned) -> Entry {
    (there.key.to_vec(), there.value.to_vec())
}

fn is_host(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

#[cfg(test)]
mod tests;
