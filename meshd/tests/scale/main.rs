//! One node with many peers. Needs root and /dev/net/tun.

mod crowd;
mod node;
mod run;
#[path = "../rig/space.rs"]
mod space;

use std::os::unix::net::UnixStream;

use crowd::Crowd;
use node::Node;
use space::Space;

/// Far fewer than `cargo lab bench peers` takes, and enough for more than one round of everything.
const PEERS: u32 = 300;
const CHANGES: u32 = 3;

#[test]
fn many_peers_connect_renew_come_and_go_and_no_packet_is_lost() {
    let (Some(here), Some(there)) = (Space::new(), Space::new()) else { return };
    crowd::link(&here, &there);
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    std::thread::scope(|scope| {
        scope.spawn(|| here.inside(|| node::serve(&theirs, &theirs)));
        let mut node = Node::new(ours.try_clone().expect("a descriptor"), ours);
        let mut crowd = Crowd::new(&there, PEERS + 1);
        let seen = run::run(&mut node, &mut crowd, PEERS, CHANGES);
        seen.numbers.iter().for_each(|number| eprintln!("{number}"));
        assert_eq!((seen.connected, seen.answered), (seen.peers, [seen.peers; 2]));
        assert!(seen.stream.sent() > 0);
        assert_eq!((seen.stream.lost(), seen.drops.as_str()), (0, ""));
    });
}
