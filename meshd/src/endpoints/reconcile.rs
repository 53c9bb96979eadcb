//! What endpoints are according to this node, and what the kernel has: what is to be done where they differ.
//!
//! No runtime says goodbye reliably. What looks dead is left alone for a while, so that a restart in flight is not
//! raced; an address that a link still holds is never given back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use meshd_wire::EndpointId;

use super::entry::{BootId, Entry, Stage};
use crate::os::{LinkOwner, Veth, host_link};

/// How long an endpoint looks dead before its addresses are given back.
pub const GRACE: Duration = Duration::from_secs(40);
/// How long a pair without an endpoint stays that somebody lives behind.
pub const LIVING_ORPHAN_GRACE: Duration = Duration::from_secs(60);
/// How long another pair without an endpoint stays: a survey may run beside an attachment that it doesn't know of yet.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(20);

/// What the kernel has.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The run of the kernel.
    pub boot: BootId,
    /// Pairs of ours.
    pub pairs: BTreeMap<EndpointId, Veth>,
    /// Addresses that lead to links of endpoints, each with the name of its link.
    pub routes: BTreeSet<(String, IpAddr)>,
    /// Endpoints whose namespace is there.
    pub living: BTreeSet<EndpointId>,
    /// One line for each thing in the packet filter that is not as it was written, or missing in the chains of others.
    pub filter_faults: Vec<String>,
}

/// What is to be done. It is said again by every survey until it has come true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Detach it and give its addresses back.
    Release {
        /// Which one.
        id: EndpointId,
        /// Why.
        reason: Reason,
    },
    /// Wire it again: its link is in place, but not all that belongs to it.
    Rewire {
        /// Which one.
        id: EndpointId,
    },
    /// Its namespace lives, its link is gone: it keeps its addresses until its runtime says what it wants.
    Break {
        /// Which one.
        id: EndpointId,
    },
    /// Delete a pair that nobody knows.
    RemovePair {
        /// Whose it was.
        owner: LinkOwner,
    },
}

/// Why an endpoint is released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The host was started anew.
    HostRestarted,
    /// The namespace it was in is gone, and its link with it.
    NamespaceGone,
    /// The link that its runtime took is gone, with the namespace it was in.
    LinkGone,
    /// Its runtime never took its link, or gave it back.
    LinkNotTaken,
}

/// What looks dead, and since when.
#[derive(Debug, Default)]
pub struct Suspects {
    since: BTreeMap<(EndpointId, Suspicion), Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Suspicion {
    Dead(Reason),
    Orphan,
}

/// Judges all endpoints by a survey. Those that are being wired or released are the business of whoever does that.
pub fn verdicts(entries: &[Entry], survey: &Survey, suspects: &mut Suspects, now: Instant) -> Vec<Verdict> {
    let mut before = std::mem::take(&mut suspects.since);
    let mut is_over = |id: EndpointId, suspicion: Suspicion, grace: Duration| {
        let since = before.remove(&(id, suspicion)).unwrap_or(now);
        suspects.since.insert((id, suspicion), since);
        now.saturating_duration_since(since) >= grace
    };
    let mut verdicts = Vec::new();
    for entry in entries {
        let id = entry.id;
        match finding(entry, survey) {
            Finding::Well => {}
            Finding::Dead(Reason::HostRestarted) => {
                verdicts.push(Verdict::Release { id, reason: Reason::HostRestarted });
            }
            Finding::Dead(reason) => {
                if is_over(id, Suspicion::Dead(reason), GRACE) {
                    verdicts.push(Verdict::Release { id, reason });
                }
            }
            Finding::Broken => verdicts.push(Verdict::Break { id }),
            Finding::Incomplete => verdicts.push(Verdict::Rewire { id }),
        }
    }
    let known: BTreeSet<EndpointId> = entries.iter().map(|entry| entry.id).collect();
    for (id, pair) in survey.pairs.iter().filter(|(id, _)| !known.contains(id)) {
        let grace = if pair.is_handed_over { LIVING_ORPHAN_GRACE } else { ORPHAN_GRACE };
        if is_over(*id, Suspicion::Orphan, grace) {
            verdicts.push(Verdict::RemovePair { owner: pair.owner.clone() });
        }
    }
    verdicts
}

/// What can be collected at once, because somebody asks. A link that its runtime does not have may be on its way to the
/// container or from it: that one keeps its grace.
pub fn collectable(entries: &[Entry], survey: &Survey) -> Vec<Verdict> {
    let dead = entries.iter().filter_map(|entry| match finding(entry, survey) {
        Finding::Dead(Reason::LinkNotTaken) | Finding::Well | Finding::Broken | Finding::Incomplete => None,
        Finding::Dead(reason) => Some(Verdict::Release { id: entry.id, reason }),
    });
    let known: BTreeSet<EndpointId> = entries.iter().map(|entry| entry.id).collect();
    let unknown = survey.pairs.iter().filter(|(id, _)| !known.contains(id));
    dead.chain(unknown.map(|(_, pair)| Verdict::RemovePair { owner: pair.owner.clone() })).collect()
}

enum Finding {
    Well,
    Dead(Reason),
    Broken,
    Incomplete,
}

fn finding(entry: &Entry, survey: &Survey) -> Finding {
    if entry.boot != survey.boot {
        return Finding::Dead(Reason::HostRestarted);
    }
    match entry.stage {
        Stage::Attached => {}
        Stage::Wiring | Stage::Releasing => return Finding::Well,
    }
    let pair = survey.pairs.get(&entry.id);
    match &entry.namespace {
        _ if pair.is_some_and(|pair| pair.is_handed_over) => {
            let link = host_link(entry.id);
            let is_routed = |address: &IpAddr| survey.routes.contains(&(link.clone(), *address));
            if entry.addresses.iter().all(is_routed) { Finding::Well } else { Finding::Incomplete }
        }
        Some(_) if survey.living.contains(&entry.id) => Finding::Broken,
        Some(_) => Finding::Dead(Reason::NamespaceGone),
        None if pair.is_some() => Finding::Dead(Reason::LinkNotTaken),
        None => Finding::Dead(Reason::LinkGone),
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostRestarted => "the host was started anew",
            Self::NamespaceGone => "its network namespace is gone",
            Self::LinkGone => "its link is gone",
            Self::LinkNotTaken => "its runtime does not have its link",
        })
    }
}

#[cfg(test)]
mod tests {
    use meshd_api::{Attachment, Labels, Namespace};
    use meshd_wire::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::os::{Mac, host_mac};

    const BOOT: BootId = BootId([1; 16]);

    /// All that can be with an endpoint.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Case {
        Unknown,
        Well,
        WellUnderALostPath,
        Unrouted,
        HalfRouted,
        Broken,
        NotInItsLivingNamespace,
        Dead,
        DeadWithItsEndHere,
        TakenWell,
        NotTaken,
        Lost,
        Orphan,
        LivingOrphan,
        WiringYet,
        ReleasingStill,
        OfAnotherBoot,
        OfAnotherBootAndReleasing,
    }

    const CASES: [Case; 18] = [
        Case::Unknown,
        Case::Well,
        Case::WellUnderALostPath,
        Case::Unrouted,
        Case::HalfRouted,
        Case::Broken,
        Case::NotInItsLivingNamespace,
        Case::Dead,
        Case::DeadWithItsEndHere,
        Case::TakenWell,
        Case::NotTaken,
        Case::Lost,
        Case::Orphan,
        Case::LivingOrphan,
        Case::WiringYet,
        Case::ReleasingStill,
        Case::OfAnotherBoot,
        Case::OfAnotherBootAndReleasing,
    ];

    #[test]
    fn each_case_has_its_verdict_after_its_grace() {
        for case in CASES {
            let (expected, grace) = expected(case, id(3));
            let (entries, survey) = world(&[(3, case)]);
            let mut suspects = Suspects::default();
            let start = Instant::now();
            let just_before = grace.saturating_sub(Duration::from_millis(1));
            for (after, is_due) in [(Duration::ZERO, grace.is_zero()), (just_before, grace.is_zero())] {
                let found = verdicts(&entries, &survey, &mut suspects, start + after);
                let wanted = Vec::from_iter(expected.clone().filter(|_| is_due));
                assert_eq!(found, wanted, "{case:?} after {after:?}");
            }
            for _ in 0..2 {
                let found = verdicts(&entries, &survey, &mut suspects, start + grace);
                assert_eq!(found, Vec::from_iter(expected.clone()), "{case:?}");
            }
        }
    }

    #[test]
    fn what_is_surely_dead_can_be_collected_at_once() {
        for case in CASES {
            let (entries, survey) = world(&[(3, case)]);
            let wanted = match case {
                Case::Dead
                | Case::DeadWithItsEndHere
                | Case::Lost
                | Case::Orphan
                | Case::LivingOrphan
                | Case::OfAnotherBoot
                | Case::OfAnotherBootAndReleasing => expected(case, id(3)).0,
                Case::Unknown
                | Case::Well
                | Case::WellUnderALostPath
                | Case::Unrouted
                | Case::HalfRouted
                | Case::Broken
                | Case::NotInItsLivingNamespace
                | Case::TakenWell
                | Case::NotTaken
                | Case::WiringYet
                | Case::ReleasingStill => None,
            };
            assert_eq!(collectable(&entries, &survey), Vec::from_iter(wanted), "{case:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_given_up_that_was_not_dead_all_the_time(
            steps in proptest::collection::vec(
                (0..40u64, proptest::array::uniform3(proptest::sample::select(&CASES[..]))),
                1..20,
            ),
        ) {
            let mut suspects = Suspects::default();
            let mut now = Instant::now();
            let mut history: Vec<(Instant, [Case; 3])> = Vec::new();
            for (seconds, cases) in steps {
                now += Duration::from_secs(seconds);
                history.push((now, cases));
                let numbered: Vec<(u8, Case)> = (1..).zip(cases).collect();
                let (entries, survey) = world(&numbered);
                let mut wanted = Vec::new();
                for (number, case) in numbered {
                    let (verdict, grace) = expected(case, id(number));
                    let is_same = |cases: &[Case; 3]| {
                        expected(cases[usize::from(number) - 1], id(number)).0 == verdict
                    };
                    let since = history.iter().rev().take_while(|(_, cases)| is_same(cases)).last();
                    if since.is_some_and(|(since, _)| now - *since >= grace) {
                        wanted.extend(verdict);
                    }
                }
                let found = verdicts(&entries, &survey, &mut suspects, now);
                prop_assert!(found.iter().all(|one| wanted.contains(one)), "{:?} {:?}", found, wanted);
                prop_assert!(wanted.iter().all(|one| found.contains(one)), "{:?} {:?}", found, wanted);
                prop_assert!(suspects.since.len() <= cases.len());
            }
        }
    }

    fn expected(case: Case, id: EndpointId) -> (Option<Verdict>, Duration) {
        let release = |reason| (Some(Verdict::Release { id, reason }), GRACE);
        match case {
            Case::Unknown
            | Case::Well
            | Case::WellUnderALostPath
            | Case::TakenWell
            | Case::WiringYet
            | Case::ReleasingStill => (None, Duration::ZERO),
            Case::Unrouted | Case::HalfRouted => (Some(Verdict::Rewire { id }), Duration::ZERO),
            Case::Broken | Case::NotInItsLivingNamespace => (Some(Verdict::Break { id }), Duration::ZERO),
            Case::Dead | Case::DeadWithItsEndHere => release(Reason::NamespaceGone),
            Case::NotTaken => release(Reason::LinkNotTaken),
            Case::Lost => release(Reason::LinkGone),
            Case::Orphan => (Some(Verdict::RemovePair { owner: owner(id) }), ORPHAN_GRACE),
            Case::LivingOrphan => (Some(Verdict::RemovePair { owner: owner(id) }), LIVING_ORPHAN_GRACE),
            Case::OfAnotherBoot | Case::OfAnotherBootAndReleasing => {
                (Some(Verdict::Release { id, reason: Reason::HostRestarted }), Duration::ZERO)
            }
        }
    }

    /// What this node and the kernel have in these cases.
    fn world(cases: &[(u8, Case)]) -> (Vec<Entry>, Survey) {
        let mut entries = Vec::new();
        let mut survey = Survey {
            boot: BOOT,
            pairs: BTreeMap::new(),
            routes: BTreeSet::new(),
            living: BTreeSet::new(),
            filter_faults: Vec::new(),
        };
        for &(number, case) in cases {
            let id = id(number);
            let attached = entry(number);
            let handed = Entry { namespace: None, ..attached.clone() };
            let (entry, pair, routes, lives) = match case {
                Case::Unknown => (None, None, 0, false),
                Case::Well => (Some(attached), Some(true), 2, true),
                Case::WellUnderALostPath => (Some(attached), Some(true), 2, false),
                Case::Unrouted => (Some(attached), Some(true), 0, true),
                Case::HalfRouted => (Some(handed), Some(true), 1, false),
                Case::Broken => (Some(attached), None, 0, true),
                Case::NotInItsLivingNamespace => (Some(attached), Some(false), 2, true),
                Case::Dead => (Some(attached), None, 0, false),
                Case::DeadWithItsEndHere => (Some(attached), Some(false), 2, false),
                Case::TakenWell => (Some(handed), Some(true), 2, false),
                Case::NotTaken => (Some(handed), Some(false), 2, false),
                Case::Lost => (Some(handed), None, 0, false),
                Case::Orphan => (None, Some(false), 2, false),
                Case::LivingOrphan => (None, Some(true), 2, false),
                Case::WiringYet => (Some(Entry { stage: Stage::Wiring, ..attached }), None, 0, false),
                Case::ReleasingStill => {
                    (Some(Entry { stage: Stage::Releasing, ..attached }), Some(true), 0, false)
                }
                Case::OfAnotherBoot => (Some(Entry { boot: BootId([2; 16]), ..attached }), None, 0, false),
                Case::OfAnotherBootAndReleasing => {
                    let stage = Stage::Releasing;
                    (Some(Entry { boot: BootId([2; 16]), stage, ..attached }), None, 0, true)
                }
            };
            entries.extend(entry);
            survey.pairs.extend(pair.map(|is_handed_over| (id, veth(id, is_handed_over))));
            let routed = addresses(number).into_iter().take(routes);
            survey.routes.extend(routed.map(|address| (host_link(id), address)));
            survey.living.extend(lives.then_some(id));
        }
        (entries, survey)
    }

    fn id(number: u8) -> EndpointId {
        EndpointId([number; 32])
    }

    fn owner(id: EndpointId) -> LinkOwner {
        LinkOwner::new("docker", id).expect("a runtime's name")
    }

    fn addresses(number: u8) -> [IpAddr; 2] {
        [IpAddr::from([10, 91, 128, number]), IpAddr::from([0xfd91, 0, 0, 1, 0, 0, 0, number.into()])]
    }

    fn veth(id: EndpointId, is_handed_over: bool) -> Veth {
        let (host_link, host_mac) = (host_link(id), host_mac(id));
        Veth { owner: owner(id), host_link, host_mac, mtu: 1420, is_up: true, is_handed_over }
    }

    fn entry(number: u8) -> Entry {
        Entry {
            id: id(number),
            attachment: Attachment {
                runtime: "docker".to_owned(),
                network: "blue".to_owned(),
                container: number.to_string(),
                ifname: "eth0".to_owned(),
            },
            namespace: Some(Namespace { path: "/run/netns/one".to_owned(), dev: 4, ino: 5 }),
            addresses: addresses(number).into(),
            mac: Mac::local([0, 0, 0, 0, number]),
            mtu: 1420,
            name: None,
            labels: Labels::new(),
            image: None,
            gateways: Vec::new(),
            routes: Vec::new(),
            has_egress: false,
            sandbox: None,
            stage: Stage::Attached,
            since: Timestamp(1),
            boot: BOOT,
        }
    }
}
