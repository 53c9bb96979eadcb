//! Timestamps of initiations: they order the initiations of one node and need not be the time of day.

use std::time::Duration;

/// The TAI64N label of 1970-01-01 as WireGuard counts it.
const EPOCH_LABEL: u64 = 0x4000_0000_0000_000a;
const NANOS_PER_S: u32 = 1_000_000_000;
/// Stamps show no more of the clock than this many bits of nanoseconds allow, about 17 ms.
const WHITENED_BITS: u32 = 24;

/// A TAI64N timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tai64n {
    label: u64,
    nanos: u32,
}

impl Tai64n {
    /// The timestamp of a time since 1970.
    pub fn from_unix(since_1970: Duration) -> Self {
        Self { label: EPOCH_LABEL.saturating_add(since_1970.as_secs()), nanos: since_1970.subsec_nanos() }
    }

    /// Reads the wire form. Every value is ordered, whether it is a sensible time or not.
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, nanos @ ..] = bytes;
        Self { label: u64::from_be_bytes([a, b, c, d, e, f, g, h]), nanos: u32::from_be_bytes(nanos) }
    }

    /// The wire form.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.label.to_be_bytes());
        bytes[8..].copy_from_slice(&self.nanos.to_be_bytes());
        bytes
    }

    /// This time and a while.
    #[must_use]
    pub fn after(self, while_: Duration) -> Self {
        let nanos = u64::from(self.nanos).saturating_add(u64::from(while_.subsec_nanos()));
        let carry = nanos / u64::from(NANOS_PER_S);
        Self {
            label: self.label.saturating_add(while_.as_secs()).saturating_add(carry),
            nanos: (nanos % u64::from(NANOS_PER_S)) as u32,
        }
    }

    fn whitened(self) -> Self {
        Self { nanos: self.nanos >> WHITENED_BITS << WHITENED_BITS, ..self }
    }
}

/// Gives out timestamps of which each is later than the one before.
#[derive(Debug)]
pub(crate) struct StampClock {
    started: Duration,
    floor: Tai64n,
    last: Tai64n,
}

impl StampClock {
    pub(crate) fn new(started: Duration, floor: Tai64n) -> Self {
        Self { started, floor, last: floor }
    }

    pub(crate) fn stamp(&mut self, now: Duration) -> Tai64n {
        let time = self.floor.after(now.saturating_sub(self.started)).whitened();
        self.last = time.max(self.last.after(Duration::from_nanos(1)));
        self.last
    }

    pub(crate) fn last(&self) -> Tai64n {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_even_while_time_stands_still_or_steps_back() {
        let floor = Tai64n::from_unix(Duration::from_secs(1_700_000_000));
        let mut clock = StampClock::new(Duration::from_secs(50), floor);
        let mut last = floor;
        for now in [60, 60, 60, 55, 0, 61, u64::MAX] {
            let stamp = clock.stamp(Duration::from_secs(now));
            assert!(stamp > last, "{stamp:?} after {last:?} at {now}");
            last = stamp;
        }
        assert_eq!(clock.last(), last);
    }

    #[test]
    fn the_wire_form_is_that_of_wireguard_and_sorts_like_the_time() {
        let stamp = Tai64n::from_unix(Duration::new(1, 2));
        assert_eq!(stamp.to_bytes(), [0x40, 0, 0, 0, 0, 0, 0, 0x0b, 0, 0, 0, 2]);
        assert_eq!(Tai64n::from_bytes(stamp.to_bytes()), stamp);
        assert!(Tai64n::from_unix(Duration::from_secs(2)).to_bytes() > stamp.to_bytes());
        let carried = Tai64n::from_unix(Duration::new(1, 999_999_999)).after(Duration::from_nanos(1));
        assert_eq!(carried, Tai64n::from_unix(Duration::from_secs(2)));
        assert!(Tai64n::from_bytes([0xff; 12]).after(Duration::MAX) > stamp);
    }
}
