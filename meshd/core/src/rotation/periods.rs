//! How long each part of a rotation takes.

use std::time::Duration;

/// A tunnel key lives half a day.
const PERIOD: Duration = Duration::from_secs(12 * 3600);
/// Announced so long before it is used.
const LEAD: Duration = Duration::from_secs(30 * 60);
/// Accepted so long after the next one is in use.
const OVERLAP: Duration = Duration::from_secs(15 * 60);
/// Longer than a session can live, so that none is cut off.
const SILENCE: Duration = Duration::from_secs(200);
/// Twice the time in which registries are compared: who is there has heard of a record by then.
const SETTLING: Duration = Duration::from_secs(60);
/// The greatest age of a key.
const AGE_MAX: Duration = Duration::from_secs(48 * 3600);
/// What the agreement's field can hold.
const AGE_BOUND: Duration = Duration::from_secs(u32::MAX as u64);
/// Packets of a period at 25 million a second; far below the 2^60 after which a session is replaced.
const PACKETS_MAX: u64 = 1 << 40;
/// Bytes of a period at 200 Gbit/s.
const BYTES_MAX: u64 = 1 << 50;
/// Shortest lead outside of a lab: a peer may be slow, or its clock wrong by 90 s.
const LEAD_MIN: Duration = Duration::from_secs(120);
/// A WireGuard session is refused at this age, so silence below it says nothing.
const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// Shortest period in a lab.
const LAB_PERIOD_MIN: Duration = Duration::from_secs(1);
/// Shortest overlap in a lab, whatever its period: time for two handshakes with what the network loses of them.
const LAB_OVERLAP_MIN: Duration = Duration::from_secs(10);

/// The lengths of a rotation's parts, as somebody wishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lengths {
    /// P: from one key in use to the next; each is up to a tenth shorter, so that nodes do not rotate in step.
    pub period: Duration,
    /// A: from the announcement of a key until it is used even if peers are missing.
    pub lead: Duration,
    /// W: longest wait for peers to acknowledge an announced key.
    pub wait: Duration,
    /// O: how long the key before is still accepted.
    pub overlap: Duration,
    /// Q: silence on the key before after which it is dropped.
    pub silence: Duration,
    /// How long peers that are missing get at least, and those that can't acknowledge at most.
    pub settling: Duration,
    /// E: the greatest age of a key.
    pub age_max: Duration,
    /// Packets after which a key is replaced before its time.
    pub packets_max: u64,
    /// Bytes after which a key is replaced before its time.
    pub bytes_max: u64,
}

/// Where lengths must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// A mesh that carries something.
    Real,
    /// A mesh whose genesis says that it is a lab: everything may be short.
    Lab,
}

/// Says which length is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLengths {
    /// One rotation would not end before the next one begins.
    #[error("period of {period:?} is not longer than lead, overlap and silence together, {parts:?}")]
    TooShort {
        /// The period.
        period: Duration,
        /// Lead, overlap and silence.
        parts: Duration,
    },
    /// Keys would be refused before they are replaced.
    #[error("period of {period:?} is longer than half the greatest age of a key, {age_max:?}")]
    TooLong {
        /// The period.
        period: Duration,
        /// The greatest age.
        age_max: Duration,
    },
    /// Peers would hear too late.
    #[error("lead of {0:?} is shorter than {LEAD_MIN:?}")]
    Lead(Duration),
    /// A wait must end before the lead does.
    #[error("wait of {wait:?} is longer than the lead of {lead:?}")]
    Wait {
        /// The wait.
        wait: Duration,
        /// The lead.
        lead: Duration,
    },
    /// A session could still be in use.
    #[error("silence of {0:?} is not longer than a session lives, {REJECT_AFTER_TIME:?}")]
    Silence(Duration),
    /// No agreement can say so.
    #[error("greatest age of a key of {0:?} is longer than {AGE_BOUND:?}")]
    Age(Duration),
    /// Not even in a lab.
    #[error("period of {0:?} is shorter than {LAB_PERIOD_MIN:?}")]
    Period(Duration),
    /// A key would be replaced without rest.
    #[error("a key must carry at least one packet and one byte")]
    Nothing,
}

impl Lengths {
    /// Lengths for a period: the usual ones, or in proportion where the period is short.
    pub fn for_period(period: Duration, bounds: Bounds) -> Self {
        let lead = LEAD.min(period / 4);
        // A lab has no long silence to wait for: the time is the peers', whose hosts may be busy.
        let (overlap, silence) = match bounds {
            Bounds::Real => (period / 4, SILENCE),
            Bounds::Lab => ((period / 8 * 3).max(LAB_OVERLAP_MIN), SILENCE.min(period / 8)),
        };
        Self {
            period,
            lead,
            wait: lead / 2,
            overlap: OVERLAP.min(overlap),
            silence,
            settling: SETTLING.min(lead / 2),
            age_max: AGE_MAX,
            packets_max: PACKETS_MAX,
            bytes_max: BYTES_MAX,
        }
    }
}

/// Lengths that fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Periods(Lengths);

impl Periods {
    /// Checks lengths.
    pub fn new(lengths: Lengths, bounds: Bounds) -> Result<Self, BadLengths> {
        let Lengths { period, lead, wait, overlap, silence, settling, age_max, packets_max, bytes_max } =
            lengths;
        // In a lab a peer that is missing may hold up the next rotation.
        let overlap = if bounds == Bounds::Lab { Duration::ZERO } else { overlap };
        let parts = lead.saturating_add(overlap).saturating_add(silence);
        if period <= parts {
            return Err(BadLengths::TooShort { period, parts });
        }
        if period > age_max / 2 {
            return Err(BadLengths::TooLong { period, age_max });
        }
        if wait > lead {
            return Err(BadLengths::Wait { wait, lead });
        }
        if settling > lead {
            return Err(BadLengths::Wait { wait: settling, lead });
        }
        if age_max > AGE_BOUND {
            return Err(BadLengths::Age(age_max));
        }
        if packets_max == 0 || bytes_max == 0 {
            return Err(BadLengths::Nothing);
        }
        match bounds {
            Bounds::Real if lead < LEAD_MIN => Err(BadLengths::Lead(lead)),
            Bounds::Real if silence <= REJECT_AFTER_TIME => Err(BadLengths::Silence(silence)),
            Bounds::Lab if period < LAB_PERIOD_MIN => Err(BadLengths::Period(period)),
            Bounds::Real | Bounds::Lab => Ok(Self(lengths)),
        }
    }

    /// The lengths.
    pub fn lengths(&self) -> &Lengths {
        &self.0
    }
}

impl Default for Periods {
    fn default() -> Self {
        Self(Lengths::for_period(PERIOD, Bounds::Real))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_usual_lengths_fit_together() {
        let usual = Periods::default();
        assert_eq!(Periods::new(*usual.lengths(), Bounds::Real), Ok(usual));
        let Lengths { lead, wait, overlap, silence, settling, .. } = *usual.lengths();
        let seconds = [lead, wait, overlap, silence, settling].map(|length| length.as_secs());
        assert_eq!(seconds, [1800, 900, 900, 200, 60]);
    }

    #[test]
    fn each_length_that_does_not_fit_is_named() {
        let usual = *Periods::default().lengths();
        let second = Duration::from_secs(1);
        let check = |lengths, bounds| Periods::new(lengths, bounds).unwrap_err();
        let parts = usual.lead + usual.overlap + usual.silence;
        let period = Lengths { period: parts, ..usual };
        assert_eq!(check(period, Bounds::Real), BadLengths::TooShort { period: parts, parts });
        let old = Lengths { age_max: usual.period, ..usual };
        assert!(matches!(check(old, Bounds::Lab), BadLengths::TooLong { .. }));
        let wait = Lengths { wait: usual.lead + second, ..usual };
        assert!(matches!(check(wait, Bounds::Lab), BadLengths::Wait { .. }));
        let lead = Lengths { lead: LEAD_MIN - second, wait: second, ..usual };
        assert_eq!(check(lead, Bounds::Real), BadLengths::Lead(LEAD_MIN - second));
        let silence = Lengths { silence: REJECT_AFTER_TIME, ..usual };
        assert_eq!(check(silence, Bounds::Real), BadLengths::Silence(REJECT_AFTER_TIME));
        assert!(Periods::new(silence, Bounds::Lab).is_ok());
        let short = Lengths::for_period(second / 2, Bounds::Lab);
        assert_eq!(check(short, Bounds::Lab), BadLengths::Period(second / 2));
        let settling = Lengths { settling: usual.lead + second, ..usual };
        assert!(matches!(check(settling, Bounds::Lab), BadLengths::Wait { .. }));
        let ages = Lengths { age_max: Duration::MAX, ..usual };
        assert_eq!(check(ages, Bounds::Lab), BadLengths::Age(Duration::MAX));
        assert_eq!(check(Lengths { packets_max: 0, ..usual }, Bounds::Lab), BadLengths::Nothing);
    }

    proptest! {
        #[test]
        fn every_period_of_a_lab_and_every_longer_one_of_a_mesh_has_lengths(ms in 1_000..86_400_000_u64) {
            let period = Duration::from_millis(ms);
            prop_assert!(Periods::new(Lengths::for_period(period, Bounds::Lab), Bounds::Lab).is_ok());
            let real = Periods::new(Lengths::for_period(period, Bounds::Real), Bounds::Real);
            prop_assert_eq!(real.is_ok(), period >= LEAD_MIN * 4, "{:?}", real);
        }
    }
}
