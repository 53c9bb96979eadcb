//! What time alone brings about: first calls, retries, renewals, keepalives, silence.

use std::time::Duration;

use meshd_core::TokenBucket;
use meshd_tunnel::vertical_slice::Ticked;

use super::TICK;
use super::counters::Reason;
use super::peer::{DOWN_AFTER, Peer, PeerState, SUSPECT_AFTER};
use super::shared::Shared;

/// Initiations a second that nobody asked for: a start in a large mesh does not flood it.
const CALLS_PER_S: u32 = 50;
/// Initiations at once.
const CALLS_BURST: u32 = 10;

/// The timers of all peers.
pub(super) struct Ticker {
    next: Duration,
    next_refill: Duration,
    calls: TokenBucket,
}

impl Ticker {
    pub(super) fn new(now: Duration) -> Self {
        Self { next: now, next_refill: now, calls: TokenBucket::new(CALLS_PER_S, CALLS_BURST, now) }
    }

    pub(super) fn due_in(&self, now: Duration) -> Duration {
        self.next.saturating_sub(now)
    }

    /// Looks at every peer, if it is time.
    pub(super) fn run(&mut self, shared: &Shared, buffer: &mut [u8]) {
        let now = shared.now();
        if now < self.next {
            return;
        }
        self.next = now + TICK;
        if now >= self.next_refill {
            self.next_refill = now + Duration::from_secs(1);
            shared.local.refill();
        }
        let snapshot = shared.snapshot.load();
        for peer in &snapshot.peers {
            self.look_at(shared, peer, buffer, now);
        }
    }

    fn look_at(&mut self, shared: &Shared, peer: &Peer, buffer: &mut [u8], now: Duration) {
        let mut state = peer.state();
        let silence = state.silence(now);
        let given_up = !state.tunnel.has_session() && state.tunnel.has_given_up(now);
        if state.up && (given_up || silence.is_none_or(|silence| silence > DOWN_AFTER)) {
            state.up = false;
            shared.report_down(peer.node);
        }
        if !state.path.is_known() {
            return;
        }
        let uncalled = !state.called && !state.tunnel.has_session() && now >= state.call_at;
        let suspect = state.tunnel.has_session() && silence.is_some_and(|silence| silence > SUSPECT_AFTER);
        if uncalled || suspect && state.tunnel.initiation_is_due(now) {
            if self.calls.take(now) {
                call(shared, &mut state, buffer, now);
            }
            return;
        }
        match state.tunnel.tick(buffer, now) {
            Ok(Ticked::Idle) => {}
            Ok(Ticked::Initiation(initiation)) => shared.send_initiation(&state, initiation, now),
            Ok(Ticked::Keepalive(keepalive)) => {
                if let Some(endpoint) = state.path.endpoint() {
                    shared.send(keepalive, endpoint);
                }
            }
            Err(refused) => shared.counters.add(refused.into()),
        }
        if given_up {
            let discarded = state.tunnel.discard_staged();
            shared.counters.add_many(Reason::QueueFull, discarded);
        }
    }
}

fn call(shared: &Shared, state: &mut PeerState, buffer: &mut [u8], now: Duration) {
    state.called = true;
    match state.tunnel.initiate(buffer, now) {
        Ok(initiation) => shared.send_initiation(state, initiation, now),
        Err(refused) => shared.counters.add(refused.into()),
    }
}
