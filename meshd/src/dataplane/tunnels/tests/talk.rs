//! Two ends that talk to each other, each with all that its threads would do.

use super::*;

/// What two ends have sent each other, counted for each.
#[derive(Default)]
pub(super) struct Talk {
    pub(super) initiations: [usize; 2],
    pub(super) heard: [usize; 2],
}

impl Talk {
    /// Lets both do what is due, and answer each other until nothing is under way.
    pub(super) fn goes_on(&mut self, ends: &mut [Near<'_>; 2], now: Duration) {
        ends.iter_mut().for_each(|end| end.passes(now));
        loop {
            let sent = [0, 1].map(|end| ends[end].wire.take());
            if sent.iter().all(Vec::is_empty) {
                return;
            }
            for (from, datagrams) in sent.into_iter().enumerate() {
                let to = 1 - from;
                for (_, datagram) in datagrams {
                    self.initiations[from] += usize::from(datagram[0] == INITIATION);
                    self.heard[to] += usize::from(ends[to].hears(datagram, place(from as u32), now));
                }
            }
        }
    }
}

impl Near<'_> {
    /// Does what is due by now.
    pub(super) fn passes(&mut self, now: Duration) {
        self.tunnels.meet_deadlines(now);
        self.tunnels.engine.on_timeout(now);
        self.tunnels.pump(now);
    }

    /// Has a packet for the peer.
    pub(super) fn says(&mut self, packet: &[u8], now: Duration) {
        stage(self.tunnels.shared, &self.tunnels.tracked[&ID].peer, packet);
        self.tunnels.read_notes(now);
    }

    /// Takes a datagram as all its threads together would; true if a packet was in it, and its session is still known.
    pub(super) fn hears(&mut self, mut datagram: Vec<u8>, source: SocketAddr, now: Duration) -> bool {
        let engine = &mut self.tunnels.engine;
        let mut has_packet = false;
        if datagram[0] == DATA {
            let index = u32::from_le_bytes(datagram[4..8].try_into().expect("an index"));
            let Some(receiving) = self.tunnels.shared.sessions.find(index) else { return false };
            let opened = receiving.session.open(&mut datagram).expect("authentic");
            let plaintext = &datagram[opened.plaintext];
            has_packet = plaintext.starts_with(b"first") || plaintext.starts_with(b"again");
            if receiving.session.confirm_first_use() {
                engine.confirmed(now, index);
            }
            if receiving.session.activity().note_received(now, has_packet) {
                engine.stir(now, receiving.session.tunnel());
            }
            receiving.peer.note_heard(source, now);
        } else {
            engine.on_control(now, Via { path: 0, source }, &datagram, 0);
        }
        self.tunnels.pump(now);
        has_packet
    }
}

/// Type of a data message.
const DATA: u8 = 4;
