//! What many ask for at the same time, done for all of them at once.
//!
//! One crossing is under way at a time; who comes meanwhile waits, and the next one takes all who wait. So what has a
//! price of its own, as a program that is started or a table that is read through, is paid once for many endpoints.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Carries passengers across together, with what it needs for that.
pub struct Ferry<S, T, R> {
    vessel: Mutex<S>,
    waiting: Mutex<Vec<(T, Sender<R>)>>,
}

impl<S, T, R> Ferry<S, T, R> {
    /// Nobody waits yet.
    pub fn new(vessel: S) -> Self {
        Self { vessel: Mutex::new(vessel), waiting: Mutex::default() }
    }

    /// Carries somebody across, and all who wait by then; nothing comes back of a crossing that panicked. `cross`
    /// gives a result for each passenger, in their order.
    pub fn carry(&self, passenger: T, cross: impl FnOnce(&mut S, Vec<T>) -> Vec<R>) -> Option<R> {
        let (ticket, arrival) = channel();
        self.waiting().push((passenger, ticket));
        let mut vessel = self.vessel();
        if let Some(carried) = arrived(&arrival) {
            return carried;
        }
        let (passengers, tickets): (Vec<T>, Vec<Sender<R>>) =
            std::mem::take(&mut *self.waiting()).into_iter().unzip();
        for (result, ticket) in cross(&mut vessel, passengers).into_iter().zip(tickets) {
            // Everybody waits for the arrival.
            drop(ticket.send(result));
        }
        arrival.try_recv().ok()
    }

    /// The vessel, when it is back; a panic between two changes leaves nothing that the next one could not cope with.
    pub fn vessel(&self) -> MutexGuard<'_, S> {
        self.vessel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<(T, Sender<R>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an earlier crossing brought; nothing yet if there was none.
fn arrived<R>(arrival: &Receiver<R>) -> Option<Option<R>> {
    match arrival.try_recv() {
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

    /// Numbers of passengers, and what each crossing carried.
    type Log = Ferry<Vec<Vec<u32>>, u32, u32>;

    fn cross(log: &mut Vec<Vec<u32>>, mut passengers: Vec<u32>) -> Vec<u32> {
        let results = passengers.iter().map(|number| number * 10).collect();
        passengers.sort_unstable();
        log.push(passengers);
        results
    }

    fn until_wait(ferry: &Log, count: usize) {
        while ferry.waiting().len() < count {
            thread::yield_now();
        }
    }

    #[test]
    fn who_comes_during_a_crossing_goes_with_the_next_one_and_gets_its_own_result() {
        let ferry = Log::new(Vec::new());
        let ferry = &ferry;
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                ferry.carry(0, |log, passengers| {
                    // All others come while this one is under way.
                    until_wait(ferry, 5);
                    cross(log, passengers)
                })
            });
            // The first one is alone on board: nobody else comes before it has left.
            while ferry.vessel.try_lock().is_ok() || !ferry.waiting().is_empty() {
                thread::yield_now();
            }
            let later =
                (1..=5).map(|number| scope.spawn(move || ferry.carry(number, cross))).collect::<Vec<_>>();
            assert_eq!(first.join().expect("it ends"), Some(0));
            let results = later.into_iter().map(|one| one.join().expect("it ends"));
            assert_eq!(
                results.collect::<Vec<_>>(),
                (1..=5).map(|number| Some(number * 10)).collect::<Vec<_>>()
            );
        });
        assert_eq!(*ferry.vessel(), [vec![0], vec![1, 2, 3, 4, 5]]);
    }

    #[test]
    fn a_crossing_that_panics_brings_nothing_to_those_on_board_and_the_next_one_leaves() {
        let ferry = Log::new(Vec::new());
        let ferry = &ferry;
        let wreck = |number| catch_unwind(AssertUnwindSafe(|| ferry.carry(number, |_, _| panic!("a reef"))));
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                ferry.carry(0, |log, passengers| {
                    until_wait(ferry, 2);
                    cross(log, passengers)
                })
            });
            while ferry.vessel.try_lock().is_ok() || !ferry.waiting().is_empty() {
                thread::yield_now();
            }
            let both = [1, 2].map(|number| scope.spawn(move || wreck(number)));
            assert_eq!(first.join().expect("it ends"), Some(0));
            let [one, other] = both.map(|passenger| passenger.join().expect("it ends").ok());
            assert!(matches!((one, other), (None, Some(None)) | (Some(None), None)), "{one:?} {other:?}");
        });
        assert_eq!(ferry.carry(3, cross), Some(30));
    }
}
