//! Which socket of a group a datagram goes to: transport data to the shard that its receiver index names,
//! everything else to the first socket, so that data cannot starve handshakes nor the reverse.
//!
//! The kernel asks the program about the first datagram of a train only, and hashes until the program is in
//! place: every socket must bear any kind of datagram.

use std::io;
use std::os::fd::AsFd;

use libc::sock_filter;
use nix::sys::socket::{setsockopt, sockopt};

/// The first word of transport data, as the program loads it: type 4 and three zeros.
const DATA: u32 = 0x0400_0000;
/// Where the lowest byte of the receiver index lies; it names the shard.
const SHARD_AT: u32 = 4;

/// Steers the group that `socket` is in. `shards` is a power of two.
pub(super) fn attach(socket: &impl AsFd, shards: usize) -> io::Result<()> {
    let mut program = program(shards as u32 - 1);
    let program = libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
    // The kernel copies the program before the call returns.
    setsockopt(socket, sockopt::AttachReusePortCbpf, &program).map_err(io::Error::from)
}

/// Returns the position of the socket; a datagram that is too short to say ends the program with zero.
fn program(mask: u32) -> [sock_filter; 7] {
    let step = |code: u32, value: u32| sock_filter { code: code as u16, jt: 0, jf: 0, k: value };
    let else_skip = |code: u32, value: u32, jf: u8| sock_filter { jf, ..step(code, value) };
    [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        else_skip(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, DATA, 4),
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, SHARD_AT),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask),
        step(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 1),
        step(libc::BPF_RET | libc::BPF_A, 0),
        step(libc::BPF_RET | libc::BPF_K, 0),
    ]
}
