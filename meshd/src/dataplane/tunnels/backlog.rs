//! Control messages that wait, so that their number shows the load and a crowd of strangers keeps nobody waiting.

use std::array;
use std::collections::VecDeque;
use std::iter::Cycle;

use meshd_tunnel::Precedence;

use super::super::notes::Stray;

/// Answers that wait: those to all initiations that this node sends in a second.
const AWAITED_MAX: usize = 1024;
/// Initiations from proven addresses that wait: most of a second of handshakes for one core. More of them come
/// only when thousands of peers prove their addresses together, and try again.
const PROVEN_MAX: usize = 4096;
/// Messages of strangers that wait. Long before, each of them costs no more than a cookie, and a cookie that comes late
/// is worth as little as none.
const LAST_MAX: usize = 1024;
/// Who comes first in each turn. Whoever floods from a proven address must keep neither newcomers from proving theirs
/// nor answers from being heard; and whoever sees an initiation, and floods with answers to it, keeps nobody waiting.
const TURNS: [Precedence; 4] =
    [Precedence::Awaited, Precedence::Proven, Precedence::Awaited, Precedence::Last];

/// A queue for each precedence.
#[derive(Debug)]
pub(super) struct Backlog {
    awaited: VecDeque<Stray>,
    proven: VecDeque<Stray>,
    last: VecDeque<Stray>,
    turns: Cycle<array::IntoIter<Precedence, 4>>,
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self {
            awaited: VecDeque::with_capacity(AWAITED_MAX),
            proven: VecDeque::with_capacity(PROVEN_MAX),
            last: VecDeque::with_capacity(LAST_MAX),
            turns: TURNS.into_iter().cycle(),
        }
    }

    /// Takes a message; false if too many of its precedence wait.
    pub(super) fn push(&mut self, precedence: Precedence, message: Stray) -> bool {
        let len_max = match precedence {
            Precedence::Awaited => AWAITED_MAX,
            Precedence::Proven => PROVEN_MAX,
            Precedence::Last => LAST_MAX,
        };
        let queue = self.queue(precedence);
        let has_room = queue.len() < len_max;
        if has_room {
            queue.push_back(message);
        }
        has_room
    }

    /// The message to handle next.
    pub(super) fn pop(&mut self) -> Option<Stray> {
        let first = self.turns.next();
        let others = [Precedence::Awaited, Precedence::Proven, Precedence::Last];
        first.into_iter().chain(others).find_map(|precedence| self.queue(precedence).pop_front())
    }

    pub(super) fn len(&self) -> usize {
        self.awaited.len() + self.proven.len() + self.last.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn queue(&mut self, precedence: Precedence) -> &mut VecDeque<Stray> {
        match precedence {
            Precedence::Awaited => &mut self.awaited,
            Precedence::Proven => &mut self.proven,
            Precedence::Last => &mut self.last,
        }
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
        for _ in 0..PROVEN_MAX {
            assert!(backlog.push(Precedence::Proven, message(2)));
        }
        assert!(!backlog.push(Precedence::Proven, message(2)));
        assert_eq!(backlog.len(), PROVEN_MAX + LAST_MAX);

        let served: Vec<u8> =
            (0..400).filter_map(|_| backlog.pop()).map(|message| message.bytes()[0]).collect();
        assert_eq!(served.iter().filter(|kind| **kind == 2).count(), 300);
        while let Some(_left) = backlog.pop() {}
        assert!(backlog.is_empty());
    }

    #[test]
    fn answers_are_heard_while_initiations_fill_their_place_and_do_not_stop_these() {
        let mut backlog = Backlog::new();
        while backlog.push(Precedence::Proven, message(1)) {}
        while backlog.push(Precedence::Last, message(1)) {}
        for _ in 0..AWAITED_MAX {
            assert!(backlog.push(Precedence::Awaited, message(2)));
        }
        assert!(!backlog.push(Precedence::Awaited, message(2)));
        let served: Vec<u8> =
            (0..400).filter_map(|_| backlog.pop()).map(|message| message.bytes()[0]).collect();
        assert!(served[..4].contains(&2), "an answer waits for few others: {:?}", &served[..4]);
        assert_eq!(served.iter().filter(|kind| **kind == 2).count(), 200);
    }
}
