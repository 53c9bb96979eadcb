//! Two engines across a network that loses, doubles and reorders.

use std::time::Duration;

use crate::world::{Impairment, World, kinds};

const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn sessions_come_up_and_renew_whatever_the_network_does() {
    for seed in 0..40 {
        let (suite, psk) = kinds()[seed as usize % 4].clone();
        let (world, a, b) = World::pair_with(|mut spec| {
            (spec.suite, spec.psk) = (suite, psk.clone());
            spec
        });
        let mut world = world.impaired(
            seed,
            Impairment {
                loss_percent: 30,
                double_percent: 20,
                delay_min: Duration::from_millis(1),
                delay_max: Duration::from_millis(400),
            },
        );
        for round in 0..120_u32 {
            world.send(0, a, &[&b"a"[..], &round.to_le_bytes()].concat());
            world.send(1, b, &[&b"b"[..], &round.to_le_bytes()].concat());
            world.run_for(S(5));
        }
        for node in &world.nodes {
            let mut packets: Vec<_> = node.received.iter().map(|(_, packet)| packet.clone()).collect();
            let got = packets.len();
            packets.sort();
            packets.dedup();
            assert_eq!(packets.len(), got, "seed {seed}: a packet came twice");
            assert!(got >= 60, "seed {seed}: {got} of 120 packets came through");
        }
        world.impairment = Impairment::NONE;
        world.run_for(S(30));
        world.exchange(a, b);
    }
}
