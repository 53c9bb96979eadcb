//! The cosigned checkpoints that are kept beside the newest one: what says when others have seen which leaves.

use std::collections::{BTreeMap, BTreeSet};

use meshd_trust::log::Note;

use super::LogError;
use super::files::LogFiles;

/// Cosignatures of one witness that lie no further apart need none between them: leaves and the cosignature that
/// covers them may differ by 300 s.
const APART_S: u64 = 60;
/// Newest notes that are looked at: each witness may lag behind by some, and all older ones stay as they are.
pub(in crate::role::steward) const NOTES_MAX: usize = 32;

/// What is kept, by size.
#[derive(Debug, Default)]
pub(in crate::role::steward) struct Cosigned {
    newest: BTreeMap<u64, Note>,
    /// Of all that are on disk.
    sizes: BTreeSet<u64>,
}

impl Cosigned {
    /// Reads what a log has.
    pub(in crate::role::steward) fn open(files: &LogFiles) -> Result<Self, LogError> {
        let sizes = files.further_sizes()?;
        let newest = sizes.iter().rev().take(NOTES_MAX);
        let newest = newest.filter_map(|size| Some((*size, files.read_further(*size)?))).collect();
        Ok(Self { newest, sizes })
    }

    /// The note of a size, if it is one of the newest.
    pub(in crate::role::steward) fn of(&self, size: u64) -> Option<&Note> {
        self.newest.get(&size)
    }

    /// The newest, in order.
    pub(super) fn newest(&self) -> impl DoubleEndedIterator<Item = &Note> {
        self.newest.values()
    }

    /// The note of a size.
    pub(in crate::role::steward) fn read(&self, files: &LogFiles, size: u64) -> Option<Note> {
        self.sizes.get(&size)?;
        self.newest.get(&size).cloned().or_else(|| files.read_further(size))
    }

    /// Sizes of the notes that may have changed since the log had this size, the largest first.
    pub(in crate::role::steward) fn last_of(&self, size: u64) -> impl Iterator<Item = u64> {
        self.sizes.range(..=size).rev().take(NOTES_MAX).copied()
    }

    /// Removes the notes of trees that are larger than this.
    pub(in crate::role::steward) fn cut(&mut self, files: &LogFiles, size: u64) {
        for larger in self.sizes.split_off(&size.saturating_add(1)) {
            files.remove_further(larger);
            self.newest.remove(&larger);
        }
    }

    /// The largest size that has a note.
    pub(in crate::role::steward) fn largest(&self) -> u64 {
        self.sizes.last().copied().unwrap_or(0)
    }

    /// Writes a note in the place of an older one of its size, and removes those that say no more than others.
    pub(in crate::role::steward) fn keep(
        &mut self,
        files: &LogFiles,
        size: u64,
        note: Note,
    ) -> Result<(), LogError> {
        files.put_further(size, &note)?;
        self.sizes.insert(size);
        for idle in self.put(size, note) {
            files.remove_further(idle);
            self.sizes.remove(&idle);
        }
        Ok(())
    }

    /// Takes in a note; gives back the sizes that say no more than others.
    fn put(&mut self, size: u64, note: Note) -> Vec<u64> {
        self.newest.insert(size, note);
        let mut idle = Vec::new();
        for size in self.newest.keys().copied().collect::<Vec<_>>() {
            if self.is_idle(size) {
                self.newest.remove(&size);
                idle.push(size);
            }
        }
        while self.newest.len() > NOTES_MAX {
            self.newest.pop_first();
        }
        idle
    }

    /// Whether each witness of a note has cosigned one before and one behind it, close together.
    fn is_idle(&self, size: u64) -> bool {
        let Some(note) = self.newest.get(&size) else { return false };
        times(note).all(|(witness, _)| {
            let of = |(_, note): (&u64, &Note)| time_of(note, witness);
            let before = self.newest.range(..size).rev().find_map(of);
            let behind = self.newest.range(size + 1..).find_map(of);
            before.zip(behind).is_some_and(|(before, behind)| behind.saturating_sub(before) <= APART_S)
        })
    }
}

/// Witnesses of a note and when they cosigned it. All of them were verified when it was stored.
fn times(note: &Note) -> impl Iterator<Item = (&str, u64)> {
    note.signatures().iter().filter_map(|one| Some((one.name(), one.cosigned_at()?.0)))
}

fn time_of(note: &Note, witness: &str) -> Option<u64> {
    times(note).find(|(name, _)| *name == witness).map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use meshd_trust::SigningKey;
    use meshd_trust::log::{Checkpoint, LogOrigin, TreeHash, TreeHead};
    use meshd_wire::{MeshId, OrgId, Timestamp};

    use super::*;

    fn note(size: u64, cosigned: &[(u8, u64)]) -> Note {
        let origin = LogOrigin { mesh: MeshId([1; 32]), org: OrgId([2; 32]) };
        let checkpoint =
            Checkpoint { origin, head: TreeHead { size, root: TreeHash::leaf(&size.to_be_bytes()) } };
        let mut note = checkpoint.sign(&SigningKey::from_seed([1; 32]));
        for (witness, at) in cosigned {
            let key = SigningKey::from_seed([*witness; 32]);
            note.add(checkpoint.cosign(OrgId([*witness; 32]), &key, Timestamp(*at))).expect("room");
        }
        note
    }

    #[test]
    fn of_a_witness_that_cosigns_each_second_one_a_minute_is_kept_and_the_newest() {
        let mut cosigned = Cosigned::default();
        for second in 0..600 {
            cosigned.put(second + 1, note(second + 1, &[(7, 1_000 + second)]));
        }
        let newest_first = cosigned.newest().rev();
        let times: Vec<u64> = newest_first.filter_map(|note| time_of(note, &witness(7))).collect();
        assert_eq!(times.first(), Some(&1_599), "the newest");
        assert!(times.windows(2).all(|pair| pair[0] - pair[1] <= APART_S), "{times:?}");
        assert!(times.len() <= 2 * 600 / APART_S as usize, "{} are kept", times.len());
    }

    #[test]
    fn a_note_stays_as_long_as_one_of_its_witnesses_needs_it() {
        let (mut cosigned, none) = (Cosigned::default(), Vec::<u64>::new());
        assert_eq!(cosigned.put(1, note(1, &[(7, 1_000), (8, 1_000)])), none);
        assert_eq!(cosigned.put(2, note(2, &[(7, 1_010), (8, 1_010)])), none);
        assert_eq!(cosigned.put(3, note(3, &[(7, 1_020)])), none, "8 has seen no more than 2");
        // The last that 8 has seen is needed, the one between its two is not.
        assert_eq!(cosigned.put(4, note(4, &[(7, 1_030), (8, 1_030)])), [2, 3]);
        assert_eq!(cosigned.put(5, note(5, &[(7, 2_000), (8, 2_000)])), none, "a gap keeps both its ends");
    }

    #[test]
    fn the_newest_are_at_hand_and_all_others_on_disk() {
        let dir = tempfile::tempdir().expect("directory");
        let files = LogFiles::open(dir.path()).expect("opens");
        let mut cosigned = Cosigned::open(&files).expect("reads");
        let kept = 40;
        for size in 1..=kept {
            cosigned.keep(&files, size, note(size, &[(7, 1_000 * size)])).expect("is kept");
        }
        // One between two that are close together says no more than they do.
        cosigned.keep(&files, 41, note(41, &[(7, 1_000 * kept + 10)])).expect("is kept");
        cosigned.keep(&files, 42, note(42, &[(7, 1_000 * kept + 20)])).expect("is kept");
        for cosigned in [cosigned, Cosigned::open(&files).expect("reads")] {
            assert_eq!(cosigned.newest().count(), NOTES_MAX);
            assert!(cosigned.of(1).is_none() && cosigned.of(42).is_some());
            let sizes: BTreeSet<u64> = (1..=kept).chain([42]).collect();
            assert_eq!(cosigned.sizes, sizes);
            assert_eq!(files.further_sizes().expect("lists"), sizes);
            assert!(sizes.iter().all(|size| cosigned.read(&files, *size).is_some()));
            assert!(cosigned.read(&files, 41).is_none());
        }
    }

    fn witness(number: u8) -> String {
        LogOrigin { mesh: MeshId([1; 32]), org: OrgId([number; 32]) }.to_string()
    }
}
