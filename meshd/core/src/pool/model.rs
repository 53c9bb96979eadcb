//! Ten nodes, a registry that only compares and swaps, and messages that come in any order or not at all.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const NODES: usize = 10;
/// Attachments that a node works on at once.
const JOBS: usize = 16;

type Node = usize;

/// What stands at a key of the registry.
#[derive(Debug, Clone, Copy)]
struct Entry {
    node: Node,
    given_back_at: Option<Duration>,
}

impl Entry {
    fn claim(&self, net: IpNet, reader: Node) -> Claimed<Node> {
        let holder = if self.node == reader { Holder::This } else { Holder::Other(self.node) };
        Claimed { net, holder, rests_until: self.given_back_at.map(|at| at + REST) }
    }
}

/// Single keys, nothing else: `a4/<address>`, `a6/<address>` and `s/<prefix>`.
#[derive(Debug, Clone, Default)]
struct Registry {
    addresses: BTreeMap<IpAddr, Entry>,
    blocks: BTreeMap<IpNet, Entry>,
}

impl Registry {
    /// Puts a claim where none of another stands. Who asks again, because the answer was lost, finds its own.
    fn swap(&mut self, net: IpNet, node: Node, now: Duration) -> Result<(), Claimed<Node>> {
        let before = self.entry(net).copied().filter(|entry| entry.node != node);
        if let Some(entry) = before.filter(|entry| entry.given_back_at.is_none_or(|at| at + REST >= now)) {
            return Err(entry.claim(net, node));
        }
        let entry = Entry { node, given_back_at: None };
        if is_host(net) {
            self.addresses.insert(net.addr(), entry);
        } else {
            self.blocks.insert(net, entry);
        }
        Ok(())
    }

    fn give_back(&mut self, net: IpNet, now: Duration) {
        if let Some(entry) = self.entry(net) {
            entry.given_back_at = Some(now);
        }
    }

    fn entry(&mut self, net: IpNet) -> Option<&mut Entry> {
        if is_host(net) { self.addresses.get_mut(&net.addr()) } else { self.blocks.get_mut(&net) }
    }

    /// What others have inside a block, or which of their blocks are around an address.
    fn beside(&self, net: IpNet, reader: Node) -> Vec<Claimed<Node>> {
        let inside = self.addresses.range(net.network()..=net.broadcast()).filter(|_| !is_host(net));
        let inside = inside.map(|(addr, entry)| entry.claim((*addr).into(), reader));
        let around = self.blocks.iter().filter(|(block, _)| is_host(net) && block.contains(&net));
        let around = around.map(|(block, entry)| entry.claim(*block, reader));
        inside.chain(around).filter(|claim| claim.holder != Holder::This).collect()
    }

    fn all(&self, reader: Node) -> Vec<Claimed<Node>> {
        let addresses = self.addresses.iter().map(|(addr, entry)| entry.claim((*addr).into(), reader));
        addresses.chain(self.blocks.iter().map(|(block, entry)| entry.claim(*block, reader))).collect()
    }
}

fn is_host(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// A message on its way to the registry, or an answer on its way back.
#[derive(Debug, Clone)]
enum Message {
    Ask {
        node: Node,
        net: IpNet,
    },
    Answer {
        node: Node,
        net: IpNet,
        result: Result<(), Claimed<Node>>,
    },
    /// After a claim stands: what else is there.
    Look {
        node: Node,
        net: IpNet,
    },
    Sight {
        node: Node,
        net: IpNet,
        claims: Vec<Claimed<Node>>,
    },
    /// The roster of a node hears of everything; others come first.
    Learn {
        node: Node,
        claims: Vec<Claimed<Node>>,
    },
}

struct World {
    pools: Vec<Pool<Node>>,
    registry: Registry,
    messages: Vec<Message>,
    /// Attachments to come, and which address they ask for.
    jobs: Vec<VecDeque<Option<IpAddr>>>,
    /// Attachments whose address is being claimed.
    working: Vec<usize>,
    users: BTreeMap<IpAddr, Node>,
    given: usize,
    refused: usize,
    blocks_given_back: usize,
    now: Duration,
    random: u64,
}

impl World {
    fn new(net: &str, allocations: [Allocation; NODES], seed: u64) -> Self {
        let pool = |allocation| Pool::new(net.parse().expect("a prefix"), allocation).expect("a pool");
        Self {
            pools: allocations.into_iter().map(pool).collect(),
            registry: Registry::default(),
            messages: Vec::new(),
            jobs: vec![VecDeque::new(); NODES],
            working: vec![0; NODES],
            users: BTreeMap::new(),
            given: 0,
            refused: 0,
            blocks_given_back: 0,
            now: Duration::from_secs(1_800_000_000),
            random: seed | 1,
        }
    }

    /// A number below `bound`, the same in every run (xorshift64*).
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let mixed = self.random.wrapping_mul(0x2545_f491_4f6c_dd1d);
        usize::try_from(mixed >> 33).expect("31 bits") % bound
    }

    /// Runs until every attachment has an address or was refused.
    fn run(&mut self) {
        while self.jobs.iter().any(|jobs| !jobs.is_empty()) || self.working.iter().any(|count| *count > 0) {
            self.now += Duration::from_millis(5);
            match self.below(4) {
                0 => self.work(),
                1 if self.below(100) == 0 => self.look_around(),
                _ => self.deliver(),
            }
        }
        while !self.messages.is_empty() {
            self.deliver();
        }
    }

    /// One node begins an attachment.
    fn work(&mut self) {
        let node = self.below(NODES);
        if self.working[node] >= JOBS {
            return;
        }
        let Some(wanted) = self.jobs[node].pop_front() else { return };
        let now = self.now;
        let next = match wanted {
            Some(addr) => self.pools[node].exactly(addr, now),
            None => self.pools[node].next(&Wish::default(), now),
        };
        match next {
            Ok(Next::Given(addr)) => self.use_it(node, addr),
            Ok(Next::Claim(addr)) => {
                self.working[node] += 1;
                self.messages.push(Message::Ask { node, net: addr.into() });
            }
            Ok(Next::ClaimBlock(net)) => {
                self.messages.push(Message::Ask { node, net });
                self.jobs[node].push_front(wanted);
            }
            Ok(Next::Wait) => self.jobs[node].push_front(wanted),
            Err(NoAddress::Taken(_) | NoAddress::Exhausted) => self.refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        if let Some(net) = self.pools[node].block_wanted(now) {
            self.messages.push(Message::Ask { node, net });
        }
    }

    /// An endpoint begins to use an address: nobody else does.
    fn use_it(&mut self, node: Node, addr: IpAddr) {
        let before = self.users.insert(addr, node);
        assert_eq!(before, None, "{addr} is used by {before:?} and by {node}");
        let pool = &self.pools[node];
        assert!(pool.net().contains(&addr) && addr != pool.net().network() && addr != pool.gateway());
        self.given += 1;
    }

    fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let which = self.below(self.messages.len());
        let message = self.messages.swap_remove(which);
        let is_lost = self.below(10) == 0;
        match message {
            Message::Ask { node, net } => {
                let result = self.registry.swap(net, node, self.now);
                self.messages.push(Message::Answer { node, net, result });
            }
            // Nobody waits for ever: the same is asked again.
            Message::Answer { node, net, .. } if is_lost => {
                if is_host(net) {
                    self.messages.push(Message::Ask { node, net });
                } else {
                    self.pools[node].unanswered(net);
                }
            }
            Message::Answer { node, net, result: Ok(()) } => self.messages.push(Message::Look { node, net }),
            Message::Answer { node, net, result: Err(because) } => self.lost(node, net, because),
            Message::Look { node, net } => {
                let claims = self.registry.beside(net, node);
                self.messages.push(Message::Sight { node, net, claims });
            }
            Message::Sight { node, net, .. } if is_lost => self.messages.push(Message::Look { node, net }),
            Message::Sight { node, net, claims } => self.seen(node, net, claims),
            Message::Learn { node, claims } => {
                // What a node itself has said, its roster knows at once.
                let of_others = claims.into_iter().filter(|claim| claim.holder != Holder::This);
                let own = self.registry.all(node).into_iter().filter(|claim| claim.holder == Holder::This);
                let claims: Vec<_> = of_others.chain(own).collect();
                self.pools[node].learn(claims, self.now);
            }
        }
    }

    /// A claim of a node does not stand.
    fn lost(&mut self, node: Node, net: IpNet, because: Claimed<Node>) {
        self.pools[node].refused(net, because, self.now);
        if is_host(net) {
            self.working[node] -= 1;
            self.jobs[node].push_front(None);
        }
    }

    /// A claim of a node stands, and this is what stands beside it.
    fn seen(&mut self, node: Node, net: IpNet, claims: Vec<Claimed<Node>>) {
        if !is_host(net) {
            self.pools[node].claimed_block(net, claims, self.now);
            return;
        }
        match claims.into_iter().find(|block| block.rests_until.is_none()) {
            Some(block) => {
                self.registry.give_back(net, self.now);
                self.lost(node, net, block);
            }
            None => {
                self.working[node] -= 1;
                self.pools[node].claimed(net.addr());
                self.use_it(node, net.addr());
            }
        }
    }

    /// What stands in the registry goes to a node; it gets there some time.
    fn look_around(&mut self) {
        let node = self.below(NODES);
        let claims = self.registry.all(node);
        self.messages.push(Message::Learn { node, claims });
    }

    /// A node detaches something.
    fn detach(&mut self) {
        if self.users.is_empty() {
            return;
        }
        let which = self.below(self.users.len());
        let Some((addr, node)) = self.users.iter().nth(which).map(|(addr, node)| (*addr, *node)) else {
            return;
        };
        self.users.remove(&addr);
        self.pools[node].release(addr, self.now);
        self.registry.give_back(addr.into(), self.now);
    }

    /// Every node gives back the block that it does not need.
    fn give_blocks_back(&mut self) {
        for node in 0..NODES {
            if let Some(block) = self.pools[node].block_to_give_back(self.now) {
                self.registry.give_back(block, self.now);
                self.pools[node].release_block(block);
                self.blocks_given_back += 1;
            }
        }
    }

    /// An address of the pool that is not reserved.
    fn any_address(&mut self) -> IpAddr {
        let layout = self.pools[0].layout;
        let offset = self.below(200) as u128 % (layout.whole().len() - 3) + 2;
        layout.address(offset)
    }
}

fn same(allocation: Allocation) -> [Allocation; NODES] {
    [allocation; NODES]
}

/// Ten nodes attach a thousand each.
fn attach_ten_thousand(net: &str, allocation: Allocation, seed: u64) -> World {
    let mut world = World::new(net, same(allocation), seed);
    for jobs in &mut world.jobs {
        jobs.extend(std::iter::repeat_n(None, 1000));
    }
    world.run();
    world
}

#[test]
fn ten_thousand_consecutive_addresses_have_one_user_each() {
    let world = attach_ten_thousand("10.91.0.0/16", Allocation::Sequential, 7);
    let expected: Vec<IpAddr> =
        (2..10_002u32).map(|offset| std::net::Ipv4Addr::from(0x0a5b_0000 + offset).into()).collect();
    let used: Vec<IpAddr> = world.users.keys().copied().collect();
    assert_eq!((world.given, world.refused), (10_000, 0));
    assert!(used == expected, "they follow each other without a gap");
}

#[test]
fn ten_thousand_addresses_of_blocks_have_one_user_each() {
    for net in ["10.91.0.0/16", "fd00::/64"] {
        let world = attach_ten_thousand(net, Allocation::Blocks, 11);
        assert_eq!((world.users.len(), world.given, world.refused), (10_000, 10_000, 0), "{net}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_address_has_two_users_whatever_is_asked_for(
        seed in any::<u64>(),
        net in prop::sample::select(vec!["10.91.0.0/28", "10.91.0.0/24", "10.91.0.0/22", "fd00::/120"]),
        modes in prop::collection::vec(any::<bool>(), NODES),
    ) {
        let mut allocations = same(Allocation::Blocks);
        for (allocation, is_sequential) in allocations.iter_mut().zip(modes) {
            if is_sequential {
                *allocation = Allocation::Sequential;
            }
        }
        let mut world = World::new(net, allocations, seed);
        for _ in 0..30 {
            for node in 0..NODES {
                for _ in 0..world.below(8) {
                    let addr = world.any_address();
                    let is_exact = world.below(4) == 0;
                    world.jobs[node].push_back(is_exact.then_some(addr));
                }
            }
            world.run();
            for _ in 0..world.below(60) {
                world.detach();
            }
            let pause = world.below(120) as u64;
            world.now += Duration::from_secs(pause);
            world.give_blocks_back();
        }
        for (addr, node) in &world.users {
            let pool = &world.pools[*node];
            prop_assert!(pool.own.is_used(pool.layout.offset(*addr).expect("of the pool")));
        }
    }
}

#[test]
fn blocks_go_round() {
    // Without this the nodes of the property above would never take over a block that another one had.
    let mut world = World::new("10.91.0.0/24", same(Allocation::Blocks), 3);
    for _ in 0..40 {
        for jobs in &mut world.jobs {
            jobs.extend([None; 12]);
        }
        world.run();
        while !world.users.is_empty() {
            world.detach();
        }
        world.now += Duration::from_secs(800);
        world.give_blocks_back();
    }
    assert!(world.blocks_given_back > 0 && world.given > 4000, "{}", world.given);
}
