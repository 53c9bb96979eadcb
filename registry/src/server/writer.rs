//! The one thread that changes the registry.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etcd_client::proto::{PbTxnRequest, PbTxnResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::server::journal::{CommitFailed, Journal, Loaded};
use crate::server::limits::{LOG_AGE_MAX, LOG_BYTES_MAX, LOG_EVENTS_MAX, Limits};
use crate::server::lock;
use crate::server::refusal::Refusal;
use crate::server::stage::{Requester, Stage};
use crate::server::state::{Batch, Change, State};

/// Requests waiting for the writer; further clients wait at the door.
const REQUESTS_WAITING_MAX: usize = 1024;
/// Requests in one commit: keeps a commit, and so the wait of the next one, around 5 ms.
const REQUESTS_PER_COMMIT_MAX: usize = 256;
/// Leases ended in one commit; the others follow in the next.
const EXPIRIES_PER_COMMIT_MAX: usize = 256;
/// How often the age of the log is looked at.
const AGE_MARK_INTERVAL: Duration = Duration::from_secs(60);
/// Pause between attempts to open a file that failed.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);
/// Part of the log's bounds that is kept when one is exceeded, in tenths: compacting by a tenth at a time
/// costs one range deletion per 10 000 events.
const KEPT_TENTHS: usize = 9;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Request {
    Txn(PbTxnRequest),
    Grant { id: i64, ttl_s: i64 },
    Revoke { id: i64 },
    Compact { rev: i64 },
}

/// What it has done.
#[derive(Debug)]
pub(super) enum Answer {
    Txn(PbTxnResponse),
    Lease { id: i64, ttl_s: u64 },
    Done,
}

/// An answer and the revision after it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) revision: i64,
    pub(super) answer: Answer,
}

struct Command {
    who: Requester,
    request: Request,
    reply: oneshot::Sender<Result<Reply, Refusal>>,
    _room: OwnedSemaphorePermit,
}

/// Handle of the writer thread.
pub(super) struct Writer {
    room: Arc<Semaphore>,
    queue: Mutex<Option<Sender<Command>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(journal: Journal, state: Arc<Mutex<State>>, limits: Limits) -> io::Result<Self> {
        let (queue, commands) = channel();
        let desk = Desk {
            journal,
            state,
            limits,
            commands,
            age_marks: VecDeque::new(),
            next_mark: Instant::now() + AGE_MARK_INTERVAL,
            reopen_at: Instant::now(),
            refusal: || Refusal::Storage,
        };
        let thread = std::thread::Builder::new().name("registry-writer".to_owned()).spawn(|| desk.run())?;
        Ok(Self {
            room: Arc::new(Semaphore::new(REQUESTS_WAITING_MAX)),
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Does one request; returns when its changes are durable and visible.
    pub(super) async fn submit(&self, who: Requester, request: Request) -> Result<Reply, Refusal> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| Refusal::Closing)?;
        let (reply, answer) = oneshot::channel();
        let command = Command { who, request, reply, _room: room };
        let sent = match &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(queue) => queue.send(command).is_ok(),
            None => false,
        };
        if !sent {
            return Err(Refusal::Closing);
        }
        answer.await.unwrap_or(Err(Refusal::Closing))
    }

    /// Finishes what was accepted, closes the file and ends the thread; blocks meanwhile.
    pub(super) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("registry writer panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// The writer's side.
struct Desk {
    journal: Journal,
    state: Arc<Mutex<State>>,
    limits: Limits,
    commands: Receiver<Command>,
    /// Revisions of the past with the time at which they were current.
    age_marks: VecDeque<(Instant, i64)>,
    next_mark: Instant,
    /// A failed file is not opened again before this time.
    reopen_at: Instant,
    /// What is told to clients while the file is failed.
    refusal: fn() -> Refusal,
}

impl Desk {
    fn run(mut self) {
        loop {
            let patience = self.next_wake().saturating_duration_since(Instant::now());
            let mut commands = Vec::new();
            match self.commands.recv_timeout(patience) {
                Ok(command) => commands.push(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let room = REQUESTS_PER_COMMIT_MAX.saturating_sub(commands.len());
            commands.extend(self.commands.try_iter().take(room));
            self.cycle(commands);
        }
    }

    /// When something is due without a request: a lease ends or the log has aged.
    fn next_wake(&self) -> Instant {
        let state = lock(&self.state);
        let lease = state.leases.values().map(|lease| lease.expires).min();
        let due = lease.map_or(self.next_mark, |lease| lease.min(self.next_mark));
        // A broken file makes every attempt fail: what is due must wait for the next one.
        if self.journal.is_broken() { due.max(self.reopen_at) } else { due }
    }

    fn cycle(&mut self, commands: Vec<Command>) {
        if self.journal.is_broken() && !self.repair() {
            for command in commands {
                // A client that no longer waits needs no answer.
                let _ = command.reply.send(Err((self.refusal)()));
            }
            return;
        }
        let (batch, ending, answers) = self.stage(commands);
        let idle = batch.changes.is_empty() && batch.leases.is_empty() && batch.compact_to.is_none();
        let failure = if idle { None } else { self.journal.commit(&batch).err() };
        let mut state = lock(&self.state);
        match &failure {
            None => state.apply(&batch),
            Some(error) => {
                tracing::warn!(%error, "registry does not take changes");
                self.reopen_at = Instant::now() + REOPEN_PAUSE;
                self.refusal = refusal_for(error);
                for id in ending {
                    if let Some(lease) = state.leases.get_mut(&id) {
                        lease.ending = false;
                    }
                }
            }
        }
        drop(state);
        for (reply, outcome) in answers {
            let outcome = match (&failure, outcome) {
                (None, outcome) => outcome,
                (Some(_), Err(refusal)) => Err(refusal),
                // Also a read may have seen what is not durable now.
                (Some(_), Ok(_)) => Err((self.refusal)()),
            };
            // A client that no longer waits needs no answer.
            let _ = reply.send(outcome);
        }
    }

    /// Evaluates everything due into one batch.
    #[expect(clippy::type_complexity, reason = "used once, right here")]
    fn stage(
        &mut self,
        commands: Vec<Command>,
    ) -> (Batch, Vec<i64>, Vec<(oneshot::Sender<Result<Reply, Refusal>>, Result<Reply, Refusal>)>) {
        let now = Instant::now();
        let compact_to = self.compaction_due(now);
        let mut state = lock(&self.state);
        let ending: Vec<i64> = state
            .leases
            .iter()
            .filter(|(_, lease)| lease.expires <= now)
            .map(|(id, _)| *id)
            .take(EXPIRIES_PER_COMMIT_MAX)
            .collect();
        for id in &ending {
            if let Some(lease) = state.leases.get_mut(id) {
                lease.ending = true;
            }
        }
        let mut stage = Stage::new(&state, self.limits);
        for id in &ending {
            stage.expire(*id);
        }
        let mut answers = Vec::with_capacity(commands.len());
        for Command { who, request, reply, _room } in commands {
            let answer = match request {
                Request::Txn(txn) => stage.txn(&who, txn).map(Answer::Txn),
                Request::Grant { id, ttl_s } => {
                    stage.grant(&who, id, ttl_s).map(|(id, terms)| Answer::Lease { id, ttl_s: terms.ttl_s })
                }
                Request::Revoke { id } => stage.revoke(&who.client, id).map(|()| Answer::Done),
                Request::Compact { rev } => stage.compact(rev).map(|()| Answer::Done),
            };
            let revision = stage.revision();
            answers.push((reply, answer.map(|answer| Reply { revision, answer })));
        }
        if let Some(rev) = compact_to {
            // Refused only if somebody has compacted further already.
            let _ = stage.compact(rev);
        }
        (stage.finish(), ending, answers)
    }

    /// The revision to compact to, if the log exceeds a bound.
    fn compaction_due(&mut self, now: Instant) -> Option<i64> {
        let state = lock(&self.state);
        let mut due = None;
        if now >= self.next_mark {
            self.next_mark = now + AGE_MARK_INTERVAL;
            self.age_marks.push_back((now, state.revision));
            while let Some((since, rev)) = self.age_marks.front().copied()
                && now.duration_since(since) >= LOG_AGE_MAX
            {
                due = Some(rev);
                self.age_marks.pop_front();
            }
        }
        due.max(overflow(&state)).filter(|rev| *rev > state.compacted)
    }

    /// Opens the file again after a failure and takes over what it holds beyond the memory.
    fn repair(&mut self) -> bool {
        if Instant::now() < self.reopen_at {
            return false;
        }
        match self.journal.reopen() {
            Ok(loaded) => {
                self.reconcile(loaded);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "registry file cannot be opened again");
                self.reopen_at = Instant::now() + REOPEN_PAUSE;
                false
            }
        }
    }

    /// A commit that reported failure may have reached the disk all the same.
    fn reconcile(&self, loaded: Loaded) {
        let Loaded { history: _, revision: _, compacted: _, kv, log, leases } = loaded;
        let mut state = lock(&self.state);
        let live: BTreeMap<_, _> = kv.into_iter().collect();
        let missed = log.into_iter().filter(|change| change.rev > state.revision);
        let changes = missed
            .map(|Change { rev, mut events }| {
                for event in &mut events {
                    // The log does not keep owners; the table of keys does.
                    if let Some(record) = live.get(&event.key).filter(|record| record.modified == rev) {
                        event.new = Some(Arc::clone(record));
                    }
                }
                Arc::new(Change { rev, events })
            })
            .collect();
        state.set_leases(leases);
        state.apply(&Batch { changes, ..Batch::default() });
    }
}

/// The revision from which on the log keeps to nine tenths of its bounds, if it exceeds one.
fn overflow(state: &State) -> Option<i64> {
    if state.log_events <= LOG_EVENTS_MAX && state.log_bytes <= LOG_BYTES_MAX {
        return None;
    }
    let (mut events, mut bytes) = (state.log_events, state.log_bytes);
    let (events_kept, bytes_kept) = (LOG_EVENTS_MAX / 10 * KEPT_TENTHS, LOG_BYTES_MAX / 10 * KEPT_TENTHS);
    for change in &state.log {
        if events <= events_kept && bytes <= bytes_kept {
            return Some(change.rev);
        }
        events = events.saturating_sub(change.events.len());
        bytes = bytes.saturating_sub(change.bytes());
    }
    Some(state.revision)
}

fn refusal_for(error: &CommitFailed) -> fn() -> Refusal {
    if error.is_out_of_space() { || Refusal::NoSpace } else { || Refusal::Storage }
}
