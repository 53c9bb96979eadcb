//! One request and its replies on a netlink socket.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
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
    /// Talks about links, addresses and routes.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        Self::open_protocol(NETLINK_ROUTE)
    }

    /// Talks about tracked connections.
    pub(super) fn open_netfilter() -> Result<Self, NetlinkError> {
        Self::open_protocol(NETLINK_NETFILTER)
    }

    fn open_protocol(protocol: isize) -> Result<Self, NetlinkError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| NetlinkError::new("open a netlink socket", source))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for all objects of a kind and hands each to `each`.
    pub(super) fn dump<M: NetlinkSerializable + NetlinkDeserializable>(
        &mut self,
        step: &'static str,
        message: M,
        mut each: impl FnMut(M),
    ) -> Result<(), NetlinkError> {
        self.exchange(message, NLM_F_DUMP, &mut each).map_err(|source| NetlinkError::new(step, source))
    }

    /// Asks for one object and hands it to `each`.
    pub(super) fn get<M: NetlinkSerializable + NetlinkDeserializable>(
        &mut self,
        step: &'static str,
        message: M,
        mut each: impl FnMut(M),
    ) -> Result<(), NetlinkError> {
        self.exchange(message, NLM_F_ACK, &mut each).map_err(|source| NetlinkError::new(step, source))
    }

    /// Changes something and waits for the kernel's word that it did.
    pub(super) fn change<M: NetlinkSerializable + NetlinkDeserializable>(
        &mut self,
        step: &'static str,
        message: M,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.exchange(message, NLM_F_ACK | flags, &mut |_| {})
            .map_err(|source| NetlinkError::new(step, source))
    }

    fn exchange<M: NetlinkSerializable + NetlinkDeserializable>(
        &mut self,
        message: M,
        flags: u16,
        each: &mut dyn FnMut(M),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        for _ in 0..REPLIES_MAX {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let reply = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
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
