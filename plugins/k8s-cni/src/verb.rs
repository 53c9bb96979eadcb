//! What a runtime may ask for.

use std::time::Duration;

use crate::version::Version;

/// A verb of CNI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Look whether all is in place.
    Check,
    /// Detach all but those listed.
    Gc,
    /// Tell whether containers could be attached.
    Status,
    /// Tell the versions spoken.
    Version,
}

impl Verb {
    /// All verbs.
    pub const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// The word in `CNI_COMMAND`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// Finds the verb of a word.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.word() == word)
    }

    /// Time from start to answer: a runtime holds its caller up that long. DEL holds up the end of a pod, STATUS is
    /// asked every few seconds.
    pub const fn time_max(self) -> Duration {
        match self {
            Self::Add | Self::Check | Self::Gc => Duration::from_millis(4500),
            Self::Del | Self::Status => Duration::from_millis(1500),
            Self::Version => Duration::from_millis(500),
        }
    }

    /// First version that has it.
    pub const fn since(self) -> Version {
        match self {
            Self::Add | Self::Del | Self::Version => Version::V0_3_0,
            Self::Check => Version::V0_4_0,
            Self::Gc | Self::Status => Version::V1_1_0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_ends_before_runtimes_lose_patience() {
        for verb in Verb::ALL {
            let bound = if verb == Verb::Del { Duration::from_secs(2) } else { Duration::from_secs(5) };
            assert!(verb.time_max() < bound, "{}", verb.word());
        }
    }

    #[test]
    fn words_are_those_of_the_specification() {
        for word in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
            assert_eq!(Verb::of(word).map(Verb::word), Some(word));
        }
        assert_eq!(Verb::of("add"), None);
    }
}
