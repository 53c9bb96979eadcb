//! What a flood of initiations costs before anything else is known of them.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use meshd_tunnel::{Action, Engine, EngineConfig, KeyId, LocalKey, Refused, Tai64n, Via};

use crate::measured::measured;
use crate::{Case, NONE};

const NOW: Duration = Duration::from_secs(1_000);
const INITIATION_LEN: usize = 148;

pub const CASES: [Case; 1] = [Case {
    name: "mac1-refused",
    units: 1,
    unit: "initiation",
    limit: 10000,
    run: mac1_refused,
    pause: NONE,
}];

fn mac1_refused() {
    let config = EngineConfig {
        shards: 1,
        initiations_per_s_max: 100,
        queue_depth_loaded: 100,
        started: NOW,
        clock_floor: Tai64n::from_unix(NOW),
    };
    let mut engine = Engine::new(config, [1; 32]);
    let key = LocalKey::from_bytes(&[2; 32].into()).expect("a key");
    engine.add_key(KeyId(1), key).expect("room for a key");
    let via = Via { path: 0, source: SocketAddr::from((Ipv4Addr::LOCALHOST, 51820)) };
    let mut message = [7; INITIATION_LEN];
    message[..4].copy_from_slice(&[1, 0, 0, 0]);
    let mut refuse = || {
        engine.on_control(NOW, via, black_box(&message), 0);
        engine.poll()
    };
    refuse();
    let action = measured(refuse);
    assert!(matches!(action, Some(Action::Refused(Refused::BadMac))), "{action:?}");
}
