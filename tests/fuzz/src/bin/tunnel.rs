//! Datagrams from the underlay: no packet comes out of one that the peer did not seal.
#![no_main]

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::edit::Script;
use meshd_fuzz::seed;
use meshd_tunnel::vertical_slice::{LocalKey, Opened, Sealed, Tunnel, TunnelIndex};
use zeroize::Zeroizing;

const MTU: u16 = 1420;
const BUFFER_LEN: usize = 2048;
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NOW: Duration = Duration::from_secs(1);
const RAW: usize = 0;
const EDITED_DATA: usize = 1;
const EDITED_INITIATION: usize = 2;
/// A pair is replaced after some inputs: the engine refuses nearly everything of an old session.
const INPUTS_PER_PAIR: u32 = 20_000;

thread_local! {
    static PAIR: RefCell<Pair> = RefCell::new(Pair::new());
}

struct Pair {
    sender: Tunnel,
    receiver: Tunnel,
    receiver_key: LocalKey,
    inputs: u32,
}

impl Pair {
    fn new() -> Self {
        let sender_key = LocalKey::new(&Zeroizing::new([1; 32]));
        let receiver_key = LocalKey::new(&Zeroizing::new([2; 32]));
        let mut pair = Self {
            sender: Tunnel::new(&sender_key, &receiver_key.public(), TunnelIndex::from_random(1), MTU),
            receiver: Tunnel::new(&receiver_key, &sender_key.public(), TunnelIndex::from_random(2), MTU),
            receiver_key,
            inputs: 0,
        };
        let (mut to, mut from) = ([0; BUFFER_LEN], [0; BUFFER_LEN]);
        let initiation = pair.sender.initiate(&mut to, NOW).expect("an initiation");
        let opened = pair.receiver.open(initiation, SOURCE, &mut from, NOW).expect("the initiation opens");
        let Opened::Response(response) = opened else { panic!("no response: {opened:?}") };
        let opened = pair.sender.open(response, SOURCE, &mut to, NOW).expect("the response opens");
        let Opened::Established(first) = opened else { panic!("no session: {opened:?}") };
        pair.receiver.open(first, SOURCE, &mut from, NOW).expect("the first message opens");
        pair
    }

    fn sealed(&mut self) -> Option<Vec<u8>> {
        let mut packet = [0; 64];
        packet[0] = 0x45;
        packet[3] = 64;
        let mut out = [0; BUFFER_LEN];
        match self.sender.seal(&packet, &mut out, NOW) {
            Ok(Sealed::Datagram(datagram)) => Some(datagram.to_vec()),
            Ok(Sealed::Staged { .. } | Sealed::Waiting { .. }) | Err(_) => None,
        }
    }

    fn receive(&mut self, datagram: &[u8]) {
        let mut out = [0; BUFFER_LEN];
        self.receiver_key.refill();
        let _whose = self.receiver_key.admit(datagram, SOURCE, &mut out);
        if let Ok(Opened::Packet(packet)) = self.receiver.open(datagram, SOURCE, &mut out, NOW) {
            panic!("a packet of {} bytes that nobody sealed", packet.len());
        }
    }
}

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    PAIR.with_borrow_mut(|pair| {
        pair.inputs += 1;
        if pair.inputs > INPUTS_PER_PAIR {
            *pair = Pair::new();
        }
        let honest = match usize::from(*choice) % 3 {
            RAW => return pair.receive(rest),
            EDITED_DATA => pair.sealed(),
            _ => pair.sender.initiate(&mut [0; BUFFER_LEN], NOW).ok().map(<[u8]>::to_vec),
        };
        let Some(honest) = honest else {
            *pair = Pair::new();
            return;
        };
        let mut edited = honest.clone();
        Script::new(rest).edit(&mut edited);
        if edited != honest {
            pair.receive(&edited);
        }
    });
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (kind, len) in [(1, 148), (2, 92), (3, 64), (4, 32), (4, 112)] {
        let mut message = vec![0; len];
        message[0] = kind;
        seeds.push(seed::chosen(RAW, &message));
    }
    for at in [0, 4, 9, 20, 100, 130] {
        seeds.push(seed::chosen(EDITED_DATA, &[0, 0, at, 1]));
        seeds.push(seed::chosen(EDITED_INITIATION, &[0, 0, at, 1]));
    }
    seeds.push(seed::chosen(EDITED_DATA, &[2, 0, 40]));
    seeds
}
