//! What a pool gives, what it keeps back, and how two pools stay in step.

use super::*;

const NOW: Duration = Duration::from_secs(1_800_000_000);

type TestPool = Pool<&'static str>;

fn pool(net: &str, allocation: Allocation) -> TestPool {
    Pool::new(net.parse().unwrap(), allocation).unwrap()
}

/// A pool of blocks in which this node has some.
fn with_blocks(net: &str, blocks: &[&str]) -> TestPool {
    let mut pool = pool(net, Allocation::Blocks);
    for block in blocks {
        pool.hold(block.parse().unwrap(), NOW);
    }
    pool
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn host(text: &str) -> IpNet {
    ip(text).into()
}

fn other(prefix: IpNet) -> Claimed<&'static str> {
    Claimed { net: prefix, holder: Holder::Other("other"), rests_until: None }
}

fn later(seconds: u64) -> Duration {
    NOW + Duration::from_secs(seconds)
}

fn any(pool: &mut TestPool) -> Result<Next, NoAddress<&'static str>> {
    pool.next(&Wish::default(), NOW)
}

fn given(text: &str) -> Result<Next, NoAddress<&'static str>> {
    Ok(Next::Given(ip(text)))
}

fn claim(text: &str) -> Result<Next, NoAddress<&'static str>> {
    Ok(Next::Claim(ip(text)))
}

#[test]
fn only_a_clean_prefix_of_some_size_is_a_pool() {
    let try_new = |text: &str| TestPool::new(net(text), Allocation::Blocks).map(|pool| pool.net());
    for good in ["10.0.0.0/8", "10.91.0.0/28", "fd00::/64", "fd00::/124"] {
        assert_eq!(try_new(good), Ok(net(good)));
    }
    assert_eq!(try_new("10.91.0.0/29"), Err(BadPool::TooSmall));
    assert_eq!(try_new("fd00::/125"), Err(BadPool::TooSmall));
    assert_eq!(try_new("10.0.0.0/7"), Err(BadPool::TooLarge));
    assert_eq!(try_new("fd00::/63"), Err(BadPool::TooLarge));
    assert_eq!(try_new("10.91.0.1/24"), Err(BadPool::HostBits(net("10.91.0.0/24"))));
}

#[test]
fn the_lowest_free_address_is_next_when_they_follow_each_other() {
    let mut pool = pool("10.91.0.0/28", Allocation::Sequential);
    assert_eq!(pool.gateway(), ip("10.91.0.1"));
    pool.learn([other(host("10.91.0.3")), other(net("10.91.0.4/30"))], NOW);
    assert_eq!(any(&mut pool), claim("10.91.0.2"));
    // Nobody has answered yet, and the next one asks already.
    assert_eq!(any(&mut pool), claim("10.91.0.8"));
    pool.claimed(ip("10.91.0.2"));
    pool.refused(host("10.91.0.8"), other(host("10.91.0.8")), NOW);
    for last in 9..15 {
        assert_eq!(any(&mut pool), claim(&format!("10.91.0.{last}")));
    }
    assert_eq!(any(&mut pool), Err(NoAddress::Exhausted), "the last address is that of broadcast");
    pool.learn([other(net("10.91.0.4/30"))], later(600));
    assert_eq!(pool.next(&Wish::default(), later(600)), claim("10.91.0.3"));
    assert_eq!(pool.next(&Wish::default(), later(600)), claim("10.91.0.8"));
}

#[test]
fn an_address_rests_before_it_is_next_again() {
    let mut pool = pool("10.91.0.0/28", Allocation::Sequential);
    let all: Vec<IpAddr> = (2..15).map(|last| ip(&format!("10.91.0.{last}"))).collect();
    for addr in &all {
        assert_eq!(any(&mut pool), Ok(Next::Claim(*addr)));
        pool.claimed(*addr);
    }
    pool.release(all[4], NOW);
    assert_eq!(pool.next(&Wish::default(), later(60)), Err(NoAddress::Exhausted));
    assert_eq!(pool.next(&Wish::default(), later(61)), Ok(Next::Claim(all[4])));
    // What another gave back rests as long as is said of it.
    let mut pool = Pool::new(net("10.91.0.0/28"), Allocation::Sequential).unwrap();
    let resting = Claimed { rests_until: Some(later(5)), ..other(host("10.91.0.2")) };
    pool.learn([resting], NOW);
    assert_eq!(pool.next(&Wish::default(), later(5)), claim("10.91.0.3"));
    assert_eq!(pool.next(&Wish::default(), later(6)), claim("10.91.0.2"));
}

#[test]
fn a_block_gives_its_addresses_in_turn() {
    let mut pool = with_blocks("10.91.0.0/20", &["10.91.0.64/26"]);
    assert_eq!(any(&mut pool), given("10.91.0.64"));
    pool.release(ip("10.91.0.64"), NOW);
    for last in 65..128 {
        assert_eq!(pool.next(&Wish::default(), later(61)), given(&format!("10.91.0.{last}")));
    }
    assert_eq!(pool.next(&Wish::default(), later(61)), given("10.91.0.64"));
}

#[test]
fn addresses_of_nobody_and_of_others_are_not_given() {
    let mut pool = pool("10.91.0.0/22", Allocation::Blocks);
    let inside = [other(host("10.91.0.3")), other(host("10.91.0.5"))];
    assert_eq!(any(&mut pool), Ok(Next::ClaimBlock(net("10.91.0.0/26"))));
    assert_eq!(any(&mut pool), Ok(Next::Wait));
    pool.claimed_block(net("10.91.0.0/26"), inside, NOW);
    // A roster that has not heard of them yet changes nothing.
    pool.learn([], NOW);
    for last in [2, 4, 6] {
        assert_eq!(any(&mut pool), given(&format!("10.91.0.{last}")));
    }
    let mut pool = with_blocks("10.91.0.0/22", &["10.91.3.192/26"]);
    let gave: Vec<_> = (192..255).map(|_| any(&mut pool)).collect();
    assert_eq!(gave.last(), Some(&given("10.91.3.254")));
    assert_eq!(any(&mut pool), Ok(Next::ClaimBlock(net("10.91.0.0/26"))));
}

#[test]
fn the_lowest_block_of_nobody_is_claimed() {
    let mut pool = pool("10.91.0.0/22", Allocation::Blocks);
    let crowd = (64..97).map(|last| other(host(&format!("10.91.0.{last}"))));
    pool.learn(crowd.chain([other(net("10.91.0.0/26"))]), NOW);
    assert_eq!(any(&mut pool), Ok(Next::ClaimBlock(net("10.91.0.128/26"))));
    pool.refused(net("10.91.0.128/26"), other(net("10.91.0.128/26")), NOW);
    assert_eq!(any(&mut pool), Ok(Next::ClaimBlock(net("10.91.0.192/26"))));
    // Without an answer the same one is asked for again, and nothing is given from it.
    pool.unanswered(net("10.91.0.192/26"));
    assert_eq!(any(&mut pool), Ok(Next::ClaimBlock(net("10.91.0.192/26"))));
    assert_eq!(any(&mut pool), Ok(Next::Wait));
    let own = Claimed { holder: Holder::This, ..other(net("10.91.0.192/26")) };
    pool.learn([own.clone()], NOW);
    assert_eq!(any(&mut pool), Ok(Next::Wait));
    // Another node that starts anew takes its block over from the roster.
    let mut fresh = Pool::new(net("10.91.0.0/22"), Allocation::Blocks).unwrap();
    fresh.learn([own], NOW);
    assert_eq!(any(&mut fresh), given("10.91.0.192"));
}

#[test]
fn single_addresses_are_claimed_when_there_is_no_block_left() {
    let mut pool = pool("10.91.0.0/28", Allocation::Blocks);
    let blocks = ["10.91.0.0/30", "10.91.0.8/30", "10.91.0.12/30"].map(|block| other(net(block)));
    let crowd = ["10.91.0.4", "10.91.0.5", "10.91.0.6"].map(|addr| other(host(addr)));
    pool.learn(blocks.into_iter().chain(crowd), NOW);
    assert_eq!(any(&mut pool), claim("10.91.0.7"));
    assert_eq!(any(&mut pool), Err(NoAddress::Exhausted));
}

#[test]
fn another_block_is_wanted_at_three_quarters_and_goes_back_when_it_was_empty() {
    let mut pool = with_blocks("10.91.0.0/20", &["10.91.0.64/26"]);
    let mut addrs = Vec::new();
    for count in 1..=48 {
        assert_eq!(pool.block_wanted(NOW), None, "{count} of 64");
        match any(&mut pool) {
            Ok(Next::Given(addr)) => addrs.push(addr),
            next => panic!("{next:?}"),
        }
    }
    let second = net("10.91.0.0/26");
    assert_eq!(pool.block_wanted(NOW), Some(second));
    assert_eq!(pool.block_wanted(NOW), None, "it is asked for already");
    pool.claimed_block(second, [], NOW);
    assert_eq!(pool.block_wanted(NOW), None);
    // The first one stays, whichever is used.
    let second = net("10.91.0.64/26");
    for addr in &addrs {
        pool.release(*addr, NOW);
    }
    assert_eq!(pool.block_to_give_back(later(599)), None);
    assert_eq!(pool.block_to_give_back(later(600)), Some(second));
    pool.release_block(second);
    assert_eq!(pool.block_to_give_back(later(600)), None);
    assert_eq!(pool.next(&Wish::default(), later(600)), given("10.91.0.2"));
}

#[test]
fn an_asked_address_is_refused_with_its_holder() {
    let mut pool = with_blocks("10.91.0.0/20", &["10.91.0.64/26"]);
    pool.learn([other(host("10.91.1.5")), other(net("10.91.2.0/26"))], NOW);
    assert_eq!(pool.exactly(ip("10.92.0.5"), NOW), Err(NoAddress::Outside));
    assert_eq!(pool.exactly(ip("fd00::5"), NOW), Err(NoAddress::Outside));
    for reserved in ["10.91.0.0", "10.91.0.1", "10.91.15.255"] {
        assert_eq!(pool.exactly(ip(reserved), NOW), Err(NoAddress::Reserved));
    }
    let taken = |holder| Err(NoAddress::Taken(holder));
    assert_eq!(pool.exactly(ip("10.91.1.5"), NOW), taken(Holder::Other("other")));
    assert_eq!(pool.exactly(ip("10.91.2.7"), NOW), taken(Holder::Other("other")));
    assert_eq!(pool.exactly(ip("10.91.0.70"), NOW), given("10.91.0.70"));
    assert_eq!(pool.exactly(ip("10.91.0.70"), NOW), taken(Holder::This));
    assert_eq!(pool.exactly(ip("10.91.1.6"), NOW), claim("10.91.1.6"));
    // Who stops and starts with the same address has it at once.
    pool.release(ip("10.91.0.70"), NOW);
    assert_eq!(pool.exactly(ip("10.91.0.70"), NOW), given("10.91.0.70"));
    // The node that had it is lost, and may be back.
    let until = later(7 * 86_400);
    pool.learn([Claimed { rests_until: Some(until), ..other(host("10.91.1.5")) }], NOW);
    assert_eq!(pool.exactly(ip("10.91.1.5"), NOW), Err(NoAddress::Rests { until }));
    pool.learn([Claimed { rests_until: Some(later(60)), ..other(host("10.91.1.5")) }], NOW);
    assert_eq!(pool.exactly(ip("10.91.1.5"), NOW), claim("10.91.1.5"));
}

#[test]
fn what_a_node_has_just_given_back_does_not_hide_whose_block_it_lies_in() {
    let mut pool = pool("10.91.0.0/20", Allocation::Sequential);
    let given_back =
        Claimed { holder: Holder::This, rests_until: Some(later(60)), ..other(host("10.91.2.7")) };
    pool.learn([given_back, other(net("10.91.2.0/26"))], NOW);
    assert_eq!(pool.exactly(ip("10.91.2.7"), NOW), Err(NoAddress::Taken(Holder::Other("other"))));
}

#[test]
fn what_nobody_was_asked_for_is_free_at_once() {
    let mut pool = pool("10.91.0.0/20", Allocation::Sequential);
    assert_eq!(any(&mut pool), claim("10.91.0.2"));
    assert_eq!(any(&mut pool), claim("10.91.0.3"));
    assert!(pool.has(host("10.91.0.2")));
    pool.not_asked(host("10.91.0.2"));
    assert!(!pool.has(host("10.91.0.2")));
    assert_eq!(any(&mut pool), claim("10.91.0.2"));
    // What stands is not given up like this.
    pool.claimed(ip("10.91.0.3"));
    pool.not_asked(host("10.91.0.3"));
    assert!(pool.has(host("10.91.0.3")));

    pool.choose(Allocation::Blocks);
    let block = net("10.91.0.0/26");
    assert_eq!(any(&mut pool), Ok(Next::ClaimBlock(block)));
    assert_eq!((pool.has(block), pool.blocks().count()), (true, 0));
    pool.not_asked(block);
    assert!(!pool.has(block));
    assert_eq!(any(&mut pool), Ok(Next::ClaimBlock(block)));
    pool.claimed_block(block, [], NOW);
    pool.not_asked(block);
    assert_eq!(pool.blocks().collect::<Vec<_>>(), [block]);
    assert!(!pool.has(net("10.91.0.64/26")) && !pool.has(net("10.92.0.0/26")));
}

#[test]
fn addresses_stay_in_the_ranges_that_are_wished() {
    let ranges = [net("10.91.4.0/24"), net("10.91.2.0/30")];
    let wish = Wish { ranges: &ranges, step: None };
    let mut sequential = pool("10.91.0.0/20", Allocation::Sequential);
    for text in ["10.91.2.0", "10.91.2.1", "10.91.2.2", "10.91.2.3", "10.91.4.0"] {
        assert_eq!(sequential.next(&wish, NOW), claim(text));
    }
    assert_eq!(any(&mut sequential), claim("10.91.0.2"));
    let mut blocks = with_blocks("10.91.0.0/20", &["10.91.0.64/26"]);
    assert_eq!(blocks.next(&wish, NOW), Ok(Next::ClaimBlock(net("10.91.2.0/26"))));
    blocks.claimed_block(net("10.91.2.0/26"), [], NOW);
    assert_eq!(blocks.next(&wish, NOW), given("10.91.2.0"));
    let outside = [net("10.92.0.0/24")];
    let wish = Wish { ranges: &outside, step: None };
    assert_eq!(blocks.next(&wish, NOW), Err(NoAddress::Exhausted));
}

#[test]
fn both_families_end_in_the_same_counter() {
    let mut v4 = with_blocks("10.91.0.0/20", &["10.91.0.192/26", "10.91.1.128/26"]);
    let mut v6 = pool("fd00::/64", Allocation::Blocks);
    let pair = |v4: &mut TestPool, v6: &mut TestPool| {
        let Ok(Next::Given(addr4)) = any(v4) else { panic!("no address") };
        let wish = Wish { ranges: &[], step: v4.step(addr4) };
        match v6.next(&wish, NOW).unwrap() {
            Next::Given(addr6) => (addr4.to_string(), addr6.to_string()),
            Next::ClaimBlock(block) => {
                assert_eq!(block, net("fd00::3:0/112"), "the block of the same number");
                v6.claimed_block(block, [], NOW);
                let Ok(Next::Given(addr6)) = v6.next(&wish, NOW) else { panic!("no address") };
                (addr4.to_string(), addr6.to_string())
            }
            next => panic!("{next:?}"),
        }
    };
    assert_eq!(pair(&mut v4, &mut v6), ("10.91.0.192".into(), "fd00::3:c0".into()));
    v6.exactly(ip("fd00::3:c1"), NOW).unwrap();
    assert_eq!(pair(&mut v4, &mut v6), ("10.91.0.193".into(), "fd00::3:8000".into()));
    for _ in 194..256 {
        pair(&mut v4, &mut v6);
    }
    // The second block of IPv4 goes on in the block of IPv6 that there is.
    assert_eq!(pair(&mut v4, &mut v6), ("10.91.1.128".into(), "fd00::3:180".into()));

    let mut v4 = pool("10.91.0.0/20", Allocation::Sequential);
    let mut v6 = pool("fd00::/64", Allocation::Sequential);
    v6.learn([other(host("fd00::3"))], NOW);
    for (text4, text6) in [("10.91.0.2", "fd00::2"), ("10.91.0.3", "fd00::4"), ("10.91.0.4", "fd00::5")] {
        assert_eq!(any(&mut v4), claim(text4));
        let wish = Wish { ranges: &[], step: v4.step(ip(text4)) };
        assert_eq!(v6.next(&wish, NOW), claim(text6));
    }
}

#[test]
fn a_claim_around_the_whole_pool_leaves_nothing() {
    for allocation in [Allocation::Blocks, Allocation::Sequential] {
        let mut pool = pool("fd00::/64", allocation);
        pool.learn([other(net("fd00::/60"))], NOW);
        assert_eq!(any(&mut pool), Err(NoAddress::Exhausted));
        pool.learn([other(net("fd00::/66")), other(net("fd00::8000:0:0:0/65"))], NOW);
        let found = any(&mut pool).unwrap();
        let expected = ip("fd00::4000:0:0:0");
        assert!(
            matches!(found, Next::Claim(addr) if addr == expected)
                || matches!(found, Next::ClaimBlock(block) if block.network() == expected),
            "{found:?}"
        );
    }
}
