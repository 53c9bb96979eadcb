//! The replay window of one receiving session.

/// Counters a window remembers: 25 ms of reordering at 650,000 packets per second, 176 ms at 1 Gbit/s.
pub(crate) const WINDOW_LEN: u64 = 16_384;

const WORD_BITS: u64 = u64::BITS as u64;
const WORDS: usize = (WINDOW_LEN / WORD_BITS) as usize;
/// Words for the first counters of a session. Most sessions of a large mesh end before they have used these up.
const FIRST_WORDS: usize = 16;
const FIRST_LEN: u64 = FIRST_WORDS as u64 * WORD_BITS;

/// Remembers which of the last [`WINDOW_LEN`] counters were accepted.
///
/// A ring of bits like that of RFC 6479. Where the RFC clears whole words and keeps one to spare, this clears
/// the bits between the old head and the new one: nothing at all as long as packets arrive in order.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// One above the highest accepted counter.
    next: u64,
    seen: Seen,
}

/// Counter `c` is bit `c % WINDOW_LEN`, in as much memory as the counters so far ask for.
#[derive(Debug, Default)]
enum Seen {
    /// Nothing was received.
    #[default]
    Nothing,
    /// All counters are below [`FIRST_LEN`]: 128 B.
    First(Box<[u64; FIRST_WORDS]>),
    /// 2 KiB.
    All(Box<[u64; WORDS]>),
}

impl Window {
    /// Accepts each counter once, and says which it accepted. The packets are authenticated.
    pub(crate) fn accept(&mut self, counters: &[u64], fresh: &mut [bool]) {
        match &mut self.seen {
            Seen::All(seen) => mark_each(seen, &mut self.next, counters, fresh),
            Seen::Nothing | Seen::First(_) => self.accept_first(counters, fresh),
        }
    }

    fn accept_first(&mut self, counters: &[u64], fresh: &mut [bool]) {
        if let Seen::Nothing = self.seen {
            self.seen = Seen::First(Box::new([0; FIRST_WORDS]));
        }
        let Seen::First(first) = &mut self.seen else { return };
        let mut next = self.next;
        let mut marked = 0;
        for (counter, fresh) in
            counters.iter().zip(&mut *fresh).take_while(|(counter, _)| **counter < FIRST_LEN)
        {
            *fresh = mark(first, &mut next, *counter);
            marked += 1;
        }
        self.next = next;
        if marked < counters.len().min(fresh.len()) {
            let mut all = Box::new([0; WORDS]);
            all[..FIRST_WORDS].copy_from_slice(&first[..]);
            mark_each(&mut all, &mut self.next, &counters[marked..], &mut fresh[marked..]);
            self.seen = Seen::All(all);
        }
    }

    /// The lowest counter that is not too old.
    pub(crate) fn tail(&self) -> u64 {
        self.next.saturating_sub(WINDOW_LEN)
    }
}

#[inline]
fn mark_each<const N: usize>(seen: &mut [u64; N], head: &mut u64, counters: &[u64], fresh: &mut [bool]) {
    let mut next = *head;
    for (counter, fresh) in counters.iter().zip(fresh) {
        *fresh = mark(seen, &mut next, *counter);
    }
    *head = next;
}

/// Marks a counter as seen; false if it was, or is too old.
#[inline]
fn mark<const N: usize>(seen: &mut [u64; N], next: &mut u64, counter: u64) -> bool {
    let (at, bit) = (place::<N>(counter), bit(counter));
    if counter < *next {
        let fresh = *next - counter <= WINDOW_LEN && seen[at] & bit == 0;
        if fresh {
            seen[at] |= bit;
        }
        return fresh;
    }
    if counter > *next {
        forget(seen, *next, counter);
    }
    seen[at] |= bit;
    *next = counter.saturating_add(1);
    true
}

/// Clears the bits of the skipped counters `from..to`: what they say is a window old.
fn forget<const N: usize>(seen: &mut [u64; N], from: u64, to: u64) {
    if to - from >= WINDOW_LEN {
        seen.fill(0);
        return;
    }
    if from / WORD_BITS == to / WORD_BITS {
        seen[place::<N>(from)] &= !(bit(to) - bit(from));
        return;
    }
    let mut skipped = from;
    while skipped < to {
        let len = (WORD_BITS - skipped % WORD_BITS).min(to - skipped);
        seen[place::<N>(skipped)] &= !((u64::MAX >> (WORD_BITS - len)) << (skipped % WORD_BITS));
        skipped += len;
    }
}

/// Where the word of a counter stands.
fn place<const N: usize>(counter: u64) -> usize {
    (counter / WORD_BITS) as usize % N
}

fn bit(counter: u64) -> u64 {
    1 << (counter % WORD_BITS)
}

#[cfg(test)]
mod tests;
