//! Packets of peers, merged into super-packets for the host.
//!
//! Nothing is copied: a [`Coalescer`] notes where in the receive buffer the packets of one burst lie, and hands each
//! super-packet over as a list of places, the first with the headers. The host's TCP sees one large segment, and one
//! system call carries it.
//!
//! A burst ends with [`Coalescer::drain`], so nothing waits for a packet that may never come, and PSH, which asks for
//! just that, need not end a super-packet. Items leave in the order of their first packets. A flow has one open item
//! at most, and whatever of the flow does not fit closes it, so the packets of a flow keep their order.

mod mask;
mod segment;
mod sequel;

use std::ops::Range;

use crate::vnet;

use segment::Segment;
use sequel::Sequel;

/// Packets of one burst: 256 can come of one `recvmmsg` with UDP_GRO (4 buffers of 64 datagrams), and as many again.
pub const PACKETS_MAX: usize = 512;
/// Places of one super-packet: with the vnet header before them 64 slices, and 45 full packets fill one.
pub const RANGES_MAX: usize = 63;
/// Items that may still grow: more flows than this in one burst have little to merge.
const OPEN_MAX: usize = 8;
/// Longest IP packet.
const LEN_MAX: usize = 65_535;

/// What is merged; a kernel that takes no super-packets of a kind gets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoalesceSwitches {
    /// TCP over IPv4 and IPv6.
    pub tcp: bool,
    /// UDP over IPv4 and IPv6.
    pub udp: bool,
}

/// Takes one packet: its vnet header, the slab, and where in the slab its parts are.
pub type WritePacket<'w> = dyn FnMut(&[u8; vnet::LEN], &[u8], &[Range<usize>]) + 'w;

/// Says that a burst has all the packets it can have: the caller drains and comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a burst of {PACKETS_MAX} packets is full")]
pub struct Full;

/// Merges the packets of one burst. Allocates when it is made and never again.
#[derive(Debug)]
pub struct Coalescer {
    switches: CoalesceSwitches,
    /// All packets of the burst in order of arrival; those of an item are linked.
    packets: Box<[Packet; PACKETS_MAX]>,
    packet_count: usize,
    items: Box<[Item; PACKETS_MAX]>,
    item_count: usize,
    open: [u16; OPEN_MAX],
    open_count: usize,
    /// What would continue the packet taken last.
    sequel: Option<Sequel>,
    ranges: [Range<usize>; RANGES_MAX],
}

/// Where one packet lies in the slab; of all but an item's first only the payload.
#[derive(Debug, Clone, Copy, Default)]
struct Packet {
    start: u32,
    end: u32,
    next: u16,
}

/// Packets that leave together.
#[derive(Debug, Clone, Copy, Default)]
struct Item {
    first: u16,
    last: u16,
    count: u16,
    /// Whether any of them asks to be handed over at once.
    push: bool,
    /// What the first is.
    head: Segment,
    /// IP length of all.
    len: u32,
    sequence_next: u32,
}

impl Coalescer {
    /// A coalescer with an empty burst.
    pub fn new(switches: CoalesceSwitches) -> Self {
        Self {
            switches,
            packets: Box::new([Packet::default(); PACKETS_MAX]),
            packet_count: 0,
            items: Box::new([Item::default(); PACKETS_MAX]),
            item_count: 0,
            open: [0; OPEN_MAX],
            open_count: 0,
            sequel: None,
            ranges: std::array::from_fn(|_| 0..0),
        }
    }

    /// Takes the packet in `slab[packet]` into the burst if it continues the packet taken last at the same length.
    ///
    /// The two then agree in addresses, ports and protocol, in type of service and hops, and neither is a fragment:
    /// whoever let the one pass has nothing to ask of the other. False says nothing: the packet is one for
    /// [`Coalescer::push`].
    #[inline]
    pub fn follow(&mut self, slab: &[u8], packet: &Range<usize>) -> bool {
        let Some(sequel) = &self.sequel else { return false };
        let Some(bytes) = slab.get(packet.clone()) else { return false };
        let (Some(headers), Some(item)) = (bytes.first_chunk(), self.items.get(usize::from(sequel.item)))
        else {
            return false;
        };
        if bytes.len() != sequel.len || self.packet_count == PACKETS_MAX || !item.has_room(bytes) {
            return false;
        }
        let Some(push) = sequel.push_of(headers, item.sequence_next) else { return false };
        let payload = packet.start + sequel.header_len..packet.end;
        self.append(usize::from(sequel.item), &payload, push);
        true
    }

    /// No packet follows those before any more, as far as [`Coalescer::follow`] is concerned: what let them pass
    /// has changed.
    pub fn interrupt(&mut self) {
        self.sequel = None;
    }

    /// Takes the packet in `slab[packet]` into the burst. The slab stays the same until the burst is drained.
    pub fn push(&mut self, slab: &[u8], packet: Range<usize>) -> Result<(), Full> {
        if self.packet_count == PACKETS_MAX {
            return Err(Full);
        }
        self.sequel = None;
        let Some(bytes) = slab.get(packet.clone()) else { return Ok(()) };
        for at in (0..self.open_count).rev() {
            let item = &self.items[usize::from(self.open[at])];
            let first = self.bytes_of(slab, item.first);
            if item.has_room(bytes) && item.head.is_followed_by(first, bytes, item.sequence_next) {
                let (index, head) = (self.open[at], item.head);
                if bytes.len() < first.len() {
                    self.close(at);
                } else {
                    self.sequel = Sequel::new(index, &head, first);
                }
                let payload = packet.start + usize::from(head.header_len)..packet.end;
                self.append(usize::from(index), &payload, head.has_push(bytes));
                return Ok(());
            }
        }
        self.push_apart(slab, bytes, packet);
        Ok(())
    }

    /// Begins an item with a packet that follows none, and closes those of its flow.
    #[inline(never)]
    fn push_apart(&mut self, slab: &[u8], bytes: &[u8], packet: Range<usize>) {
        let segment = Segment::read(bytes);
        for at in (0..self.open_count).rev() {
            let item = &self.items[usize::from(self.open[at])];
            let first = self.bytes_of(slab, item.first);
            let is_same_flow = match &segment {
                Some(segment) => segment.is_same_flow(bytes, &item.head, first),
                // Its ports are unknown, so it may be of any flow between its two addresses.
                None => segment::addresses(bytes) == segment::addresses(first),
            };
            if is_same_flow {
                self.close(at);
            }
        }
        let head = segment.unwrap_or_default();
        let is_on = if head.is_tcp { self.switches.tcp } else { self.switches.udp };
        let index = self.begin(packet, head);
        if is_on && head.is_mergeable {
            if self.open_count == OPEN_MAX {
                self.close(0);
            }
            self.open[self.open_count] = index;
            self.open_count += 1;
            self.sequel = Sequel::new(index, &head, bytes);
        }
    }

    /// Hands over the burst, item by item, and begins another.
    pub fn drain(&mut self, slab: &mut [u8], write: &mut WritePacket<'_>) {
        for index in 0..self.item_count {
            let item = &self.items[index];
            let ranges = &mut self.ranges[..usize::from(item.count)];
            let mut at = usize::from(item.first);
            for range in &mut *ranges {
                let packet = self.packets[at];
                *range = packet.start as usize..packet.end as usize;
                at = usize::from(packet.next);
            }
            let mut header = [0; vnet::LEN];
            if let [first, _, ..] = ranges
                && let Some(first) = slab.get_mut(first.clone())
            {
                item.head.enlarge(first, item.len, item.push).write(&mut header);
            }
            write(&header, slab, ranges);
        }
        (self.packet_count, self.item_count, self.open_count) = (0, 0, 0);
        self.sequel = None;
    }

    /// Begins an item with its first packet.
    fn begin(&mut self, packet: Range<usize>, head: Segment) -> u16 {
        let (at, index) = (self.note(&packet), self.item_count);
        self.items[index] = Item {
            first: at,
            last: at,
            count: 1,
            push: head.push,
            head,
            len: packet.len() as u32,
            sequence_next: head.sequence.wrapping_add(head.payload_len.into()),
        };
        self.item_count += 1;
        index as u16
    }

    /// Adds the payload of a packet to an item.
    #[inline]
    fn append(&mut self, index: usize, payload: &Range<usize>, push: bool) {
        let at = self.note(payload);
        let item = &mut self.items[index];
        self.packets[usize::from(item.last)].next = at;
        item.last = at;
        item.count += 1;
        item.len += payload.len() as u32;
        item.sequence_next = item.sequence_next.wrapping_add(payload.len() as u32);
        item.push |= push;
    }

    #[inline]
    fn note(&mut self, range: &Range<usize>) -> u16 {
        let at = self.packet_count;
        self.packets[at] = Packet { start: range.start as u32, end: range.end as u32, next: 0 };
        self.packet_count += 1;
        at as u16
    }

    fn close(&mut self, at: usize) {
        self.open.copy_within(at + 1..self.open_count, at);
        self.open_count -= 1;
    }

    fn bytes_of<'s>(&self, slab: &'s [u8], packet: u16) -> &'s [u8] {
        let Packet { start, end, .. } = self.packets[usize::from(packet)];
        slab.get(start as usize..end as usize).unwrap_or_default()
    }
}

impl Item {
    /// Whether the payload of a packet like the first one fits.
    #[inline]
    fn has_room(&self, packet: &[u8]) -> bool {
        let payload_len = packet.len().saturating_sub(self.head.header_len.into());
        usize::from(self.count) < RANGES_MAX && self.len as usize + payload_len <= LEN_MAX
    }
}

#[cfg(test)]
mod tests;
