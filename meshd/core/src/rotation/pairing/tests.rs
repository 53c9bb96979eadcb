//! What tunnels there are in each state of both ends.

use proptest::prelude::*;

use super::*;

const NOW: Option<u64> = Some(1_000_000);

fn pair(own: u32, peer: u32) -> Pair {
    Pair { own: Epoch(own), peer: Epoch(peer) }
}

fn own(older: (u32, Use), newer: Option<(u32, Use)>) -> OwnEpochs {
    let of = |(epoch, usage)| (Epoch(epoch), usage);
    OwnEpochs { older: of(older), newer: newer.map(of) }
}

fn proven(epoch: u32) -> PeerEpoch {
    PeerEpoch { epoch: Epoch(epoch), is_proven: true }
}

fn unproven(epoch: u32) -> PeerEpoch {
    PeerEpoch { epoch: Epoch(epoch), is_proven: false }
}

fn announced(cur: u32, next: PeerEpoch) -> PeerEpochs {
    PeerEpochs { next: Some(next), ..PeerEpochs::single(Epoch(cur)) }
}

fn committed(prev: u32, cur: PeerEpoch, until: u64) -> PeerEpochs {
    PeerEpochs { cur, cur_ends: None, next: None, prev: Some((proven(prev), until)) }
}

fn pairs(own: OwnEpochs, peer: PeerEpochs) -> Vec<Pair> {
    Pairing { own, peer }.pairs(NOW).collect()
}

fn steady(epoch: u32) -> OwnEpochs {
    OwnEpochs::single(Epoch(epoch))
}

#[test]
fn between_rotations_there_is_one_tunnel_and_both_ends_may_call() {
    let pairing = Pairing { own: steady(3), peer: PeerEpochs::single(Epoch(7)) };
    assert_eq!(pairing.pairs(NOW).collect::<Vec<_>>(), [pair(3, 7)]);
    assert!(pairing.calls(pair(3, 7), NOW, []));
    assert_eq!(pairing.sends_on(NOW, []), None);
    assert_eq!(pairing.sends_on(NOW, [pair(3, 7)]), Some(pair(3, 7)));
}

#[test]
fn a_next_key_of_the_peer_is_answered_once_it_is_proven_and_called_only_if_nothing_else_works() {
    assert_eq!(pairs(steady(3), announced(7, unproven(8))), [pair(3, 7)]);
    let pairing = Pairing { own: steady(3), peer: announced(7, proven(8)) };
    assert_eq!(pairing.pairs(NOW).collect::<Vec<_>>(), [pair(3, 7), pair(3, 8)]);
    assert!(!pairing.calls(pair(3, 8), NOW, [pair(3, 7)]));
    assert!(pairing.calls(pair(3, 8), NOW, []));
    assert!(pairing.calls(pair(3, 8), NOW, [pair(3, 6)]), "what is dropped does not work");
    assert_eq!(pairing.sends_on(NOW, [pair(3, 7), pair(3, 8)]), Some(pair(3, 8)));
}

#[test]
fn a_peer_that_has_called_with_its_next_key_is_called_at_it() {
    let pairing = Pairing { own: own((3, Use::Spare), Some((4, Use::Call))), peer: announced(7, proven(8)) };
    assert!(!pairing.calls(pair(4, 8), NOW, [pair(4, 7)]), "it may not be ready");
    assert!(pairing.calls(pair(4, 8), NOW, [pair(4, 7), pair(3, 8)]));
    assert!(!pairing.calls(pair(3, 8), NOW, [pair(4, 7)]), "not from a key that goes");
}

#[test]
fn an_unproven_key_in_use_leaves_the_peer_its_key_before() {
    let pairing = Pairing { own: steady(3), peer: committed(7, unproven(8), 1_000_100) };
    assert_eq!(pairing.pairs(NOW).collect::<Vec<_>>(), [pair(3, 7)]);
    assert!(pairing.calls(pair(3, 7), NOW, []));
    assert_eq!(
        pairing.sends_on(NOW, [pair(3, 7), pair(3, 8)]),
        Some(pair(3, 7)),
        "not on what is not proven"
    );
}

#[test]
fn the_key_before_is_kept_until_its_date_and_the_skew_have_passed() {
    let pairing = Pairing { own: steady(3), peer: committed(7, proven(8), 1_000) };
    assert_eq!(pairing.changes_at(1_000), Some(1_090));
    assert!(pairing.keeps(pair(3, 7), Some(1_089)));
    assert!(!pairing.calls(pair(3, 7), Some(1_089), []), "who has a newer key is called at that");
    assert!(!pairing.keeps(pair(3, 7), Some(1_090)));
    assert!(pairing.keeps(pair(3, 8), Some(1_090)));
    assert_eq!(pairing.changes_at(1_090), None);
    assert_eq!(pairing.sends_on(Some(1_090), [pair(3, 7)]), None);
}

#[test]
fn a_key_that_is_too_old_is_used_no_more() {
    let peer = PeerEpochs { cur_ends: Some(5_000), ..PeerEpochs::single(Epoch(7)) };
    let pairing = Pairing { own: steady(3), peer };
    assert_eq!(pairing.changes_at(0), Some(5_090));
    assert!(pairing.keeps(pair(3, 7), Some(5_089)));
    assert!(!pairing.keeps(pair(3, 7), Some(5_090)));
    assert!(!pairing.calls(pair(3, 7), Some(5_090), []));
}

#[test]
fn while_the_clock_is_in_doubt_nothing_ends_by_its_date() {
    let peer = PeerEpochs { cur_ends: Some(1), ..committed(7, proven(8), 1) };
    let pairing = Pairing { own: steady(3), peer };
    assert_eq!(pairing.pairs(Some(u64::MAX)).count(), 0);
    assert_eq!(pairing.pairs(None).collect::<Vec<_>>(), [pair(3, 7), pair(3, 8)]);
}

#[test]
fn a_stolen_key_is_dropped_with_the_record_that_says_so() {
    let peer = PeerEpochs { cur: unproven(8), ..PeerEpochs::single(Epoch(7)) };
    assert_eq!(pairs(steady(3), peer), [], "and the one after it waits for its proof");
}

#[test]
fn an_announced_key_of_this_node_answers_and_sends_nothing() {
    let own = own((3, Use::Call), Some((4, Use::Answer)));
    let pairing = Pairing { own, peer: PeerEpochs::single(Epoch(7)) };
    assert_eq!(pairing.pairs(NOW).collect::<Vec<_>>(), [pair(3, 7), pair(4, 7)]);
    assert!(!pairing.calls(pair(4, 7), NOW, []));
    assert!(pairing.calls(pair(3, 7), NOW, [pair(4, 7)]));
    assert_eq!(pairing.sends_on(NOW, [pair(3, 7), pair(4, 7)]), Some(pair(3, 7)));
}

#[test]
fn the_key_before_calls_only_whom_the_new_one_has_not_reached() {
    let pairing =
        Pairing { own: own((3, Use::Spare), Some((4, Use::Call))), peer: PeerEpochs::single(Epoch(7)) };
    assert!(pairing.calls(pair(4, 7), NOW, [pair(3, 7)]));
    assert!(pairing.calls(pair(3, 7), NOW, [pair(3, 7)]));
    assert!(!pairing.calls(pair(3, 7), NOW, [pair(3, 7), pair(4, 7)]));
    assert!(pairing.calls(pair(3, 7), NOW, [pair(4, 9)]), "a tunnel that is dropped has reached nobody");
}

#[test]
fn a_tunnel_of_a_dropped_key_is_neither_kept_nor_called_nor_sent_on() {
    let pairing = Pairing { own: steady(4), peer: PeerEpochs::single(Epoch(7)) };
    for gone in [pair(3, 7), pair(4, 6), pair(4, 8), pair(5, 7)] {
        assert!(!pairing.keeps(gone, NOW));
        assert!(!pairing.calls(gone, NOW, []));
        assert_eq!(pairing.sends_on(NOW, [gone]), None);
    }
}

#[test]
fn who_rotates_with_the_peer_has_four_tunnels_and_sends_on_the_newest() {
    let own = own((3, Use::Spare), Some((4, Use::Call)));
    let pairing = Pairing { own, peer: announced(7, proven(8)) };
    let all: Vec<_> = pairing.pairs(NOW).collect();
    assert_eq!(all, [pair(3, 7), pair(3, 8), pair(4, 7), pair(4, 8)]);
    assert_eq!(pairing.sends_on(NOW, all.iter().copied()), Some(pair(4, 8)));
    assert_eq!(pairing.sends_on(NOW, [pair(3, 8), pair(4, 7)]), Some(pair(4, 7)), "the larger own epoch");
    assert_eq!(pairing.sends_on(NOW, [pair(4, 7), pair(3, 8)]), Some(pair(4, 7)), "in any order");
}

#[test]
fn a_record_with_three_keys_gives_two() {
    let peer = PeerEpochs { next: Some(proven(9)), ..committed(7, proven(8), u64::MAX) };
    assert_eq!(pairs(steady(3), peer), [pair(3, 8), pair(3, 9)]);
}

/// How far one end is with its rotation from the first key to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Steady,
    Announced,
    Proving,
    Committed,
    Retired,
}

const STAGES: [Stage; 5] =
    [Stage::Steady, Stage::Announced, Stage::Proving, Stage::Committed, Stage::Retired];

/// What the end at this stage does with its keys.
fn own_at(stage: Stage) -> OwnEpochs {
    match stage {
        Stage::Steady => steady(1),
        Stage::Announced => own((1, Use::Call), Some((2, Use::Answer))),
        Stage::Proving | Stage::Committed => own((1, Use::Spare), Some((2, Use::Call))),
        Stage::Retired => steady(2),
    }
}

/// What its peer may know of it, from nothing new to everything.
fn known_at(stage: Stage) -> Vec<PeerEpochs> {
    let mut known = Vec::new();
    if stage < Stage::Retired {
        known.push(PeerEpochs::single(Epoch(1)));
    }
    if (Stage::Announced..Stage::Retired).contains(&stage) {
        known.push(announced(1, unproven(2)));
    }
    if stage >= Stage::Proving {
        known.push(announced(1, proven(2)));
    }
    if stage == Stage::Committed {
        known.push(committed(1, unproven(2), u64::MAX));
    }
    if stage >= Stage::Committed {
        known.push(committed(1, proven(2), u64::MAX));
    }
    known
}

#[test]
fn at_all_stages_of_both_ends_some_tunnel_is_had_by_both_and_called_by_one() {
    for (a, b) in STAGES.into_iter().flat_map(|a| STAGES.map(|b| (a, b))) {
        for (of_a, of_b) in
            known_at(a).into_iter().flat_map(|of_a| known_at(b).into_iter().map(move |b| (of_a, b)))
        {
            let at_a = Pairing { own: own_at(a), peer: of_b };
            let at_b = Pairing { own: own_at(b), peer: of_a };
            let shared: Vec<_> = at_a.pairs(NOW).filter(|pair| at_b.keeps(pair.turned(), NOW)).collect();
            let is_called =
                shared.iter().any(|pair| at_a.calls(*pair, NOW, []) || at_b.calls(pair.turned(), NOW, []));
            assert!(is_called, "{a:?} known as {of_a:?}, {b:?} known as {of_b:?}: {shared:?}");
        }
    }
}

fn uses() -> impl Strategy<Value = Use> {
    prop_oneof![Just(Use::Answer), Just(Use::Call), Just(Use::Spare)]
}

prop_compose! {
    fn any_own()(older in 0..4_u32, usage in uses(), newer in proptest::option::of((1..4_u32, uses()))) -> OwnEpochs {
        own((older, usage), newer.map(|(ahead, usage)| (older + ahead, usage)))
    }
}

prop_compose! {
    fn any_peer()(
        cur in 1..4_u32,
        is_proven in any::<bool>(),
        cur_ends in proptest::option::of(0..300_u64),
        next in proptest::option::of((1..3_u32, any::<bool>())),
        prev in proptest::option::of((any::<bool>(), 0..300_u64)),
    ) -> PeerEpochs {
        PeerEpochs {
            cur: PeerEpoch { epoch: Epoch(cur), is_proven },
            cur_ends,
            next: next.map(|(ahead, is_proven)| PeerEpoch { epoch: Epoch(cur + ahead), is_proven }),
            prev: prev.map(|(is_proven, until)| (PeerEpoch { epoch: Epoch(cur - 1), is_proven }, until)),
        }
    }
}

proptest! {
    #[test]
    fn what_is_called_or_sent_on_is_a_tunnel_that_is_kept_and_proven(
        own in any_own(),
        peer in any_peer(),
        now in proptest::option::of(0..500_u64),
        confirmed in proptest::collection::vec((0..8_u32, 0..8_u32), 0..6),
    ) {
        let pairing = Pairing { own, peer };
        let confirmed: Vec<Pair> = confirmed.into_iter().map(|(own, peer)| pair(own, peer)).collect();
        let pairs: Vec<Pair> = pairing.pairs(now).collect();
        prop_assert!(pairs.len() <= PAIRS_MAX);
        prop_assert!(pairs.is_sorted_by(|a, b| a.rank() < b.rank()), "each once, the newest last");
        let is_proven = |epoch| {
            [Some(peer.cur), peer.next, peer.prev.map(|(prev, _)| prev)]
                .into_iter()
                .flatten()
                .any(|key| key.epoch == epoch && key.is_proven)
        };
        prop_assert!(pairs.iter().all(|pair| is_proven(pair.peer)));
        if let Some(sends_on) = pairing.sends_on(now, confirmed.iter().copied()) {
            prop_assert!(confirmed.contains(&sends_on) && pairs.contains(&sends_on));
        }
        for own in 0..8 {
            for peer in 0..8 {
                let pair = pair(own, peer);
                prop_assert!(!pairing.calls(pair, now, confirmed.iter().copied()) || pairs.contains(&pair));
                prop_assert_eq!(pairing.keeps(pair, now), pairs.contains(&pair));
            }
        }
    }

    #[test]
    fn nothing_changes_by_date_between_the_dates_at_which_it_does(
        own in any_own(),
        peer in any_peer(),
        now in 0..500_u64,
        later in 0..500_u64,
    ) {
        let pairing = Pairing { own, peer };
        if pairing.changes_at(now).is_none_or(|at| now + later < at) {
            let pairs: Vec<Pair> = pairing.pairs(Some(now)).collect();
            prop_assert_eq!(pairs, pairing.pairs(Some(now + later)).collect::<Vec<_>>());
        }
    }
}
