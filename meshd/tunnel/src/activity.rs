//! When a tunnel was last used: written by the data threads, read by the timers of the engine.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::Duration;

/// Stamps of one tunnel in coarse milliseconds, shared by all of its sessions.
///
/// The timers of a quiet tunnel sleep. Whoever starts an interval that they must watch wakes them: the notes say
/// so, once for each sleep.
#[derive(Debug, Default)]
pub struct Activity {
    data_sent_unanswered_since: Stamp,
    data_received_unanswered_since: Stamp,
    last_sent: Stamp,
    last_received: Stamp,
    armed: AtomicBool,
}

impl Activity {
    /// A tunnel that was never used and whose timers sleep.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that an authenticated message left, with a packet in it or without. True: stir the engine.
    pub fn note_sent(&self, now: Duration, data: bool) -> bool {
        self.last_sent.set(now);
        self.data_received_unanswered_since.clear();
        data && self.data_sent_unanswered_since.start(now) && self.wakes()
    }

    /// Notes that an authenticated, fresh message came, with a packet in it or without. True: stir the engine.
    pub fn note_received(&self, now: Duration, data: bool) -> bool {
        self.last_received.set(now);
        self.data_sent_unanswered_since.clear();
        data && self.data_received_unanswered_since.start(now) && self.wakes()
    }

    /// Declares the timers awake: notes wake nobody from now on.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
    }

    /// Declares the timers asleep. Read the stamps afterwards: what started before has woken nobody.
    pub fn disarm(&self) {
        // Pairs with the swap in `wakes`: whoever finds the timers asleep finds also cleared what they have cleared.
        self.armed.store(false, Ordering::Release);
        // Pairs with the fence in `wakes`: one of both sides sees what the other wrote.
        fence(Ordering::SeqCst);
    }

    /// Forgets what waits for an answer: it was acted upon, and only what comes later asks for more.
    pub(crate) fn forget_unanswered(&self) {
        self.data_sent_unanswered_since.clear();
        self.data_received_unanswered_since.clear();
    }

    /// Since when sent packets wait for any message back.
    pub fn data_sent_unanswered_since(&self) -> Option<Duration> {
        self.data_sent_unanswered_since.get()
    }

    /// Since when received packets wait for any message from here.
    pub fn data_received_unanswered_since(&self) -> Option<Duration> {
        self.data_received_unanswered_since.get()
    }

    /// When the last authenticated message left.
    pub fn last_sent(&self) -> Option<Duration> {
        self.last_sent.get()
    }

    /// When the last authenticated message came.
    pub fn last_received(&self) -> Option<Duration> {
        self.last_received.get()
    }

    fn wakes(&self) -> bool {
        fence(Ordering::SeqCst);
        !self.armed.load(Ordering::Relaxed) && !self.armed.swap(true, Ordering::Acquire)
    }
}

/// A time in milliseconds, zero for never. Writes that change nothing are left out: the line is shared by cores.
#[derive(Debug, Default)]
struct Stamp(AtomicU64);

impl Stamp {
    fn set(&self, now: Duration) {
        let now = millis(now);
        if self.0.load(Ordering::Relaxed) != now {
            self.0.store(now, Ordering::Relaxed);
        }
    }

    /// Sets it unless it is set; true if it was not.
    fn start(&self, now: Duration) -> bool {
        let starts = self.0.load(Ordering::Relaxed) == 0;
        if starts {
            self.0.store(millis(now), Ordering::Relaxed);
        }
        starts
    }

    fn clear(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }
}

/// Never zero, which stands for never.
fn millis(now: Duration) -> u64 {
    now.as_secs().saturating_mul(1000).saturating_add(now.subsec_millis().into()).max(1)
}

#[cfg(test)]
mod tests;
