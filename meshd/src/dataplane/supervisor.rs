//! Keeps a data thread at work: one that panics starts over with fresh buffers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use meshd_core::TokenBucket;

use super::clock;
use super::counters::Reason;
use super::events::Event;
use super::shared::Shared;

/// Restarts at once, and per second later on: one packet that breaks a thread costs its train, a thread that
/// breaks on everything is given up.
const RESTARTS_BURST: u32 = 16;
const RESTARTS_PER_S: u32 = 1;

/// Runs `work` until it returns; a panic in it starts it again. Returns why the thread ended.
pub(super) fn supervise(shared: &Shared, thread: &'static str, mut work: impl FnMut()) {
    let mut restarts = TokenBucket::new(RESTARTS_PER_S, RESTARTS_BURST, clock::now());
    loop {
        // What the work shares with others is behind locks that outlive a panic, or atomic; all else is dropped.
        let ended = catch_unwind(AssertUnwindSafe(&mut work));
        if ended.is_ok() && shared.is_stopping() {
            return;
        }
        if ended.is_ok() || !restarts.take(clock::now()) {
            tracing::error!(thread, "a data thread has ended");
            shared.events.send(Event::ThreadEnded { thread }, &shared.counters);
            return;
        }
        tracing::error!(thread, "a data thread has panicked and starts again");
        shared.counters.add(Reason::ThreadRestarted);
        shared.events.send(Event::ThreadRestarted { thread }, &shared.counters);
    }
}
