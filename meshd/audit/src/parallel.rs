//! The same work on many things, on several threads.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Maps each thing; the results stand in the order of the things, whichever thread was faster.
pub(crate) fn map<T: Send, R: Send>(
    threads: NonZeroUsize,
    things: Vec<T>,
    one: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let queue = Mutex::new(things.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(next).map(|(at, thing)| (at, one(thing))).collect::<Vec<_>>();
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get()).map(|_| scope.spawn(work)).collect();
        let own = work();
        let others =
            others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        others.chain([own]).flatten().collect::<Vec<_>>()
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_things() {
        let things: Vec<u64> = (0..1000).collect();
        for threads in [1, 2, 7] {
            let threads = NonZeroUsize::new(threads).expect("some");
            // The first things take longest, so that others overtake them.
            let squares = map(threads, things.clone(), |thing| {
                (0..(1000 - thing) * 100).fold(thing * thing, |square, _| std::hint::black_box(square))
            });
            assert!(squares.iter().copied().eq(things.iter().map(|thing| thing * thing)));
        }
        assert_eq!(map(NonZeroUsize::MIN, Vec::<u8>::new(), |thing| thing), []);
    }
}
