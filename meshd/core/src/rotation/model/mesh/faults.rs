//! What goes wrong, and what the operator does.

use super::dice::Dice;
use super::plan::{Plan, Rates};
use super::queue::{End, Event, MINUTE, Ms, SECOND};
use super::simulation::Simulation;

/// Two clocks may differ by 90 s.
const SKEW_S_MAX: u64 = 45;

/// A fault, with its length where it has one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The node ends at any point, with or without what was being written, and starts again later. Running time begins
    /// anew if the host did.
    Crash {
        node: u16,
        is_written: bool,
        is_reboot: bool,
        lasts: Ms,
    },
    /// The node reaches nobody.
    Cut {
        node: u16,
        lasts: Ms,
    },
    /// Two nodes do not reach each other.
    Break {
        end: End,
        lasts: Ms,
    },
    /// A share of the nodes and services does not reach the others.
    Partition {
        number: u8,
        share_ppm: u64,
        lasts: Ms,
    },
    Registry {
        registry: u8,
        lasts: Ms,
    },
    Steward {
        org: u8,
        lasts: Ms,
    },
    /// The clock is in doubt.
    Doubt {
        node: u16,
        lasts: Ms,
    },
    /// The clock is set.
    Step {
        node: u16,
        skew_s: i64,
    },
    /// The disk takes nothing.
    Full {
        node: u16,
        lasts: Ms,
    },
    Compromise {
        node: u16,
    },
    /// The node starts again without one of its keys.
    Lose {
        node: u16,
    },
    /// What is on disk is kept …
    Backup {
        node: u16,
    },
    /// … and comes back in the place of what was there since.
    Restore {
        node: u16,
    },
    /// The operator wants another key.
    Rotate {
        node: u16,
    },
}

/// All faults of a plan, in any order, with the time since the beginning.
pub(super) fn draw(plan: &Plan, dice: &mut Dice) -> Vec<(Ms, Fault)> {
    let Rates {
        crashes,
        absences,
        cuts,
        breaks,
        partitions,
        registries_away,
        stewards_away,
        doubts,
        steps_of_clocks,
        full_disks,
        compromises,
        losses_of_keys,
        restores,
        rotations,
        crash_ppm: _,
        refusal_ppm: _,
    } = plan.rates;
    let long = plan.lead() * 4;
    let mut faults = Vec::new();
    let mut add = |count: usize, fault: &mut dyn FnMut(&mut Dice, u16) -> Fault| {
        for _ in 0..count {
            let at = dice.within(MINUTE..plan.faulty);
            let node = dice.one_of(plan.nodes) as u16;
            faults.push((at, fault(dice, node)));
        }
    };
    let crash = |dice: &mut Dice, node, lasts| {
        let (is_written, is_reboot) = (dice.coin(), dice.coin());
        Fault::Crash { node, is_written, is_reboot, lasts }
    };
    add(crashes, &mut |dice, node| {
        let lasts = dice.within(SECOND..MINUTE);
        crash(dice, node, lasts)
    });
    add(absences, &mut |dice, node| {
        let lasts = dice.within(plan.absence());
        crash(dice, node, lasts)
    });
    add(cuts, &mut |dice, node| Fault::Cut { node, lasts: dice.within(SECOND..long) });
    add(breaks, &mut |dice, node| {
        let link = dice.one_of(super::plan::LINKS_MIN) as u8;
        Fault::Break { end: End { node, link }, lasts: dice.within(SECOND..long) }
    });
    let mut number = 0;
    add(partitions, &mut |dice, _| {
        number += 1;
        Fault::Partition { number, share_ppm: dice.within(0..500_000), lasts: dice.within(MINUTE..long) }
    });
    add(registries_away, &mut |dice, _| {
        let registry = dice.one_of(plan.registries) as u8;
        Fault::Registry { registry, lasts: dice.within(MINUTE..long) }
    });
    add(stewards_away, &mut |dice, _| {
        let org = dice.one_of(usize::from(plan.orgs)) as u8;
        Fault::Steward { org, lasts: dice.within(MINUTE..long) }
    });
    add(doubts, &mut |dice, node| Fault::Doubt { node, lasts: dice.within(SECOND..plan.lead()) });
    add(steps_of_clocks, &mut |dice, node| Fault::Step { node, skew_s: skew(dice) });
    add(full_disks, &mut |dice, node| Fault::Full { node, lasts: dice.within(SECOND..10 * MINUTE) });
    add(compromises, &mut |_, node| Fault::Compromise { node });
    add(losses_of_keys, &mut |_, node| Fault::Lose { node });
    add(restores, &mut |_, node| Fault::Backup { node });
    add(rotations, &mut |_, node| Fault::Rotate { node });
    let backups: Vec<(Ms, u16)> = faults
        .iter()
        .filter_map(|(at, fault)| match fault {
            Fault::Backup { node } => Some((*at, *node)),
            _ => None,
        })
        .collect();
    for (at, node) in backups {
        faults.push((dice.within(at..plan.faulty), Fault::Restore { node }));
    }
    faults
}

/// How far the clock of a node is off.
pub(super) fn skew(dice: &mut Dice) -> i64 {
    dice.within(0..2 * SKEW_S_MAX + 1) as i64 - SKEW_S_MAX as i64
}

impl Simulation {
    pub(super) fn begin_fault(&mut self, fault: Fault) {
        let now = self.queue.now;
        match fault {
            Fault::Crash { node, is_written, is_reboot, lasts } => {
                let lasts = lasts.min(self.calm_at.saturating_sub(now)).max(1);
                self.crash(node, is_written, is_reboot, lasts);
                if is_reboot && self.dice.coin() {
                    // A host whose clock stood still waits for somebody to tell it the time.
                    let lasts = lasts + self.dice.within(SECOND..5 * MINUTE);
                    self.begin_fault(Fault::Doubt { node, lasts });
                }
                return;
            }
            Fault::Cut { node, .. } => {
                self.stations[usize::from(node)].cuts += 1;
                self.refresh(node);
            }
            Fault::Break { end, .. } => self.count_break(end, 1),
            Fault::Partition { number, share_ppm, .. } => {
                let bit = 1 << (number % 8);
                for station in &mut self.stations {
                    station.sides |= if self.dice.happens(share_ppm) { bit } else { 0 };
                }
                let registries = self.registries.iter_mut().map(|registry| &mut registry.place);
                let stewards = self.stewards.iter_mut().map(|steward| &mut steward.place);
                for place in registries.chain(stewards) {
                    place.sides |= if self.dice.happens(share_ppm) { bit } else { 0 };
                }
                self.refresh_all();
            }
            Fault::Registry { registry, .. } => {
                self.registries[usize::from(registry)].place.outages += 1;
                self.refresh_all();
            }
            Fault::Steward { org, .. } => {
                self.stewards[usize::from(org)].place.outages += 1;
                self.refresh_all();
            }
            Fault::Doubt { node, .. } => {
                self.stations[usize::from(node)].doubts += 1;
                self.refresh(node);
            }
            Fault::Full { node, .. } => {
                self.stations[usize::from(node)].disk_faults += 1;
                self.refresh(node);
            }
            Fault::Step { node, skew_s } => self.stations[usize::from(node)].skew_s = skew_s,
            Fault::Compromise { node } => {
                if self.stations[usize::from(node)].is_up {
                    self.trouble(node);
                    let time = self.time(node);
                    self.stations[usize::from(node)].machine.compromised(time);
                    self.settle(node);
                }
            }
            Fault::Lose { node } => {
                let station = &mut self.stations[usize::from(node)];
                let kept: Vec<_> = station.disk.keys.keys().copied().collect();
                // A stolen key may just have left none.
                if !kept.is_empty() {
                    let lost = kept[self.dice.one_of(kept.len())];
                    station.disk.keys.remove(&lost);
                }
                self.trouble(node);
                self.crash(node, false, false, SECOND);
            }
            Fault::Backup { node } => {
                let station = &mut self.stations[usize::from(node)];
                station.backup = Some((station.disk.clone(), station.proofs.clone()));
            }
            Fault::Restore { node } => self.restore(node),
            Fault::Rotate { node } => {
                if self.stations[usize::from(node)].is_up {
                    let time = self.time(node);
                    self.stations[usize::from(node)].machine.rotate(time);
                    self.settle(node);
                }
            }
        }
        if let Some(lasts) = lasts(fault) {
            let lasts = lasts.min(self.calm_at.saturating_sub(now)).max(1);
            self.queue.after(lasts, Event::Over(fault));
        }
    }

    pub(super) fn end_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Cut { node, .. } => {
                self.stations[usize::from(node)].cuts -= 1;
                self.refresh(node);
            }
            Fault::Break { end, .. } => self.count_break(end, -1),
            Fault::Partition { number, .. } => {
                let others = !(1 << (number % 8));
                self.stations.iter_mut().for_each(|station| station.sides &= others);
                let registries = self.registries.iter_mut().map(|registry| &mut registry.place);
                let stewards = self.stewards.iter_mut().map(|steward| &mut steward.place);
                registries.chain(stewards).for_each(|place| place.sides &= others);
                self.refresh_all();
            }
            Fault::Registry { registry, .. } => {
                self.registries[usize::from(registry)].place.outages -= 1;
                self.refresh_all();
            }
            Fault::Steward { org, .. } => {
                self.stewards[usize::from(org)].place.outages -= 1;
                self.refresh_all();
            }
            Fault::Doubt { node, .. } => {
                self.stations[usize::from(node)].doubts -= 1;
                self.refresh(node);
                self.wake(node);
            }
            Fault::Full { node, .. } => {
                self.stations[usize::from(node)].disk_faults -= 1;
                self.refresh(node);
            }
            Fault::Crash { .. }
            | Fault::Step { .. }
            | Fault::Compromise { .. }
            | Fault::Lose { .. }
            | Fault::Backup { .. }
            | Fault::Restore { .. }
            | Fault::Rotate { .. } => {}
        }
    }

    fn count_break(&mut self, end: End, by: i8) {
        for end in [end, self.link(end).peer] {
            let link = self.link_mut(end);
            link.breaks = link.breaks.saturating_add_signed(by);
        }
        self.refresh(end.node);
    }

    /// Puts an old state on the disk of a node that somebody can tell what it has said since.
    fn restore(&mut self, node: u16) {
        let n = usize::from(node);
        let in_registries = self.registries.iter().filter_map(|registry| Some(registry.held[n]?.index));
        let at_peers = self.stations[n].links.iter().filter_map(|link| self.link(link.peer).known);
        let heard = in_registries.chain(at_peers).max();
        let station = &mut self.stations[n];
        let Some(backup) = station.backup.take() else { return };
        (station.disk, station.proofs) = backup;
        // What a backup holds is outside of what can be claimed.
        station.ghost.destroyed.clear();
        station.untold = heard;
        for said in station.said.iter_mut().skip(heard.map_or(0, |heard| heard as usize + 1)) {
            said.is_forgotten = true;
        }
        if let Some(heard) = heard {
            station.ghost.forget_after(station.said[heard as usize].content);
        }
        station.writing.clear();
        self.trouble(node);
        self.crash(node, false, false, SECOND);
    }
}

fn lasts(fault: Fault) -> Option<Ms> {
    match fault {
        Fault::Crash { lasts, .. }
        | Fault::Cut { lasts, .. }
        | Fault::Break { lasts, .. }
        | Fault::Partition { lasts, .. }
        | Fault::Registry { lasts, .. }
        | Fault::Steward { lasts, .. }
        | Fault::Doubt { lasts, .. }
        | Fault::Full { lasts, .. } => Some(lasts),
        Fault::Step { .. }
        | Fault::Compromise { .. }
        | Fault::Lose { .. }
        | Fault::Backup { .. }
        | Fault::Restore { .. }
        | Fault::Rotate { .. } => None,
    }
}
