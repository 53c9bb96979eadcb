//! The two ends of the packet path against the real kernel, in two network namespaces joined by a veth pair.
//! Needs root and /dev/net/tun.

#[path = "rig/pair.rs"]
mod pair;
#[path = "rig/space.rs"]
mod space;

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use meshd::io::{
    DatagramSocket, Events, GroupSocket, Interest, KernelVersion, PacketDevice, READ_LEN_MAX, ReceiveMeta,
    Switches, TunGroup, TunQueue, UdpGroup, Waker, segments_max,
};
use meshd::os::{Device, DeviceSettings};
use nix::sys::socket::{setsockopt, sockopt};

use pair::{PATIENCE, Pair};
use space::Space;

const PORT: u16 = 51820;
const SEGMENT: usize = 1452;
/// Bytes of the virtio-net header.
const VNET_LEN: usize = 10;

#[test]
fn the_longest_train_crosses_a_link_whole_in_both_families() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (bind(&pair.left, 1, switches()), bind(&pair.right, 1, switches()));
    let full = train(segments_max(SEGMENT) * SEGMENT, SEGMENT);
    assert_eq!(full.len(), 45 * SEGMENT);
    for (from, to) in [(underlay4(0), underlay4(1)), (underlay6(0), underlay6(1))] {
        a.shards[0].send(&full, SEGMENT, SocketAddr::new(to, PORT), 0).unwrap();
        let (bytes, meta) = receive(&b.shards[0], 65_536);
        assert_eq!((meta.len, meta.stride, meta.truncated), (full.len(), SEGMENT, false));
        assert_eq!(meta.source, SocketAddr::new(from, PORT));
        assert!(bytes == full, "the train arrives as it was sent");
    }
    let more = train(46 * SEGMENT, SEGMENT);
    let refused = a.shards[0].send(&more, SEGMENT, SocketAddr::new(underlay4(1), PORT), 0).unwrap_err();
    assert_eq!((refused.kind(), refused.raw_os_error()), (ErrorKind::InvalidInput, None));
}

#[test]
fn a_datagram_longer_than_the_link_takes_is_an_error_of_the_sender() {
    let Some(pair) = Pair::new() else { return };
    let a = bind(&pair.left, 1, switches());
    let to = SocketAddr::new(underlay4(1), PORT);
    for (len, segment) in [(1473, 1473), (20 * 1473, 1473)] {
        let error = a.shards[0].send(&train(len, segment), segment, to, 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE), "nothing is fragmented: {len}");
    }
    let nowhere = SocketAddr::new(Ipv4Addr::new(203, 0, 113, 1).into(), PORT);
    let error = a.shards[0].send(&train(2000, 1000), 1000, nowhere, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENETUNREACH));
    a.shards[0].send(&train(2000, 1000), 1000, to, 0).unwrap();
}

#[test]
fn the_control_socket_reaches_behind_paths_that_are_too_narrow() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (bind(&pair.left, 1, switches()), bind(&pair.right, 1, switches()));
    for target in [underlay4(1), underlay6(1)] {
        let target = SocketAddr::new(target, PORT);
        for len in [1452, 1480, 9000] {
            let sent = train(len, len);
            a.control.send(&sent, len, target, 0).unwrap();
            let (bytes, meta) = receive(&b.shards[0], 65_536);
            assert_eq!((meta.len, meta.truncated), (len, false), "{target}");
            assert!(bytes == sent);
        }
    }
    // The link itself may be too narrow.
    pair.left.ip("link set uplink mtu 1300");
    let target = SocketAddr::new(underlay4(1), PORT);
    assert!(a.shards[0].send(&train(1400, 1400), 1400, target, 0).is_err());
    a.control.send(&train(1400, 1400), 1400, target, 0).unwrap();
    assert_eq!(receive(&b.shards[0], 65_536).1.len, 1400);
}

#[test]
fn datagrams_that_find_the_buffer_full_are_counted_by_the_kernel() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (bind(&pair.left, 1, switches()), bind(&pair.right, 1, switches()));
    setsockopt(&b.shards[0], sockopt::RcvBuf, &100_000).unwrap();
    assert_eq!(b.tally().overflows(), 0);
    let full = train(45 * SEGMENT, SEGMENT);
    let deadline = Instant::now() + PATIENCE;
    while b.tally().overflows() == 0 {
        assert!(Instant::now() < deadline, "waited in vain for a full buffer");
        a.shards[0].send(&full, SEGMENT, SocketAddr::new(underlay4(1), PORT), 0).unwrap();
    }
    assert_eq!(receive(&b.shards[0], 65_536).1.len, full.len());
}

#[test]
fn odd_datagrams_are_received_like_any_other() {
    let Some(pair) = Pair::new() else { return };
    let b = bind(&pair.right, 1, switches());
    for (target, source) in [(underlay4(1), underlay4(0)), (underlay6(1), underlay6(0))] {
        let sender = pair.left.inside(|| UdpSocket::bind((source, 0))).unwrap();
        let at = sender.local_addr().unwrap();
        let target = SocketAddr::new(target, PORT);
        for len in [0, 1, 3, 4, 31, 1000, 1001, 1400] {
            let datagram = train(len, usize::MAX);
            sender.send_to(&datagram, target).unwrap();
            // A shard is named by a byte of the index, which the shorter ones do not have.
            let socket = if len < 5 { &b.control } else { &b.shards[0] };
            let (bytes, meta) = receive(socket, 1000);
            let kept = len.min(1000);
            assert_eq!((meta.len, meta.stride), (kept, kept.max(1)), "{len}");
            assert_eq!((meta.source, meta.truncated), (at, len > 1000), "{len}");
            assert_eq!(bytes, &datagram[..kept]);
        }
        // Longer than the link: it arrives in fragments.
        sender.send_to(&train(9000, 9000), target).unwrap();
        assert_eq!(receive(&b.shards[0], 65_536).1.len, 9000);
        sender.send_to(&train(9000, 9000), target).unwrap();
        assert!(receive(&b.shards[0], 2048).1.truncated);
        sender.send_to(&train(100, 100), target).unwrap();
        assert_eq!(receive(&b.shards[0], 65_536).1.len, 100);
    }
}

#[test]
fn a_slab_fills_part_by_part() {
    let Some(pair) = Pair::new() else { return };
    let b = bind(&pair.right, 1, Switches { udp_gro: false, ..switches() });
    let sender = pair.left.inside(|| UdpSocket::bind((underlay4(0), 0))).unwrap();
    let lens: Vec<usize> = (0..100).map(|at| 5 + at).collect();
    for len in &lens {
        sender.send_to(&train(*len, *len), SocketAddr::new(underlay4(1), PORT)).unwrap();
    }
    let (mut slab, mut metas) = (vec![0; 64 * 2048], [ReceiveMeta::default(); 64]);
    let mut arrived = Vec::new();
    while arrived.len() < lens.len() {
        await_readable(&b.shards[0]);
        let count = b.shards[0].receive(&mut slab, &mut metas).unwrap();
        for (part, meta) in slab.chunks(2048).zip(&metas).take(count) {
            assert_eq!(part[..meta.len], train(meta.len, meta.len));
            arrived.push(meta.len);
        }
    }
    assert_eq!(arrived, lens);
    assert_eq!(b.shards[0].receive(&mut slab, &mut metas).unwrap(), 0);
    assert_eq!(b.shards[0].receive(&mut [], &mut metas).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(b.shards[0].receive(&mut slab, &mut []).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn data_goes_to_the_shard_of_its_index_and_all_else_to_control() {
    let Some(pair) = Pair::new() else { return };
    let b = bind(&pair.right, 4, switches());
    for (target, source) in [(underlay4(1), underlay4(0)), (underlay6(1), underlay6(0))] {
        // The kernel's own choice depends on the source port: several senders tell them apart.
        for _ in 0..8 {
            let sender = pair.left.inside(|| UdpSocket::bind((source, 0))).unwrap();
            let send = |head: [u8; 8]| {
                let mut datagram = [0; 64];
                datagram[..8].copy_from_slice(&head);
                sender.send_to(&datagram, SocketAddr::new(target, PORT)).unwrap();
            };
            for index in [0u8, 1, 2, 3, 4, 0x7e, 0xfd, 0xff] {
                send([4, 0, 0, 0, index, 0xaa, 0xbb, 0xcc]);
                let (bytes, _) = receive(&b.shards[usize::from(index & 3)], 2048);
                assert_eq!(bytes[4], index);
            }
            for first in
                [[1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0], [0; 4], [5, 0, 0, 0], [4, 0, 0, 1], [0xff; 4]]
            {
                send([first[0], first[1], first[2], first[3], 1, 0, 0, 0]);
                assert_eq!(receive(&b.control, 2048).0[..4], first);
            }
            sender.send_to(&[4, 0, 0, 0], SocketAddr::new(target, PORT)).unwrap();
            assert_eq!(receive(&b.control, 2048).0, [4, 0, 0, 0]);
        }
    }
}

#[test]
fn handshakes_have_a_class_of_their_own_and_data_only_its_mark() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (bind(&pair.left, 1, switches()), bind(&pair.right, 1, switches()));
    for target in [underlay4(1), underlay6(1)] {
        let target = SocketAddr::new(target, PORT);
        a.control.send(&[1, 0, 0, 0], 4, target, 0).unwrap();
        assert_eq!(receive(&b.control, 2048).1.ecn, 0);
        for ecn in 0..4 {
            a.shards[0].send(&train(3000, 1000), 1000, target, ecn).unwrap();
            assert_eq!(receive(&b.shards[0], 65_536).1.ecn, ecn, "{target}");
        }
    }
}

#[test]
fn without_ipv6_the_sockets_serve_ipv4() {
    let Some(pair) = Pair::new() else { return };
    pair.left.set("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    let (a, b) = (bind(&pair.left, 2, switches()), bind(&pair.right, 1, switches()));
    a.shards[0].send(&train(4000, 1000), 1000, SocketAddr::new(underlay4(1), PORT), 1).unwrap();
    let (_, meta) = receive(&b.shards[0], 65_536);
    assert_eq!((meta.len, meta.stride, meta.ecn), (4000, 1000, 1));
    assert_eq!(meta.source, SocketAddr::new(underlay4(0), PORT));
    b.shards[0].send(&train(4000, 1000), 1000, meta.source, 2).unwrap();
    let (_, meta) = receive(&a.shards[0], 65_536);
    assert_eq!((meta.len, meta.stride, meta.ecn), (4000, 1000, 2));
    assert!(a.shards[0].send(&train(100, 100), 100, SocketAddr::new(underlay6(1), PORT), 0).is_err());
}

#[test]
fn a_train_that_was_taken_in_part_is_not_taken_as_sent() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) =
        (bind(&pair.left, 1, Switches { udp_gso: false, ..switches() }), bind(&pair.right, 1, switches()));
    // Nobody tells the other side's hardware address, so the kernel holds what is sent, and holds little.
    pair.right.ip("link set uplink arp off");
    setsockopt(&a.shards[0], sockopt::SndBuf, &8192).unwrap();
    let to = SocketAddr::new(underlay4(1), PORT);
    let sent = train(45 * SEGMENT, SEGMENT);

    let error = a.shards[0].send(&sent, SEGMENT, to, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "the rest found no room");
    let error = a.shards[0].send(&sent, SEGMENT, to, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "nothing was sent: the caller can repeat it");

    let address = pair.right.output("ip", "-brief link show uplink");
    let address = address.split_whitespace().nth(2).unwrap();
    pair.left.ip(&format!("neighbour replace 192.168.77.2 lladdr {address} dev uplink"));
    let mut held = 0;
    while b.shards[0].receive(&mut vec![0; 65_536], &mut [ReceiveMeta::default()]).unwrap() > 0 {
        held += 1;
    }
    assert!((1..45).contains(&held), "the kernel held {held} datagrams");

    // Now there is room again and again: the loop goes on where the kernel stopped.
    a.shards[0].send(&sent, SEGMENT, to, 0).unwrap();
    let mut arrived = Vec::new();
    while arrived.len() < sent.len() {
        arrived.extend(receive(&b.shards[0], 65_536).0);
    }
    assert!(arrived == sent, "every datagram once and in order");
}

#[test]
fn tcp_trains_are_read_whole_and_written_whole() {
    for switches in [switches(), Switches { tun_tcp_gro: false, ..switches() }] {
        let Some(pair) = Pair::new() else { return };
        let mesh = Relay::new(&pair, switches);
        // What the host hands over is another matter than what it takes.
        assert_eq!(mesh.device(1).queues[0].coalescing().tcp, switches.tun_tcp_gro);
        assert!(mesh.device(0).trains.tcp);
        for address in [IpAddr::V4(addr4(1)), IpAddr::V6(addr6(1))] {
            let listener = pair.right.inside(|| TcpListener::bind((address, 7000))).unwrap();
            let sent: Vec<u8> = (0..4_000_000u32).map(|at| (at / 7) as u8).collect();
            let received = mesh.during(|| {
                std::thread::scope(|scope| {
                    let reader = scope.spawn(|| {
                        let mut received = Vec::new();
                        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
                        received
                    });
                    let mut stream = pair.left.inside(|| TcpStream::connect((address, 7000))).unwrap();
                    stream.write_all(&sent).unwrap();
                    drop(stream);
                    reader.join().unwrap()
                })
            });
            assert!(received == sent, "the stream arrives as it was sent");
        }
        let longest = mesh.longest.load(Ordering::Relaxed);
        assert!(longest > 10 * 1420, "super-packets are read: {longest}");
        assert!(longest <= VNET_LEN + 60 + 45 * 1420, "a super-packet fits one send: {longest}");
    }
}

#[test]
fn udp_trains_are_read_whole_and_written_whole() {
    let Some(pair) = Pair::new() else { return };
    let mesh = Relay::new(&pair, switches());
    if !mesh.device(0).trains.udp {
        eprintln!("skipped: the kernel has no UDP trains on devices");
        return;
    }
    for (from, to) in [(IpAddr::V4(addr4(0)), IpAddr::V4(addr4(1))), (addr6(0).into(), addr6(1).into())] {
        let receiver = pair.right.inside(|| UdpGroup::bind(7000, 1, switches())).unwrap();
        let sender = pair.left.inside(|| UdpGroup::bind(7000, 1, switches())).unwrap();
        let sent = train(40 * 1300, 1300);
        let (bytes, meta) = mesh.during(|| {
            sender.shards[0].send(&sent, 1300, SocketAddr::new(to, 7000), 0).unwrap();
            receive(&receiver.shards[0], 65_536)
        });
        assert_eq!((meta.len, meta.stride), (sent.len(), 1300));
        assert_eq!(meta.source, SocketAddr::new(from, 7000));
        assert!(bytes == sent);
    }
}

#[test]
fn the_device_gets_the_limits_that_make_a_train_fit_one_send() {
    let Some(pair) = Pair::new() else { return };
    for (mtu, segments) in [(1420, 45), (1280, 49), (8920, 7)] {
        let device = device(&pair, 0, mtu, 2, switches());
        let shown = pair.left.output("ip", "-details link show dev mesh-a");
        let value = |name: &str| {
            let after = shown.split_whitespace().skip_while(|word| *word != name).nth(1);
            after.unwrap_or_else(|| panic!("{name} is shown: {shown}")).parse::<u32>().unwrap()
        };
        assert_eq!(value("gso_max_segs"), segments);
        assert_eq!(value("gso_max_size"), 65_536);
        assert_eq!(value("qlen"), 128);
        assert_eq!(value("mtu"), u32::from(mtu));
        assert_eq!(segments as usize, segments_max(usize::from(mtu) + 32));
        drop(device);
    }
}

/// Carries packets between the overlay devices of both sides, as they are: what one host hands over uncut the
/// other is given uncut.
struct Relay {
    devices: [TunGroup; 2],
    longest: AtomicUsize,
}

impl Relay {
    fn new(pair: &Pair, switches: Switches) -> Self {
        let devices = [0, 1].map(|side| device(pair, side, 1420, 1, switches));
        Self { devices, longest: AtomicUsize::new(0) }
    }

    fn device(&self, side: usize) -> &TunGroup {
        &self.devices[side]
    }

    /// Carries packets both ways while `act` runs.
    fn during<T>(&self, act: impl FnOnce() -> T) -> T {
        let (stopping, waker) = (AtomicBool::new(false), [Waker::new().unwrap(), Waker::new().unwrap()]);
        let [a, b] = [0, 1].map(|side: usize| &self.devices[side].queues[0]);
        std::thread::scope(|scope| {
            scope.spawn(|| self.carry(a, b, &waker[0], &stopping));
            scope.spawn(|| self.carry(b, a, &waker[1], &stopping));
            let stop = Stop { stopping: &stopping, waker: &waker };
            let result = act();
            drop(stop);
            result
        })
    }

    fn carry(&self, from: &TunQueue, to: &TunQueue, waker: &Waker, stopping: &AtomicBool) {
        let events = Events::new(waker, &[(from.as_fd(), Interest::Readable)]).unwrap();
        let mut buffer = vec![0; READ_LEN_MAX];
        while !stopping.load(Ordering::Acquire) {
            match from.read(&mut buffer).unwrap() {
                Some(len) => {
                    self.longest.fetch_max(len, Ordering::Relaxed);
                    let (vnet, packet) = buffer[..len].split_at(VNET_LEN);
                    let (first, second) = packet.split_at(packet.len() / 2);
                    to.write(&[IoSlice::new(vnet), IoSlice::new(first), IoSlice::new(second)]).unwrap();
                }
                None => {
                    events.wait(Some(PATIENCE)).unwrap();
                }
            }
        }
    }
}

/// Ends the relay's threads, also in a panic.
struct Stop<'a> {
    stopping: &'a AtomicBool,
    waker: &'a [Waker; 2],
}

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.waker.iter().for_each(Waker::wake);
    }
}

fn bind(host: &Space, shards: usize, switches: Switches) -> UdpGroup {
    host.inside(|| UdpGroup::bind(PORT, shards, switches)).unwrap()
}

fn device(pair: &Pair, side: u8, mtu: u16, queues: usize, switches: Switches) -> TunGroup {
    let (host, name) = if side == 0 { (&pair.left, "mesh-a") } else { (&pair.right, "mesh-b") };
    let device = host.inside(|| {
        let device = TunGroup::create(name, queues, switches).unwrap();
        Device::configure(&DeviceSettings {
            name: name.to_owned(),
            mtu,
            addr4: addr4(side),
            addr6: addr6(side),
            routes: vec!["10.91.0.0/16".parse().unwrap(), "fd5a:1::/48".parse().unwrap()],
        })
        .unwrap();
        device
    });
    host.settle();
    device
}

/// Waits for one datagram or train.
fn receive(socket: &GroupSocket, part_len: usize) -> (Vec<u8>, ReceiveMeta) {
    await_readable(socket);
    let (mut slab, mut metas) = (vec![0; part_len], [ReceiveMeta::default()]);
    assert_eq!(socket.receive(&mut slab, &mut metas).unwrap(), 1);
    slab.truncate(metas[0].len);
    (slab, metas[0])
}

fn await_readable(socket: &GroupSocket) {
    let waker = Waker::new().unwrap();
    let events = Events::new(&waker, &[(socket.as_fd(), Interest::Readable)]).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !events.wait(Some(PATIENCE)).unwrap().is_ready(0) {
        assert!(Instant::now() < deadline, "waited in vain for a datagram");
    }
}

/// Transport data of shard 0 by the first bytes of each datagram; the kernel looks no further.
fn train(len: usize, segment: usize) -> Vec<u8> {
    let byte = |at: usize| match at % segment {
        0 => 4,
        1..=4 => 0,
        _ => (at / 3) as u8,
    };
    (0..len).map(byte).collect()
}

/// All on, also where the running kernel would be spared something.
fn switches() -> Switches {
    Switches::for_kernel(KernelVersion(6, 12, 0))
}

fn addr4(side: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 91, 0, side + 1)
}

fn addr6(side: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd5a, 1, 0, 0, 0, 0, 0, u16::from(side) + 1)
}

fn underlay4(side: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 77, side + 1).into()
}

fn underlay6(side: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, u16::from(side) + 1).into()
}
