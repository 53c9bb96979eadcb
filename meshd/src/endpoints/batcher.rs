//! What many ask for at the same time, done for all of them at once.
//!
//! One batch is done at a time; who comes meanwhile waits, and the next batch takes all who wait. So what has a price of
//! its own, as a program that is started or a table that is read through, is paid once for many endpoints.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Does items in batches, with a state that each batch needs.
pub struct Batcher<S, T, R> {
    state: Mutex<S>,
    waiting: Mutex<Vec<(T, Sender<R>)>>,
}

impl<S, T, R> Batcher<S, T, R> {
    /// Nobody waits yet.
    pub fn new(state: S) -> Self {
        Self { state: Mutex::new(state), waiting: Mutex::default() }
    }

    /// Has an item done, together with all that wait by then; nothing comes back of a batch that panicked. `run` gives
    /// a result for each item, in their order.
    pub fn submit(&self, item: T, run: impl FnOnce(&mut S, Vec<T>) -> Vec<R>) -> Option<R> {
        let (sender, receiver) = channel();
        self.waiting().push((item, sender));
        let mut state = self.state();
        if let Some(done) = done_before(&receiver) {
            return done;
        }
        let (items, senders): (Vec<T>, Vec<Sender<R>>) =
            std::mem::take(&mut *self.waiting()).into_iter().unzip();
        for (result, sender) in run(&mut state, items).into_iter().zip(senders) {
            // Everybody waits for theirs.
            drop(sender.send(result));
        }
        receiver.try_recv().ok()
    }

    /// The state between two batches; a panic in one leaves nothing that the next one could not cope with.
    pub fn state(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(T, Sender<R>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of an item in an earlier batch; nothing yet if it was in none.
fn done_before<R>(receiver: &Receiver<R>) -> Option<Option<R>> {
    match receiver.try_recv() {
        Ok(result) => Some(Some(result)),
        Err(TryRecvError::Disconnected) => Some(None),
        Err(TryRecvError::Empty) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;

    /// Numbers, and which of them were done together.
    type Log = Batcher<Vec<Vec<u32>>, u32, u32>;

    fn run(log: &mut Vec<Vec<u32>>, mut items: Vec<u32>) -> Vec<u32> {
        let results = items.iter().map(|number| number * 10).collect();
        items.sort_unstable();
        log.push(items);
        results
    }

    fn until_wait(batcher: &Log, count: usize) {
        while batcher.waiting().len() < count {
            thread::yield_now();
        }
    }

    #[test]
    fn who_comes_during_a_batch_is_in_the_next_one_and_gets_its_own_result() {
        let batcher = Log::new(Vec::new());
        let batcher = &batcher;
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                batcher.submit(0, |log, items| {
                    // All others come while this one is being done.
                    until_wait(batcher, 5);
                    run(log, items)
                })
            });
            // The first one is alone in its batch: nobody else comes before that has begun.
            while batcher.state.try_lock().is_ok() || !batcher.waiting().is_empty() {
                thread::yield_now();
            }
            let later =
                (1..=5).map(|number| scope.spawn(move || batcher.submit(number, run))).collect::<Vec<_>>();
            assert_eq!(first.join().expect("it ends"), Some(0));
            let results = later.into_iter().map(|one| one.join().expect("it ends"));
            assert_eq!(
                results.collect::<Vec<_>>(),
                (1..=5).map(|number| Some(number * 10)).collect::<Vec<_>>()
            );
        });
        assert_eq!(*batcher.state(), [vec![0], vec![1, 2, 3, 4, 5]]);
    }

    #[test]
    fn a_batch_that_panics_gives_nothing_to_those_in_it_and_the_next_one_is_done() {
        let batcher = Log::new(Vec::new());
        let batcher = &batcher;
        let broken =
            |number| catch_unwind(AssertUnwindSafe(|| batcher.submit(number, |_, _| panic!("a defect"))));
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                batcher.submit(0, |log, items| {
                    until_wait(batcher, 2);
                    run(log, items)
                })
            });
            while batcher.state.try_lock().is_ok() || !batcher.waiting().is_empty() {
                thread::yield_now();
            }
            let both = [1, 2].map(|number| scope.spawn(move || broken(number)));
            assert_eq!(first.join().expect("it ends"), Some(0));
            let [one, other] = both.map(|one| one.join().expect("it ends").ok());
            assert!(matches!((one, other), (None, Some(None)) | (Some(None), None)), "{one:?} {other:?}");
        });
        assert_eq!(batcher.submit(3, run), Some(30));
    }
}
