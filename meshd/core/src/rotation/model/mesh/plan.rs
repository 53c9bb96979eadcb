//! What a seed stands for: the mesh, the lengths of its rotations, the network and the faults.

use std::time::Duration;

use super::super::super::{Bounds, Lengths, Periods};
use super::dice::Dice;
use super::queue::{HOUR, MINUTE, Ms};

/// Links of a node, at least and at most: a full mesh of a thousand nodes would be a million pairs.
pub(super) const LINKS_MIN: usize = 8;
pub(super) const LINKS_MAX: usize = 16;

/// How often what happens, in the time before the calm.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) crashes: usize,
    /// Nodes that are away with the time of a whole rotation and more.
    pub(super) absences: usize,
    pub(super) cuts: usize,
    pub(super) breaks: usize,
    pub(super) partitions: usize,
    pub(super) registries_away: usize,
    pub(super) stewards_away: usize,
    pub(super) doubts: usize,
    pub(super) steps_of_clocks: usize,
    pub(super) full_disks: usize,
    pub(super) compromises: usize,
    pub(super) losses_of_keys: usize,
    pub(super) restores: usize,
    pub(super) rotations: usize,
    /// In a million: a node crashes while it carries out an effect.
    pub(super) crash_ppm: u64,
    /// In a million: a steward refuses a key for good.
    pub(super) refusal_ppm: u64,
}

/// All that does not change while a simulation runs.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) orgs: u8,
    pub(super) registries: usize,
    pub(super) periods: Periods,
    /// Virtual time with faults, and after it.
    pub(super) faulty: Ms,
    pub(super) calm: Ms,
    /// In a million messages.
    pub(super) loss_ppm: u64,
    pub(super) repeat_ppm: u64,
    /// These take up to two seconds.
    pub(super) slow_ppm: u64,
    /// In a million links: there is no control channel.
    pub(super) registry_only_ppm: u64,
    pub(super) rates: Rates,
}

impl Plan {
    /// A day of a mesh with everything that can go wrong, as a seed draws it.
    pub(super) fn day(seed: u64, nodes: usize) -> Self {
        let mut dice = Dice::new(seed);
        // Half the days keep to the usual lengths; in the others, keys become too old if rotations fail.
        let (lengths, length) = match dice.coin() {
            true => (*Periods::default().lengths(), 24 * HOUR),
            false => {
                let period = Duration::from_secs(2 * 3600);
                let lengths = Lengths::for_period(period, Bounds::Real);
                (Lengths { age_max: Duration::from_secs(8 * 3600), ..lengths }, 6 * HOUR)
            }
        };
        let mut up_to = |most: usize| dice.one_of(most * nodes / 1_000 + 2);
        let rates = Rates {
            crashes: up_to(600),
            absences: up_to(100),
            cuts: up_to(200),
            breaks: up_to(400),
            partitions: up_to(0) * 3,
            registries_away: up_to(4),
            stewards_away: up_to(4),
            doubts: up_to(60),
            steps_of_clocks: up_to(200),
            full_disks: up_to(100),
            compromises: up_to(40),
            losses_of_keys: up_to(20),
            restores: up_to(40),
            rotations: up_to(200),
            crash_ppm: up_to(0) as u64 * 5_000,
            refusal_ppm: up_to(0) as u64 * 10_000,
        };
        Self {
            seed,
            nodes,
            orgs: 4,
            registries: 2,
            periods: Periods::new(lengths, Bounds::Real).unwrap(),
            faulty: length * 3 / 4,
            calm: length / 4,
            loss_ppm: dice.within(0..80_000),
            repeat_ppm: dice.within(0..50_000),
            slow_ppm: 10_000,
            registry_only_ppm: dice.within(0..500_000),
            rates,
        }
    }

    pub(super) fn lead(&self) -> Ms {
        self.periods.lengths().lead.as_millis() as Ms
    }

    pub(super) fn period(&self) -> Ms {
        self.periods.lengths().period.as_millis() as Ms
    }

    /// The longest time that a rotation takes.
    pub(super) fn longest(&self) -> Ms {
        let lengths = self.periods.lengths();
        (lengths.lead + lengths.overlap + lengths.silence).as_millis() as Ms
    }

    /// For so long records may find no way to a peer without a control channel, and it loses nothing. If the log is late,
    /// the overlap is all that is left for it to hear of the next key.
    pub(super) fn promised(&self) -> Ms {
        self.periods.lengths().overlap.as_millis() as Ms / 2
    }

    /// Away for longer than peers remember a key of before.
    pub(super) fn absence(&self) -> std::ops::Range<Ms> {
        self.longest()..self.longest() + 30 * MINUTE
    }
}
