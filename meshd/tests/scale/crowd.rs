//! All peers of the node under test, played by one thread: each has a key, an address and a tunnel of its own.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshd_core::IpPacket;
use meshd_core::echo::{self, EchoId};
use meshd_tunnel::{
    Action, Engine, EngineConfig, KeyId, Opened, PeerId, RxSession, Tai64n, To, TunnelEvent, TunnelId,
    TunnelSpec, TxSession, Via, padding,
};
use nix::libc::{in_addr, in_pktinfo};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};

use crate::node;
use crate::space::Space;

/// Peers of one engine: each initiation is tried against all keys of its engine.
const KEYS: u32 = 8;
/// The clock starts where no engine spreads its first calls any more.
const CLOCK_START: Duration = Duration::from_secs(1000);
/// Buffers of the socket: every peer may be spoken to at once.
const BUFFER_LEN: usize = 32 << 20;
/// Name of the echoes of a stream, and of all others.
const STREAM_ID: u16 = 2;
const ECHO_ID: u16 = 1;
/// Time between two echoes of a stream.
const STREAM_PACE: Duration = Duration::from_millis(1);
/// A look at all timers.
const TIMERS_EVERY: Duration = Duration::from_millis(50);

const NODE: SocketAddrV4 = SocketAddrV4::new(node::UNDERLAY, node::PORT);

/// The peers.
pub struct Crowd {
    socket: UdpSocket,
    groups: Vec<Group>,
    members: Vec<Member>,
    started: Instant,
    /// How far the clock was put forward.
    ahead: Duration,
    timers_at: Instant,
    /// Handshake messages that are kept back for a burst.
    held: Option<Vec<(u32, Vec<u8>)>>,
    stream: Option<Stream>,
    buffer: Box<[u8]>,
}

/// Peers that share an engine.
struct Group {
    engine: Engine,
    sessions: HashMap<u32, Arc<RxSession>>,
}

/// One peer.
struct Member {
    tunnel: TunnelId,
    sending: Option<Arc<TxSession>>,
    established: u32,
    answers: u32,
}

/// Numbered echoes of the first peer.
#[derive(Debug, Default)]
pub struct Stream {
    sent: Vec<Instant>,
    answered: Vec<Option<Duration>>,
    is_over: bool,
}

impl Crowd {
    /// So many peers, in a namespace where all their addresses are local.
    pub fn new(space: &Space, count: u32) -> Self {
        let socket = space.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, node::PORT))).expect("bound");
        socket.set_nonblocking(true).expect("it does not block");
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).expect("addresses are told");
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_LEN).expect("there is memory");
        setsockopt(&socket, sockopt::SndBufForce, &BUFFER_LEN).expect("there is memory");
        let mut groups = Vec::new();
        let mut members = Vec::new();
        let remote = node::own_key().public();
        for number in 0..count {
            if number % KEYS == 0 {
                groups.push(Group { engine: engine(number), sessions: HashMap::new() });
            }
            let engine = &mut groups.last_mut().expect("a group").engine;
            let key = KeyId(number % KEYS);
            engine.add_key(key, node::key(number)).expect("a key of its own");
            let spec = TunnelSpec {
                key,
                peer: PeerId(number),
                peer_key: remote,
                my_epoch: 0,
                peer_epoch: 0,
                suite: node::SUITE,
                psk: None,
                keepalive: None,
            };
            let tunnel = engine.add(CLOCK_START, spec).expect("a tunnel");
            members.push(Member { tunnel, sending: None, established: 0, answers: 0 });
        }
        Self {
            socket,
            groups,
            members,
            started: Instant::now(),
            ahead: CLOCK_START,
            timers_at: Instant::now(),
            held: None,
            stream: None,
            buffer: vec![0; 1 << 16].into(),
        }
    }

    /// Peers that have completed so many handshakes.
    pub fn established(&self, times: u32) -> usize {
        self.members.iter().filter(|member| member.established >= times).count()
    }

    /// Handshakes of one peer.
    pub fn established_by(&self, number: u32) -> u32 {
        self.members[number as usize].established
    }

    /// Peers that have got so many answers.
    pub fn answered(&self, times: u32) -> usize {
        self.members.iter().filter(|member| member.answers >= times).count()
    }

    /// Does what comes and what is due until `done`; false if time is up before.
    pub fn run(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            self.receive();
            self.let_time_pass();
            self.stream_on();
            if done(self) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, 1_u16);
        }
    }

    /// Lets one peer ask the node for an echo.
    pub fn ask(&mut self, number: u32) {
        let sequence = self.members[number as usize].answers as u16;
        self.send_echo(number, EchoId { id: ECHO_ID, sequence });
    }

    /// Makes all peers begin a handshake, but keeps their initiations. Time jumps over the pause between handshakes.
    pub fn prepare(&mut self, count: u32) -> Vec<(u32, Vec<u8>)> {
        self.ahead += Duration::from_secs(10);
        self.held = Some(Vec::new());
        for number in 0..count {
            let (now, tunnel) = (self.now(), self.members[number as usize].tunnel);
            self.group(number).engine.want_session(now, tunnel);
            self.pump(number / KEYS);
        }
        self.held.replace(Vec::new()).unwrap_or_default()
    }

    /// Sends what was kept, as it is.
    pub fn send_kept(&self, (number, message): &(u32, Vec<u8>)) {
        self.send(*number, message);
    }

    /// Answers that were kept since [`Self::prepare`].
    pub fn kept(&self) -> usize {
        self.held.as_ref().map_or(0, Vec::len)
    }

    /// Takes the answers that were kept, and keeps no more.
    pub fn take_kept(&mut self) {
        for (number, message) in self.held.take().unwrap_or_default() {
            self.take(number, &mut message.clone());
        }
    }

    /// Starts a stream of echoes through the first peer.
    pub fn start_stream(&mut self) {
        self.stream = Some(Stream::default());
    }

    /// Ends the stream, and waits for the answers that are under way.
    pub fn end_stream(&mut self, limit: Duration) -> Stream {
        if let Some(stream) = &mut self.stream {
            stream.is_over = true;
        }
        self.run(limit, |crowd| crowd.stream.as_ref().is_none_or(|stream| stream.lost() == 0));
        self.stream.take().unwrap_or_default()
    }

    fn stream_on(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let now = Instant::now();
        let is_due = stream.sent.last().is_none_or(|last| now.duration_since(*last) >= STREAM_PACE);
        let is_due = is_due && !stream.is_over;
        let Ok(sequence) = u16::try_from(stream.sent.len()) else { return };
        if is_due {
            stream.sent.push(now);
            stream.answered.push(None);
            self.send_echo(0, EchoId { id: STREAM_ID, sequence });
        }
    }

    fn send_echo(&mut self, number: u32, id: EchoId) {
        let (own, node) = (IpAddr::V4(node::overlay(number)), IpAddr::V4(node::OVERLAY));
        let packet = echo::request(own, node, id, b"are you there?").expect("it is short");
        self.send_packet(number, &packet);
    }

    fn receive(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Ok(Some((number, len))) = receive_one(&self.socket, &mut buffer) {
            if (number as usize) < self.members.len() {
                self.take(number, &mut buffer[..len]);
            }
        }
        self.buffer = buffer;
    }

    fn take(&mut self, number: u32, message: &mut [u8]) {
        match (message.first(), &mut self.held) {
            (Some(4), _) => self.take_data(number, message),
            (Some(2), Some(held)) => held.push((number, message.to_vec())),
            _ => {
                let (now, via) = (self.now(), Via { path: 0, source: NODE.into() });
                self.group(number).engine.on_control(now, via, message, 0);
            }
        }
        self.pump(number / KEYS);
    }

    fn take_data(&mut self, number: u32, message: &mut [u8]) {
        let (now, tunnel) = (self.now(), self.members[number as usize].tunnel);
        let Some(Ok(index)) = message.get(4..8).map(<[u8; 4]>::try_from) else { return };
        let group = self.group(number);
        let Some(rx) = group.sessions.get(&u32::from_le_bytes(index)).cloned() else { return };
        let Ok(Opened { counter, plaintext }) = rx.open(message) else { return };
        let mut fresh = [false];
        rx.accept(&[counter], &mut fresh);
        if !fresh[0] {
            return;
        }
        if rx.confirm_first_use() {
            group.engine.confirmed(now, rx.index());
        }
        if rx.activity().note_received(now, !plaintext.is_empty()) {
            group.engine.stir(now, tunnel);
        }
        self.pump(number / KEYS);
        match &message[plaintext] {
            [] => {}
            // A probe of the path; its answer differs in one byte, and has 16.
            [0, 1, rest @ ..] if rest.len() >= 14 => {
                let answer = [&[0, 2], &rest[..4], &[0; 10]].concat();
                self.send_packet(number, &answer);
            }
            packet => {
                let packet = IpPacket::parse(packet).expect("only whole packets come");
                let Some((id, _)) = echo::reply(&packet) else { return };
                match &mut self.stream {
                    Some(stream) if id.id == STREAM_ID => stream.note(id.sequence),
                    Some(_) | None => self.members[number as usize].answers += 1,
                }
            }
        }
    }

    fn send_packet(&mut self, number: u32, packet: &[u8]) {
        let now = self.now();
        let member = &self.members[number as usize];
        let Some(Ok(mut reservation)) = member.sending.as_ref().map(|tx| tx.reserve(now, 1)) else { return };
        let mut sealed = vec![0; packet.len() + 128];
        let padding = padding(packet.len(), node::MTU.into());
        let len = reservation.seal(packet, padding, &mut sealed).expect("there is room");
        self.send(number, &sealed[..len]);
    }

    /// Does what the engine of a group wants.
    fn pump(&mut self, group: u32) {
        while let Some(action) = self.groups[group as usize].engine.poll() {
            let number = |tunnel| {
                let spec = self.groups[group as usize].engine.spec(tunnel);
                spec.map(|spec| spec.peer.0).expect("tunnels stay")
            };
            match action {
                Action::Send { tunnel: Some(tunnel), to: To::Chosen | To::Reply(_), message } => {
                    let number = number(tunnel);
                    match &mut self.held {
                        Some(held) if message.as_ref()[0] == 1 => {
                            held.push((number, message.as_ref().to_vec()));
                        }
                        Some(_) | None => self.send(number, message.as_ref()),
                    }
                }
                Action::InstallRx { rx, .. } => {
                    self.groups[group as usize].sessions.insert(rx.index(), rx);
                }
                Action::InstallTx { tunnel, tx } => {
                    let number = number(tunnel);
                    self.members[number as usize].sending = Some(tx);
                }
                Action::DropTx { tunnel } => {
                    let number = number(tunnel);
                    self.members[number as usize].sending = None;
                }
                Action::RetireIndex { index } => {
                    self.groups[group as usize].sessions.remove(&index);
                }
                Action::Event(TunnelEvent::Established { tunnel, .. }) => {
                    let number = number(tunnel);
                    self.members[number as usize].established += 1;
                }
                Action::Send { tunnel: None, .. } | Action::Event(_) | Action::Refused(_) => {}
            }
        }
    }

    fn let_time_pass(&mut self) {
        // A retry would take the place of an initiation that is kept.
        if self.held.is_some() || Instant::now() < self.timers_at {
            return;
        }
        self.timers_at = Instant::now() + TIMERS_EVERY;
        let now = self.now();
        for group in 0..self.groups.len() {
            let engine = &mut self.groups[group].engine;
            if engine.next_timeout().is_some_and(|at| at <= now) {
                engine.on_timeout(now);
                self.pump(group as u32);
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed() + self.ahead
    }

    fn group(&mut self, number: u32) -> &mut Group {
        &mut self.groups[(number / KEYS) as usize]
    }

    /// Sends from the address of a peer; a full buffer loses it, as a link would.
    fn send(&self, number: u32, message: &[u8]) {
        let source = in_addr { s_addr: u32::from(node::underlay(number)).to_be() };
        let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: in_addr { s_addr: 0 } };
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        let fd = self.socket.as_raw_fd();
        let _ =
            sendmsg(fd, &[IoSlice::new(message)], &control, MsgFlags::empty(), Some(&SockaddrIn::from(NODE)));
    }
}

impl Stream {
    /// Echoes without an answer.
    pub fn lost(&self) -> usize {
        self.answered.iter().filter(|answer| answer.is_none()).count()
    }

    /// Echoes sent.
    pub fn sent(&self) -> usize {
        self.sent.len()
    }

    /// The longest time to an answer.
    pub fn slowest(&self) -> Duration {
        self.answered.iter().flatten().max().copied().unwrap_or_default()
    }

    fn note(&mut self, sequence: u16) {
        let at = usize::from(sequence);
        if let (Some(sent), Some(answered)) = (self.sent.get(at), self.answered.get_mut(at)) {
            *answered = Some(sent.elapsed());
        }
    }
}

/// The next datagram and the peer it is for.
fn receive_one(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(u32, usize)>> {
    let mut control = nix::cmsg_space!(in_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let len = received.bytes;
    for message in received.cmsgs()? {
        if let ControlMessageOwned::Ipv4PacketInfo(info) = message {
            let address = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
            return Ok(node::number_at(address).map(|number| (number, len)));
        }
    }
    Ok(None)
}

fn engine(number: u32) -> Engine {
    let mut seed = [9; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    let config = EngineConfig {
        shards: 1,
        initiations_per_s_max: 1_000_000,
        queue_depth_loaded: usize::MAX,
        started: Duration::ZERO,
        clock_floor: Tai64n::from_unix(node::wall()),
    };
    Engine::new(config, seed)
}

/// Joins the node's namespace with that of its peers: 65,000 addresses behind one router.
pub fn link(node: &Space, crowd: &Space) {
    node.ip(&format!("link add uplink type veth peer name uplink netns {}", crowd.path()));
    node.ip(&format!("address add {}/24 dev uplink", node::UNDERLAY));
    node.ip("link set uplink up");
    crowd.ip("address add 192.168.77.2/24 dev uplink");
    crowd.ip("link set uplink up");
    crowd.ip("route add local 172.20.0.0/16 dev lo");
    node.ip("route add 172.20.0.0/16 via 192.168.77.2");
}
