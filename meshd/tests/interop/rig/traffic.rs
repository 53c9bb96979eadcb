//! Traffic through tunnels: everything that is sent is checked where it arrives.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::{PATIENCE, Space, wait_for};

/// Two UDP sockets that talk by numbered questions and answers.
pub struct Talk {
    asker: UdpSocket,
    answerer: UdpSocket,
    number: u64,
}

impl Talk {
    pub fn new((from, source): (&Space, IpAddr), (to, destination): (&Space, IpAddr)) -> Self {
        let answerer = to.inside(|| UdpSocket::bind((destination, 0))).expect("bind");
        let asker = from.inside(|| UdpSocket::bind((source, 0))).expect("bind");
        asker.connect(answerer.local_addr().expect("bound")).expect("connect");
        Self { asker, answerer, number: 0 }
    }

    /// Whether a question of this length arrives and its answer comes back, each within `limit`.
    pub fn round(&mut self, len: usize, limit: Duration) -> bool {
        self.number += 1;
        let mut question: Vec<u8> = (0..len.max(8)).map(|at| (at as u64 + self.number) as u8).collect();
        question[..8].copy_from_slice(&self.number.to_le_bytes());
        // A host that is told "unreachable" reports it at the next call.
        if self.asker.send(&question).is_err() && self.asker.send(&question).is_err() {
            return false;
        }
        let Some((asked, from)) = take(&self.answerer, &question, limit) else { return false };
        assert!(asked, "the question arrived changed");
        self.answerer.send_to(&question, from).is_ok() && take(&self.asker, &question, limit).is_some()
    }

    /// Waits for a round to succeed.
    pub fn wait(&mut self, what: &str) {
        wait_for(what, || self.round(64, Duration::from_millis(200)));
    }

    /// Whether no question waits.
    pub fn heard_nothing(&self) -> bool {
        self.answerer.set_nonblocking(true).expect("set");
        let silent =
            matches!(self.answerer.recv(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.answerer.set_nonblocking(false).expect("set");
        silent
    }

    /// Sends a question and waits for nothing.
    pub fn ask(&self) {
        let _ = self.asker.send(b"a question nobody waits for");
    }
}

/// A UDP socket for what arrives without a question.
pub struct Inbox {
    socket: UdpSocket,
}

impl Inbox {
    pub fn open(space: &Space, address: IpAddr) -> Self {
        let socket = space.inside(|| UdpSocket::bind((address, 0))).expect("bind");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Self { socket }
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().expect("bound").port()
    }

    pub fn send(&self, payload: &[u8], to: IpAddr) {
        self.socket.send_to(payload, (to, 9)).expect("send");
    }

    /// The next datagram.
    pub fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let len = self.socket.recv(&mut buffer).expect("a datagram arrives");
        buffer[..len].to_vec()
    }
}

/// Takes the datagram with this number; older ones are late and skipped.
fn take(socket: &UdpSocket, expected: &[u8], limit: Duration) -> Option<(bool, SocketAddr)> {
    let mut buffer = vec![0; 1 << 16];
    socket.set_read_timeout(Some(limit)).expect("set");
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((len, _)) if len < 8 || buffer[..8] != expected[..8] => {}
            Ok((len, from)) => return Some((buffer[..len] == *expected, from)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            // The host says that there is no way: as good as silence.
            Err(_) => return None,
        }
    }
}

/// Waits until a datagram goes from one address to the other and back.
///
/// Where both ends open a session at once, the first datagrams may be lost.
pub fn assert_reachable(from: (&Space, IpAddr), to: (&Space, IpAddr)) {
    Talk::new(from, to).wait(&format!("{} to reach {}", from.1, to.1));
}

/// Sees that a `ping` of this payload is answered, with the don't-fragment bit set.
pub fn ping(from: &Space, to: IpAddr, len: usize) {
    let said = from.output("ping", &format!("-n -q -c 1 -W 20 -M do -s {len} {to}"));
    assert!(said.contains("1 received"), "{len} bytes to {to}: {said}");
}

/// Transfers `len` bytes by TCP and checks every one; panics if it hangs.
pub fn tcp(from: (&Space, IpAddr), to: (&Space, IpAddr), len: usize) {
    let mut left = len;
    stream(from, to, None, || {
        let next = left.min(CHUNK_LEN);
        left -= next;
        next
    });
}

/// Streams by TCP while a condition holds, and checks every byte; panics if it hangs. It crowds out nothing beside it.
pub fn stream_while(from: (&Space, IpAddr), to: (&Space, IpAddr), mut holds: impl FnMut() -> bool) {
    stream(from, to, Some(GENTLE_BUFFER_LEN), || if holds() { CHUNK_LEN } else { 0 });
}

/// Bytes written at once.
const CHUNK_LEN: usize = 16 << 10;
/// Send buffer of a stream beside which no datagram may get lost; the kernel doubles it. What it lets be on its way fits
/// twice into the receive buffer of any program: 208 KiB, in which a datagram of 1.3 KiB may count as four.
const GENTLE_BUFFER_LEN: usize = 16 << 10;

/// Streams as many bytes as `next` says, again and again, until it says 0.
fn stream(
    (from, source): (&Space, IpAddr),
    (to, destination): (&Space, IpAddr),
    send_buffer_len: Option<usize>,
    mut next: impl FnMut() -> usize,
) {
    let listener = to.inside(|| TcpListener::bind((destination, 0))).expect("listen");
    let target = listener.local_addr().expect("bound");
    let mut stream = from.inside(|| connect(source, target, send_buffer_len));
    let (mut accepted, peer) = listener.accept().expect("accept");
    assert_eq!(peer.ip(), source);
    accepted.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.set_write_timeout(Some(PATIENCE)).expect("set");
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let (mut received, mut buffer) = (0, vec![0; CHUNK_LEN]);
            loop {
                let len = accepted.read(&mut buffer).expect("the transfer goes on");
                if len == 0 {
                    return received;
                }
                let right = buffer[..len].iter().enumerate().all(|(at, seen)| *seen == byte(received + at));
                assert!(right, "other bytes arrived after {received}");
                received += len;
            }
        });
        let mut sent = 0;
        loop {
            let len = next();
            if len == 0 {
                break;
            }
            let chunk: Vec<u8> = (sent..sent + len).map(byte).collect();
            stream.write_all(&chunk).expect("the transfer goes on");
            sent += len;
        }
        drop(stream);
        let received = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert_eq!(received, sent);
    });
}

fn connect(source: IpAddr, target: SocketAddr, send_buffer_len: Option<usize>) -> TcpStream {
    let domain = socket2::Domain::for_address(target);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("socket");
    socket.bind(&SocketAddr::new(source, 0).into()).expect("bind");
    if let Some(len) = send_buffer_len {
        socket.set_send_buffer_size(len).expect("set");
    }
    socket.connect_timeout(&target.into(), PATIENCE).expect("connect");
    socket.into()
}

/// A byte that tells its place: neither 256 nor the length of a segment is a period of it.
fn byte(at: usize) -> u8 {
    (at.wrapping_mul(0x9e37_79b1) >> 13) as u8
}

/// An IPv4 packet with a UDP datagram.
pub fn udp4(source: Ipv4Addr, destination: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(28 + payload.len()).expect("a short packet");
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let checksum = !fold(sum(&packet));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(udp(&source.octets(), &destination.octets(), port, payload));
    packet
}

/// An IPv6 packet with a UDP datagram.
pub fn udp6(source: Ipv6Addr, destination: Ipv6Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(8 + payload.len()).expect("a short packet").to_be_bytes());
    packet.extend([17, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(udp(&source.octets(), &destination.octets(), port, payload));
    packet
}

fn udp(source: &[u8], destination: &[u8], port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).expect("a short datagram");
    let mut datagram: Vec<u8> = 9000u16.to_be_bytes().to_vec();
    datagram.extend(port.to_be_bytes());
    datagram.extend(len.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let total = sum(source) + sum(destination) + 17 + u32::from(len) + sum(&datagram);
    let checksum = match !fold(total) {
        0 => 0xffff,
        other => other,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    datagram
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
