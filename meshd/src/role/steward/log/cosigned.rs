//! The cosigned checkpoints that are kept beside the newest one: what says when others have seen which leaves.

use std::collections::BTreeMap;

use meshd_trust::log::Note;

/// Cosignatures of one witness that lie no further apart need none between them: leaves and the cosignature that
/// covers them may differ by 300 s.
const APART_S: u64 = 60;
/// The newest of them, by size.
#[derive(Debug, Default)]
pub(super) struct Cosigned(BTreeMap<u64, Note>);

impl Cosigned {
    /// Newest notes that are looked at: each witness may lag behind by some, and all older ones stay as they are.
    pub(super) const NOTES_MAX: usize = 32;

    /// Takes in the notes of a log that is opened.
    pub(super) fn new(notes: impl IntoIterator<Item = (u64, Note)>) -> Self {
        let mut this = Self(notes.into_iter().collect());
        this.forget();
        this
    }

    /// The note of a size.
    pub(super) fn of(&self, size: u64) -> Option<&Note> {
        self.0.get(&size)
    }

    /// All of them, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Note> {
        self.0.values().rev()
    }

    /// Puts a note in the place of an older one of its size; gives back the sizes that say no more than others.
    pub(super) fn put(&mut self, size: u64, note: Note) -> Vec<u64> {
        self.0.insert(size, note);
        let mut idle = Vec::new();
        for size in self.0.keys().copied().collect::<Vec<_>>() {
            if self.is_idle(size) {
                self.0.remove(&size);
                idle.push(size);
            }
        }
        self.forget();
        idle
    }

    /// Whether each witness of a note has cosigned one before and one behind it, close together.
    fn is_idle(&self, size: u64) -> bool {
        let Some(note) = self.0.get(&size) else { return false };
        times(note).all(|(witness, _)| {
            let of = |(_, note): (&u64, &Note)| time_of(note, witness);
            let before = self.0.range(..size).rev().find_map(of);
            let behind = self.0.range(size + 1..).find_map(of);
            before.zip(behind).is_some_and(|(before, behind)| behind.saturating_sub(before) <= APART_S)
        })
    }

    fn forget(&mut self) {
        while self.0.len() > Self::NOTES_MAX {
            self.0.pop_first();
        }
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
        let times: Vec<u64> = cosigned.newest_first().filter_map(|note| time_of(note, &witness(7))).collect();
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

    fn witness(number: u8) -> String {
        LogOrigin { mesh: MeshId([1; 32]), org: OrgId([number; 32]) }.to_string()
    }
}
