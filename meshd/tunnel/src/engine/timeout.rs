//! What time asks of the tunnels.

use std::time::Duration;

use crate::TunnelId;
use crate::engine::tunnel::{JITTER_MAX, KEEPALIVE_TIMEOUT, SILENCE_MAX};
use crate::engine::{Action, Engine, TIMEOUTS_MAX, TunnelEvent};

impl Engine {
    /// When [`Self::on_timeout`] is due next.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Lets time pass. There may be more to do at once: ask [`Self::next_timeout`].
    pub fn on_timeout(&mut self, now: Duration) {
        self.tell(now);
        for _ in 0..TIMEOUTS_MAX {
            let Some(id) = self.timers.pop(now) else { return };
            if let Some(tunnel) = self.tunnels.get_mut(&id) {
                tunnel.timer = None;
            }
            self.look(now, id);
        }
    }

    /// Does all that is due for a tunnel, and sees to it that it is looked at again in time.
    pub(super) fn look(&mut self, now: Duration, id: TunnelId) {
        self.wipe_old(now, id);
        self.keep_alive(now, id);
        self.drive_attempt(now, id);
        self.watch(now, id);
        self.set_timer(id);
    }

    pub(super) fn set_timer(&mut self, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let deadline = tunnel.deadline();
        self.timers.move_to(id, tunnel.timer, deadline);
        tunnel.timer = deadline;
    }

    fn wipe_old(&mut self, now: Duration, id: TunnelId) {
        // Taken out of its map so that its sessions can be dropped by the engine it belongs to.
        let Some(mut tunnel) = self.tunnels.remove(&id) else { return };
        self.forget(tunnel.take_expired(now));
        if tunnel.wipe_at().is_some_and(|at| at <= now) && self.wipe(id, &mut tunnel) {
            self.actions.push_back(Action::Event(TunnelEvent::Expired { tunnel: id }));
        }
        self.tunnels.insert(id, tunnel);
    }

    /// Shows the peer that we are alive, and makes sure that it is.
    fn keep_alive(&mut self, now: Duration, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get(&id) else { return };
        let due =
            |since: Option<Duration>, after| since.is_some_and(|since| now.saturating_sub(since) >= after);
        let unanswered = due(tunnel.activity.data_received_unanswered_since(), KEEPALIVE_TIMEOUT);
        let silent = due(tunnel.activity.data_sent_unanswered_since(), SILENCE_MAX + tunnel.jitter);
        let persistent = tunnel.persistent_at().is_some_and(|at| at <= now);
        if silent {
            tunnel.activity.forget_unanswered();
            self.begin(now, id);
        }
        if (unanswered || persistent) && !self.send_empty(now, id) {
            if let Some(tunnel) = self.tunnels.get(&id) {
                tunnel.activity.forget_unanswered();
            }
            self.begin(now, id);
        }
    }

    fn drive_attempt(&mut self, now: Duration, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let has_session = tunnel.usable(now).is_some();
        let Some(attempt) = &mut tunnel.attempt else { return };
        if now >= attempt.until {
            // What was sent in vain so far asks for nothing; only what is sent from now on does.
            tunnel.activity.forget_unanswered();
            self.end_attempt(id);
            if let Some(tunnel) = self.tunnels.get_mut(&id) {
                tunnel.given_up = true;
            }
            return self.actions.push_back(Action::Event(TunnelEvent::GaveUp { tunnel: id }));
        }
        if now < attempt.next_at {
            return;
        }
        if attempt.wants_copy(now) {
            return self.drive_copy(now, id);
        }
        if !attempt.has_slot {
            attempt.has_slot = true;
            attempt.next_at = self.pacer.slot(now);
            if attempt.next_at > now {
                return;
            }
        }
        attempt.note_initiation(now, self.rng.up_to(JITTER_MAX), has_session);
        self.initiate(now, id);
    }

    /// Sends the copy that is due, unless initiations of other tunnels need the slot.
    fn drive_copy(&mut self, now: Duration, id: TunnelId) {
        let Some(attempt) = self.tunnels.get_mut(&id).and_then(|tunnel| tunnel.attempt.as_mut()) else {
            return;
        };
        attempt.note_copy(now, self.rng.up_to(JITTER_MAX));
        if self.pacer.take_free_slot(now) {
            self.send_copy(id);
        }
    }

    /// Sets the next look at the stamps that data threads write.
    ///
    /// While looks are planned the data threads are silent, so a look comes at least every 10 seconds: nothing
    /// that starts in between is due earlier. With nothing to wait for, the data threads are asked to stir.
    fn watch(&mut self, now: Duration, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        tunnel.activity.disarm();
        let received = tunnel.activity.data_received_unanswered_since();
        let sent = tunnel.activity.data_sent_unanswered_since();
        let due = [
            received.map(|since| since.saturating_add(KEEPALIVE_TIMEOUT)),
            sent.map(|since| since.saturating_add(SILENCE_MAX).saturating_add(tunnel.jitter)),
        ];
        tunnel.look_at =
            due.into_iter().flatten().min().map(|at| at.min(now.saturating_add(KEEPALIVE_TIMEOUT)));
        if tunnel.look_at.is_some() {
            tunnel.activity.arm();
        }
    }
}
