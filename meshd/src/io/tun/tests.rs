//! Devices in a network namespace of their own. Needs root and /dev/net/tun.

use meshd_core::coalesce::CoalesceSwitches;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};

use super::open::{attach, offload, set_offloads};
use super::{READ_LEN_MAX, Tun, TunError, TunGroup, TunQueue};
use crate::io::events::{Events, Interest, Waker};
use crate::io::seam::{DatagramSocket, PacketDevice};
use crate::io::switches::{KernelVersion, Switches};
use crate::io::udp::UdpGroup;

const ALL: Switches = Switches {
    udp_gso: true,
    udp_gro: true,
    tun_tcp_gro: true,
    tun_udp_gro: true,
    never_gso_equal_tail: false,
};
const VNET_LEN: usize = 10;
const TRAIN: libc::c_int = libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;

#[test]
fn a_stale_mask_of_a_persistent_device_does_not_survive() {
    in_namespace(|| {
        for stale in [0, offload::TCP | offload::UDP] {
            let left_behind = attach("mesh-io", TRAIN).unwrap();
            set_offloads(&left_behind, stale).unwrap();
            drop(left_behind);
            ip(&["tuntap", "add", "mesh-io", "mode", "tun", "multi_queue", "vnet_hdr"]);
            set_offloads(&attach("mesh-io", TRAIN).unwrap(), stale).unwrap();

            let device = TunGroup::create("mesh-io", 1, ALL).unwrap();
            up("mesh-io");
            assert_eq!(device.trains.udp, reads_train(&device.queues[0]), "after mask {stale}");
            assert!(device.trains.tcp);
            drop(device);
            assert!(nix::net::if_::if_nametoindex("mesh-io").is_err(), "the device is gone");
        }
    });
}

#[test]
fn a_device_that_somebody_holds_is_not_joined() {
    in_namespace(|| {
        let held = TunGroup::create("mesh-io", 2, ALL).unwrap();
        let taken = |made: Result<(), TunError>| matches!(made, Err(TunError::NameTaken { .. }));
        assert!(taken(TunGroup::create("mesh-io", 2, ALL).map(drop)));
        assert!(taken(Tun::create("mesh-io").map(drop)));
        assert!(taken(TunGroup::create("lo", 1, ALL).map(drop)));
        assert_eq!(held.queues.len(), 2);
        drop(held);
        drop(TunGroup::create("mesh-io", 1, ALL).unwrap());
        ip(&["tuntap", "add", "mesh-io", "mode", "tun"]);
        drop(TunGroup::create("mesh-io", 1, ALL).unwrap());
        assert!(nix::net::if_::if_nametoindex("mesh-io").is_err(), "the device is gone");
    });
}

#[test]
fn names_and_numbers_that_no_device_has_are_refused() {
    for name in ["", ".", "a/b", "sixteen-letters-", "a b"] {
        assert!(matches!(TunGroup::create(name, 1, ALL), Err(TunError::BadName { .. })), "{name}");
    }
    for queues in [0, 65] {
        assert!(matches!(TunGroup::create("mesh-io", queues, ALL), Err(TunError::Io { .. })), "{queues}");
    }
}

#[test]
fn the_kernel_is_tried_for_the_trains_that_switches_allow() {
    in_namespace(|| {
        let no_udp = Switches::for_kernel(KernelVersion(6, 8, 4));
        for (switches, tcp, udp) in [
            (ALL, true, true),
            (Switches { never_gso_equal_tail: false, ..no_udp }, true, false),
            (Switches { tun_tcp_gro: false, ..ALL }, false, true),
        ] {
            let device = TunGroup::create("mesh-io", 1, switches).unwrap();
            assert_eq!(device.queues[0].coalescing(), CoalesceSwitches { tcp, udp });
        }
    });
}

#[test]
fn a_train_that_is_invalid_itself_does_not_end_the_others() {
    in_namespace(|| {
        let device = TunGroup::create("mesh-io", 1, ALL).unwrap();
        let [queue] = device.queues.as_slice() else { panic!("one queue") };
        up("mesh-io");
        for gso in [1, 4, 5] {
            // A segment length of zero.
            let mut train = [0; 200];
            train[..2].copy_from_slice(&[1, gso]);
            train[VNET_LEN] = 0x45;
            let error = queue.write(&[IoSlice::new(&train)]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{gso}");
        }
        for odd in [&[0; 5][..], &[0; VNET_LEN], &[0; 40], &[0xff; 100]] {
            assert!(queue.write(&[IoSlice::new(odd)]).is_err(), "{} bytes", odd.len());
        }
        assert_eq!(queue.coalescing(), CoalesceSwitches { tcp: true, udp: true });
    });
}

#[test]
fn a_device_that_is_gone_is_an_error_and_an_empty_one_is_not() {
    in_namespace(|| {
        let device = TunGroup::create("mesh-io", 1, ALL).unwrap();
        let mut buffer = vec![0; READ_LEN_MAX];
        assert_eq!(device.queues[0].read(&mut buffer).unwrap(), None);
        ip(&["link", "delete", "mesh-io"]);
        assert!(device.queues[0].read(&mut buffer).is_err());
        assert!(device.queues[0].write(&[IoSlice::new(&buffer[..60])]).is_err());
    });
}

#[test]
fn a_link_that_cannot_fill_in_checksums_gets_every_datagram() {
    in_namespace(|| {
        let device = TunGroup::create("mesh-io", 1, ALL).unwrap();
        set_offloads(&device.queues[0].file, 0).unwrap();
        up("mesh-io");
        let group = UdpGroup::bind(0, 1, ALL).unwrap();
        let to = SocketAddr::from(([10, 92, 0, 9], 9));
        for train in 0..3 {
            // Kernels before 6.11 refuse the first train for this link.
            group.shards[0].send(&[train; 10 * 1000], 1000, to, 0).unwrap();
            for _ in 0..10 {
                let packet = read_v4(&device.queues[0]);
                assert_eq!(packet.len(), VNET_LEN + 28 + 1000);
                assert_eq!(packet[..2], [0, 0], "nothing is left to do");
                assert_eq!(packet[VNET_LEN + 28..], [train; 1000]);
            }
        }
        assert!(group.tally().trains_refused() <= 1, "what was refused once is not tried each time");
    });
}

/// Whether a train of datagrams sent into the device comes out in one read.
fn reads_train(queue: &TunQueue) -> bool {
    const SEGMENT: usize = 1000;
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    setsockopt(&socket, sockopt::UdpGsoSegment, &(SEGMENT as i32)).unwrap();
    socket.send_to(&[7; 10 * SEGMENT], (Ipv4Addr::new(10, 92, 0, 9), 9)).unwrap();
    read_v4(queue).len() == VNET_LEN + 28 + 10 * SEGMENT
}

/// The next IPv4 packet with its header; the host also multicasts over IPv6.
fn read_v4(queue: &TunQueue) -> Vec<u8> {
    let waker = Waker::new().unwrap();
    let events = Events::new(&waker, &[(queue.as_fd(), Interest::Readable)]).unwrap();
    let mut buffer = vec![0; READ_LEN_MAX];
    loop {
        match queue.read(&mut buffer).unwrap() {
            Some(len) if buffer[VNET_LEN] == 0x45 => {
                buffer.truncate(len);
                return buffer;
            }
            Some(_) => {}
            None => {
                let wakeup = events.wait(Some(Duration::from_secs(20))).unwrap();
                assert!(wakeup.is_ready(0), "a packet arrives");
            }
        }
    }
}

fn up(device: &str) {
    ip(&["address", "add", "10.92.0.1/24", "dev", device]);
    ip(&["link", "set", device, "up"]);
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `act` in a network namespace that ends with it; not at all, with a word why, where none can be made.
///
/// One at a time in a process: a program started by another test holds this test's devices for the moment between
/// fork and exec.
fn in_namespace(act: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: needs root and /dev/net/tun");
        return;
    }
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let inside = || -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        act();
        Ok(())
    };
    std::thread::scope(|scope| {
        let ended = scope.spawn(inside).join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).unwrap();
    });
}
