//! The tunnel keys of this node on disk, and how far their rotation is.

use std::path::Path;

use meshd_core::rotation::{Epoch, KeySince, Step, Stored as Progress, Why};
use meshd_wire::NodeId;
use minicbor::{Decode, Encode};

use super::PrivateKeys;
use crate::generations::{Generations, GenerationsError};
use crate::private_key::PrivateKey;
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
    /// Whose they are: what an earlier membership left is nothing to this one.
    #[n(6)]
    node: NodeId,
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

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredPrivate {
    #[n(0)]
    epoch: u32,
    #[n(1)]
    private: PrivateKey,
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
pub(super) struct KeysFile {
    file: Generations,
    node: NodeId,
}

impl KeysFile {
    /// Opens it and reads what is there of a node.
    pub(super) fn open(
        dir: &Path,
        node: NodeId,
    ) -> Result<(Self, Option<(Progress, PrivateKeys)>), StoredError> {
        let (file, content) = stored::open::<Content>(dir)?;
        let content = content.filter(|content| content.node == node).map(|content| {
            let Content { format: _, seq, epoch_max, cur, step, keys, node: _ } = content;
            let progress = Progress { seq, epoch_max: Epoch(epoch_max), cur: cur.into(), step: step.into() };
            let keys = keys.into_iter().map(|key| (Epoch(key.epoch), key.private)).collect();
            (progress, keys)
        });
        Ok((Self { file, node }, content))
    }

    /// Replaces what is there; when this returns, it is on disk.
    pub(super) fn store(&mut self, progress: &Progress, keys: &PrivateKeys) -> Result<(), GenerationsError> {
        let Progress { seq, epoch_max, cur, step } = *progress;
        let kept = progress.keys().filter_map(|epoch| keys.get(&epoch).map(|private| (epoch, private)));
        let keys =
            kept.map(|(epoch, private)| StoredPrivate { epoch: epoch.0, private: private.clone() }).collect();
        let (cur, step) = (cur.into(), step.into());
        let content =
            Content { format: FORMAT, seq, epoch_max: epoch_max.0, cur, step, keys, node: self.node };
        stored::write(&mut self.file, &content)
    }
}

/// Removes the files.
pub(super) fn forget(dir: &Path) -> Result<(), GenerationsError> {
    Generations::forget(dir, Content::NAME)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const OLD: [u8; 32] = [0xa5; 32];
    const NEW: [u8; 32] = [0x5a; 32];
    const NODE: NodeId = NodeId([7; 32]);

    fn key(epoch: u32, since: u64) -> KeySince {
        KeySince { epoch: Epoch(epoch), since }
    }

    fn progress(step: Step) -> Progress {
        Progress { seq: 9, epoch_max: Epoch(4), cur: key(3, 100), step }
    }

    fn keys() -> PrivateKeys {
        [(2, OLD), (3, NEW)]
            .into_iter()
            .map(|(epoch, key)| (Epoch(epoch), PrivateKey::from_bytes(&key).expect("32 bytes")))
            .collect()
    }

    #[test]
    fn what_is_stored_is_read_at_every_step() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut file, nothing) = KeysFile::open(dir.path(), NODE).expect("opens");
        assert!(nothing.is_none());
        let steps = [
            Step::Steady { destroyed: None },
            Step::Steady { destroyed: Some(Epoch(2)) },
            Step::Prepared { next: key(4, 150) },
            Step::Proving { next: key(4, 150) },
            Step::Committed { prev: key(2, 50), accept_until: 1000 },
            Step::Replaced { old: Epoch(2), other: Some(Epoch(4)), why: Why::Compromised },
            Step::Replaced { old: Epoch(2), other: None, why: Why::Lost },
            Step::Replaced { old: Epoch(2), other: None, why: Why::RolledBack },
        ];
        for step in steps {
            file.store(&progress(step), &keys()).expect("stored");
            let (_, read) = KeysFile::open(dir.path(), NODE).expect("opens again");
            let (read, private) = read.expect("something is there");
            assert_eq!(read, progress(step));
            assert!(private.get(&Epoch(3)) == PrivateKey::from_bytes(&NEW).as_ref());
        }
    }

    #[test]
    fn what_an_earlier_membership_left_is_nothing_to_the_next_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut file, _) = KeysFile::open(dir.path(), NODE).expect("opens");
        file.store(&progress(Step::Steady { destroyed: None }), &keys()).expect("stored");
        let (_, read) = KeysFile::open(dir.path(), NodeId([8; 32])).expect("opens");
        assert!(read.is_none());
        fs::write(dir.path().join("keys.a"), b"damaged").expect("written");
        fs::write(dir.path().join("keys.b"), b"damaged").expect("written");
        forget(dir.path()).expect("removed unread");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn a_key_that_is_not_in_use_any_more_is_in_no_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut file, _) = KeysFile::open(dir.path(), NODE).expect("opens");
        let holds = |key: [u8; 32]| {
            let files =
                fs::read_dir(dir.path()).expect("a directory").map(|file| file.expect("a file").path());
            files.filter(|path| fs::read(path).expect("a file").windows(32).any(|part| part == key)).count()
        };
        file.store(&progress(Step::Committed { prev: key(2, 50), accept_until: 1000 }), &keys())
            .expect("stored");
        assert_eq!((holds(OLD), holds(NEW)), (2, 2));
        // Though memory still has it.
        file.store(&progress(Step::Steady { destroyed: Some(Epoch(2)) }), &keys()).expect("stored");
        assert_eq!((holds(OLD), holds(NEW)), (0, 2));
    }
}
