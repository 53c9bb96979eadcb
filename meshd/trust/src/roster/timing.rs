//! Against which time a record is checked.

use meshd_wire::Timestamp;

use super::limits::CLOCK_SKEW_S;
use super::refusal::Refusal;

/// When a record is verified: on arrival, or while the own state file is read.
///
/// What was accepted in time stays readable later, so a restored record is checked in everything but
/// time and revocation; its standing says the rest.
#[derive(Debug, Clone, Copy)]
pub(super) enum Timing {
    Arrives(Timestamp),
    Restored,
}

impl Timing {
    /// Refuses what is dated too far ahead.
    pub(super) fn check_begun(self, begin: Timestamp) -> Result<(), Refusal> {
        match self {
            Self::Arrives(now) if begin > now.plus(CLOCK_SKEW_S) => Err(Refusal::Future),
            Self::Arrives(_) | Self::Restored => Ok(()),
        }
    }

    /// Refuses what is over.
    pub(super) fn check_not_over(self, end: Timestamp) -> Result<(), Refusal> {
        match self {
            Self::Arrives(now) if end < now => Err(Refusal::Expired),
            Self::Arrives(_) | Self::Restored => Ok(()),
        }
    }

    /// Whether a record may still be used under this timing.
    pub(super) fn is_restore(self) -> bool {
        matches!(self, Self::Restored)
    }
}
