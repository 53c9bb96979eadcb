//! The tunnel keys of this node on disk, and how far their rotation is.

use std::path::Path;

use meshd_core::rotation::{Epoch, KeySince, Step, Stored as Progress, Why};
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::PrivateKeys;
use crate::generations::{Generations, GenerationsError};
use crate::stored::{self, Stored, StoredError};

/// Format of the file.
const FORMAT: u8 = 1;

/// What the file holds: keys in use and no others, so that a write destroys those before.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Content {
    #[n(0)]
    format: u8,
    #[n(1)]
    seq: u64,
    #[n(2)]
    epoch_max: u32,
    #[n(3)]
    cur: StoredKey,
    #[n(4)]
    step: StoredStep,
    #[n(5)]
    keys: Vec<StoredPrivate>,
}

/// A key and since when it is what it is.
#[derive(Clone, Copy, Encode, Decode)]
#[cbor(array)]
struct StoredKey {
    #[n(0)]
    epoch: u32,
    #[n(1)]
    since: u64,
}

#[derive(Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(array)]
struct StoredPrivate {
    #[n(0)]
    epoch: u32,
    #[cbor(n(1), with = "minicbor::bytes")]
    private: [u8; 32],
}

#[derive(Clone, Copy, Encode, Decode)]
enum StoredStep {
    #[n(0)]
    Steady {
        #[n(0)]
        destroyed: Option<u32>,
    },
    #[n(1)]
    Prepared {
        #[n(0)]
        next: StoredKey,
    },
    #[n(2)]
    Proving {
        #[n(0)]
        next: StoredKey,
    },
    #[n(3)]
    Committed {
        #[n(0)]
        prev: StoredKey,
        #[n(1)]
        accept_until: u64,
    },
    #[n(4)]
    Replaced {
        #[n(0)]
        old: u32,
        #[n(1)]
        other: Option<u32>,
        #[n(2)]
        why: StoredWhy,
    },
}

#[derive(Clone, Copy, Encode, Decode)]
#[cbor(index_only)]
enum StoredWhy {
    #[n(0)]
    Compromised,
    #[n(1)]
    Lost,
    #[n(2)]
    RolledBack,
}

impl Stored for Content {
    const NAME: &'static str = "keys";
    const FORMAT: u8 = FORMAT;

    fn format(&self) -> u8 {
        self.format
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct KeysFile(Generations);

impl KeysFile {
    /// Opens it and reads what is there.
    pub(super) fn open(dir: &Path) -> Result<(Self, Option<(Progress, PrivateKeys)>), StoredError> {
        let (file, content) = stored::open::<Content>(dir)?;
        let content = content.map(|content| {
            let Content { format: _, seq, epoch_max, cur, step, keys } = content;
            let progress = Progress { seq, epoch_max: Epoch(epoch_max), cur: cur.into(), step: step.into() };
            let keys = keys.iter().map(|key| (Epoch(key.epoch), key.private.into())).collect();
            (progress, keys)
        });
        Ok((Self(file), content))
    }

    /// Replaces what is there; when this returns, it is on disk.
    pub(super) fn store(&mut self, progress: &Progress, keys: &PrivateKeys) -> Result<(), GenerationsError> {
        let Progress { seq, epoch_max, cur, step } = *progress;
        let kept = progress.keys().filter_map(|epoch| keys.get(&epoch).map(|private| (epoch, private)));
        let keys =
            kept.map(|(epoch, private)| StoredPrivate { epoch: epoch.0, private: **private }).collect();
        let content =
            Content { format: FORMAT, seq, epoch_max: epoch_max.0, cur: cur.into(), step: step.into(), keys };
        stored::write(&mut self.0, &content)
    }
}

/// Removes the files.
pub(super) fn forget(dir: &Path) -> Result<(), GenerationsError> {
    Generations::open(dir, Content::NAME)?.0.remove()
}

impl From<KeySince> for StoredKey {
    fn from(key: KeySince) -> Self {
        Self { epoch: key.epoch.0, since: key.since }
    }
}

impl From<StoredKey> for KeySince {
    fn from(key: StoredKey) -> Self {
        Self { epoch: Epoch(key.epoch), since: key.since }
    }
}

impl From<Step> for StoredStep {
    fn from(step: Step) -> Self {
        match step {
            Step::Steady { destroyed } => Self::Steady { destroyed: destroyed.map(|epoch| epoch.0) },
            Step::Prepared { next } => Self::Prepared { next: next.into() },
            Step::Proving { next } => Self::Proving { next: next.into() },
            Step::Committed { prev, accept_until } => Self::Committed { prev: prev.into(), accept_until },
            Step::Replaced { old, other, why } => {
                Self::Replaced { old: old.0, other: other.map(|epoch| epoch.0), why: why.into() }
            }
        }
    }
}

impl From<StoredStep> for Step {
    fn from(step: StoredStep) -> Self {
        match step {
            StoredStep::Steady { destroyed } => Self::Steady { destroyed: destroyed.map(Epoch) },
            StoredStep::Prepared { next } => Self::Prepared { next: next.into() },
            StoredStep::Proving { next } => Self::Proving { next: next.into() },
            StoredStep::Committed { prev, accept_until } => {
                Self::Committed { prev: prev.into(), accept_until }
            }
            StoredStep::Replaced { old, other, why } => {
                Self::Replaced { old: Epoch(old), other: other.map(Epoch), why: why.into() }
            }
        }
    }
}

impl From<Why> for StoredWhy {
    fn from(why: Why) -> Self {
        match why {
            Why::Compromised => Self::Compromised,
            Why::Lost => Self::Lost,
            Why::RolledBack => Self::RolledBack,
        }
    }
}

impl From<StoredWhy> for Why {
    fn from(why: StoredWhy) -> Self {
        match why {
            StoredWhy::Compromised => Self::Compromised,
            StoredWhy::Lost => Self::Lost,
            StoredWhy::RolledBack => Self::RolledBack,
        }
    }
}
