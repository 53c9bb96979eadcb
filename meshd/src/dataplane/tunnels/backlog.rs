//! Control messages that wait, so that their number shows the load and a crowd of strangers keeps nobody waiting.

use std::collections::VecDeque;

use meshd_tunnel::Precedence;

use super::super::notes::Stray;

/// Messages of the first precedence that wait: most of a second of handshakes for one core. More of them come only when
/// thousands of peers prove their addresses together, and try again.
const FIRST_MAX: usize = 4096;
/// Messages of strangers that wait. Long before, each of them costs no more than a cookie, and a cookie that comes late
/// is worth as little as none.
const LAST_MAX: usize = 1024;
/// One message of so many comes from the crowd also while others wait: whoever floods from a proven address must not
/// keep newcomers from proving theirs.
const CROWD_EVERY: u8 = 4;

/// Two queues, the first of which is served first.
#[derive(Debug)]
pub(super) struct Backlog {
    first: VecDeque<Stray>,
    last: VecDeque<Stray>,
    turn: u8,
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self { first: VecDeque::with_capacity(FIRST_MAX), last: VecDeque::with_capacity(LAST_MAX), turn: 0 }
    }

    /// Takes a message; false if too many of its precedence wait.
    pub(super) fn push(&mut self, precedence: Precedence, message: Stray) -> bool {
        let (queue, len_max) = match precedence {
            Precedence::First => (&mut self.first, FIRST_MAX),
            Precedence::Last => (&mut self.last, LAST_MAX),
        };
        let has_room = queue.len() < len_max;
        if has_room {
            queue.push_back(message);
        }
        has_room
    }

    /// The message to handle next.
    pub(super) fn pop(&mut self) -> Option<Stray> {
        self.turn = (self.turn + 1) % CROWD_EVERY;
        let crowd_first = self.turn == 0;
        let (before, behind) =
            if crowd_first { (&mut self.last, &mut self.first) } else { (&mut self.first, &mut self.last) };
        before.pop_front().or_else(|| behind.pop_front())
    }

    pub(super) fn len(&self) -> usize {
        self.first.len() + self.last.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.last.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    fn message(kind: u8) -> Stray {
        Stray::new(&[kind], SocketAddr::from((Ipv4Addr::LOCALHOST, 1))).expect("short enough")
    }

    #[test]
    fn a_crowd_neither_fills_the_place_of_others_nor_is_forgotten_for_them() {
        let mut backlog = Backlog::new();
        for _ in 0..LAST_MAX {
            assert!(backlog.push(Precedence::Last, message(1)));
        }
        assert!(!backlog.push(Precedence::Last, message(1)));
        for _ in 0..FIRST_MAX {
            assert!(backlog.push(Precedence::First, message(2)));
        }
        assert!(!backlog.push(Precedence::First, message(2)));
        assert_eq!(backlog.len(), FIRST_MAX + LAST_MAX);

        let served: Vec<u8> =
            (0..400).filter_map(|_| backlog.pop()).map(|message| message.bytes()[0]).collect();
        assert_eq!(served.iter().filter(|kind| **kind == 2).count(), 300);
        while let Some(_left) = backlog.pop() {}
        assert!(backlog.is_empty());
    }
}
