//! One channel in operation: both ends say what they hold, ask for what they lack, and pass on what is new.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshd_wire::limits::FRAME_BYTES_MAX;
use meshd_wire::{ChannelFrame, DecodeError, HaveEntry, NodeId, PlacedRecord, RecordDigest};
use quinn::{RecvStream, SendStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::time::{Instant, interval_at, sleep, sleep_until};

use super::allowance::Allowance;
use super::holdings::Holdings;
use super::ledger::Ledger;
use crate::discovery::keyspace::Slot;
use crate::frame::{FrameError, read_frame, write_frame};

/// Places in one frame: an array may have four times as many.
const PLACES_PER_FRAME: usize = 1024;
/// Bytes of values in one frame, but for the last that fits in: a quarter of what a frame may have.
const VALUES_LEN: usize = 256 << 10;
/// What changes within this time goes together, and what the other end has sent meanwhile does not go at all.
const GATHERED_FOR: Duration = Duration::from_millis(20);
/// How often what was refused is asked for again: a clock that was wrong is right by then, a table has room.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(30);

/// What a neighbour has sent.
#[derive(Debug)]
pub struct Received {
    /// The neighbour.
    pub from: NodeId,
    /// Values that this node did not hold when they came, and their places. Nothing is verified.
    pub values: Vec<(Slot, Vec<u8>)>,
}

/// Reports why a channel ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    /// The connection failed, or the other end closed it.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection failed while sending.
    #[error("write a frame")]
    Write(#[from] io::Error),
    /// The other end does not speak the protocol.
    #[error("a frame is malformed")]
    Malformed(#[from] DecodeError),
    /// The other end has finished.
    #[error("the other end has closed the channel")]
    Closed,
    /// This end stops.
    #[error("this node stops")]
    Stopping,
}

/// One end of a channel.
pub(super) struct Session {
    peer: NodeId,
    holdings: Arc<Holdings>,
    allowance: Arc<Mutex<Allowance>>,
    ledger: Mutex<Ledger>,
    /// The ledger has something to send.
    has_news: Notify,
}

impl Session {
    pub(super) fn new(peer: NodeId, holdings: Arc<Holdings>, allowance: Arc<Mutex<Allowance>>) -> Self {
        Self { peer, holdings, allowance, ledger: Mutex::default(), has_news: Notify::new() }
    }

    /// Exchanges records until one end stops.
    pub(super) async fn run(
        &self,
        (mut out, mut incoming): (SendStream, RecvStream),
        received: &mpsc::Sender<Received>,
    ) -> SessionError {
        // Subscribed before anything is said: what changes from here on is told as well.
        let changes = self.holdings.changes();
        tokio::select! {
            error = self.listen(&mut incoming, received) => error,
            error = self.tell(&mut out, changes) => error,
        }
        .err()
        .unwrap_or(SessionError::Closed)
    }

    /// Reads what the other end says. It never waits for what is to be sent, or both ends could wait for each other.
    async fn listen(
        &self,
        incoming: &mut RecvStream,
        received: &mpsc::Sender<Received>,
    ) -> Result<(), SessionError> {
        loop {
            let frame = read_frame(incoming, FRAME_BYTES_MAX).await?.ok_or(SessionError::Closed)?;
            match ChannelFrame::from_bytes(&frame)? {
                ChannelFrame::Have { entries } => self.they_have(entries),
                ChannelFrame::Want { places } => self.they_want(&places),
                ChannelFrame::Records { records } => {
                    let values = self.take_in(records);
                    if !values.is_empty() {
                        // Who sends more is read no further for a while.
                        sleep_until(self.spend(values.len() as u32)).await;
                        let news = Received { from: self.peer, values };
                        received.send(news).await.map_err(|_| SessionError::Stopping)?;
                    }
                }
            }
            self.has_news.notify_one();
        }
    }

    fn they_have(&self, entries: Vec<HaveEntry>) {
        // A place of a later release is of no use here.
        for (slot, digest) in
            entries.into_iter().filter_map(|entry| Some((place(&entry.place)?, entry.digest)))
        {
            let own = self.holdings.digest(&slot);
            self.ledger().they_have(slot, digest, own);
        }
    }

    fn they_want(&self, places: &[String]) {
        for slot in places.iter().filter_map(|text| place(text)) {
            let own = self.holdings.digest(&slot);
            self.ledger().they_want(slot, own);
        }
    }

    /// Notes what has come; gives what this node does not hold.
    fn take_in(&self, records: Vec<PlacedRecord>) -> Vec<(Slot, Vec<u8>)> {
        let mut values = Vec::new();
        for PlacedRecord { place: text, value } in records {
            let Some(slot) = place(&text) else { continue };
            let digest = RecordDigest::of(&value);
            self.ledger().came(slot, digest);
            if self.holdings.digest(&slot) != Some(digest) {
                values.push((slot, value));
            }
        }
        values
    }

    /// Says what this node holds, and from then on what is new, what is lacking and what is asked for.
    async fn tell(
        &self,
        out: &mut SendStream,
        mut changes: broadcast::Receiver<Slot>,
    ) -> Result<(), SessionError> {
        self.say_all(out).await?;
        let mut look_again = interval_at(Instant::now() + LOOK_AGAIN_EVERY, LOOK_AGAIN_EVERY);
        loop {
            tokio::select! {
                () = self.has_news.notified() => {}
                _ = look_again.tick() => self.ledger().look_again(|slot| self.holdings.digest(slot)),
                change = changes.recv() => self.on_change(change, out).await?,
            }
            sleep(GATHERED_FOR).await;
            loop {
                match changes.try_recv() {
                    Ok(slot) => self.on_change(Ok(slot), out).await?,
                    Err(broadcast::error::TryRecvError::Lagged(by)) => {
                        self.on_change(Err(RecvError::Lagged(by)), out).await?;
                    }
                    Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => {
                        break;
                    }
                }
            }
            self.ask(out).await?;
            self.pay(out).await?;
        }
    }

    async fn on_change(
        &self,
        change: Result<Slot, RecvError>,
        out: &mut SendStream,
    ) -> Result<(), SessionError> {
        match change {
            Ok(slot) => {
                let own = self.holdings.digest(&slot);
                self.ledger().changed(slot, own);
                Ok(())
            }
            Err(RecvError::Lagged(_)) => self.say_all(out).await,
            Err(RecvError::Closed) => Err(SessionError::Stopping),
        }
    }

    async fn say_all(&self, out: &mut SendStream) -> Result<(), SessionError> {
        let digests = self.holdings.digests();
        if digests.is_empty() {
            // The other end learns of the stream from its first bytes.
            return send(out, &ChannelFrame::Have { entries: Vec::new() }).await;
        }
        for chunk in digests.chunks(PLACES_PER_FRAME) {
            let entries = chunk
                .iter()
                .map(|(slot, digest)| HaveEntry { place: slot.to_string(), digest: *digest })
                .collect();
            send(out, &ChannelFrame::Have { entries }).await?;
        }
        Ok(())
    }

    /// Asks for what the other end has and this one lacks.
    async fn ask(&self, out: &mut SendStream) -> Result<(), SessionError> {
        loop {
            let lacking = self.ledger().take_lacking(PLACES_PER_FRAME);
            if lacking.is_empty() {
                return Ok(());
            }
            let places = lacking.iter().map(Slot::to_string).collect();
            send(out, &ChannelFrame::Want { places }).await?;
        }
    }

    /// Sends what the other end is owed.
    async fn pay(&self, out: &mut SendStream) -> Result<(), SessionError> {
        loop {
            let records = self.next_records();
            if records.is_empty() {
                return Ok(());
            }
            send(out, &ChannelFrame::Records { records }).await?;
        }
    }

    fn next_records(&self) -> Vec<PlacedRecord> {
        let (mut records, mut len) = (Vec::new(), 0);
        while len < VALUES_LEN && records.len() < PLACES_PER_FRAME {
            let mut ledger = self.ledger();
            let Some(slot) = ledger.next_owed() else { break };
            let Some(held) = self.holdings.get(&slot) else { continue };
            if ledger.is_theirs(&slot, held.digest) {
                continue;
            }
            ledger.sent(slot, held.digest);
            len += held.value.len();
            records.push(PlacedRecord { place: slot.to_string(), value: held.value.to_vec() });
        }
        records
    }

    /// When so many new values may be handed on.
    fn spend(&self, values: u32) -> Instant {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner).spend(values, Instant::now())
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place that a text names. A later release has others, and claims are made in registries alone.
fn place(text: &str) -> Option<Slot> {
    text.parse().ok().filter(|slot: &Slot| slot.claimed().is_none())
}

async fn send(out: &mut SendStream, frame: &ChannelFrame) -> Result<(), SessionError> {
    Ok(write_frame(out, &frame.to_bytes()).await?)
}
