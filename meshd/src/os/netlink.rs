//! One request and its replies on a netlink socket.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Replies of one dump: a host with a full routing table of a large network stays below.
const REPLIES_MAX: usize = 2_000_000;

/// Says which step of talking to the kernel's network configuration failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct NetlinkError {
    step: &'static str,
    #[source]
    source: io::Error,
}

impl NetlinkError {
    pub(super) fn new(step: &'static str, source: io::Error) -> Self {
        Self { step, source }
    }

    /// Error number of the kernel, if it was one.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// A netlink socket of the calling thread's network namespace.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| NetlinkError::new("open a netlink socket", source))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for all objects of a kind and hands each to `each`.
    pub(super) fn dump(
        &mut self,
        step: &'static str,
        message: RouteNetlinkMessage,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), NetlinkError> {
        self.exchange(message, NLM_F_DUMP, &mut each).map_err(|source| NetlinkError::new(step, source))
    }

    /// Changes something and waits for the kernel's word that it did.
    pub(super) fn change(
        &mut self,
        step: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.exchange(message, NLM_F_ACK | flags, &mut |_| {})
            .map_err(|source| NetlinkError::new(step, source))
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        each: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        for _ in 0..REPLIES_MAX {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let reply =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                // Messages are aligned to four bytes; a length of zero would not end.
                let len = (reply.header.length as usize).max(16).next_multiple_of(4);
                rest = rest.get(len..).unwrap_or_default();
                if reply.header.sequence_number != self.sequence {
                    continue;
                }
                match reply.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok(()),
                    NetlinkPayload::InnerMessage(message) => each(message),
                    _ => {}
                }
            }
        }
        Err(io::Error::other("the kernel's answer does not end"))
    }
}
