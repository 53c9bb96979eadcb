//! Secure sum over a ring of hosts: each learns the sum, none learns another's number.
//!
//! Each node draws a random mask, hands it to the next node and takes the one of the node before it. Its number, less
//! its own mask, plus the other one, looks random to everyone else; over the whole ring the masks cancel out. These
//! partial numbers are added up once around the ring, then the sum goes around. Arithmetic wraps at 2^64.
//!
//! The next node has the next address. The last node finds that it is last by pinging an address that nobody has, and
//! closes the ring to the first: how long that takes is how long an absent address takes to answer.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::mesh::Mesh;
use crate::process::run_command;
use crate::{build, wait};

/// Time the others get to start, and to answer.
const RING_DEADLINE: Duration = Duration::from_secs(10);

/// What one run over a mesh gave.
#[derive(Debug)]
pub struct Run {
    /// The sum as each host printed it.
    pub sums: Vec<u64>,
    /// Time from the start of the first program to the end of the last.
    pub took: Duration,
}

/// Lets each member of a mesh take part with one number.
pub fn on_mesh(mesh: &Mesh<'_>, numbers: &[u64]) -> Result<Run> {
    let mut members: Vec<_> = mesh.members.iter().collect();
    members.sort_by_key(|member| member.addr4);
    let first = members.first().context("the mesh has no member")?.addr4;
    let program = build::program("secure-sum")?;
    let start = Instant::now();
    let printed: Vec<Result<String>> = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (member, number) in members.iter().zip(numbers) {
            let mut command = Command::new(&program);
            command.args(["--address", &member.addr4.to_string(), "--first", &first.to_string()]);
            command.args(["--number", &number.to_string()]);
            let namespace = member.host.namespace();
            threads.push(scope.spawn(move || run_command(command, Some(namespace), RING_DEADLINE * 3)?.ok()));
        }
        threads.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("a starter panicked"))).collect()
    });
    let took = start.elapsed();
    let sums = printed.into_iter().map(|text| text?.trim().parse().context("read a sum"));
    Ok(Run { sums: sums.collect::<Result<_>>()?, took })
}

/// Takes part in a sum and returns it.
pub fn take_part(own: Ipv4Addr, first: Ipv4Addr, port: u16, number: u64) -> Result<u64> {
    let listener =
        TcpListener::bind((own, port)).with_context(|| format!("listen on the overlay address {own}"))?;
    let next = next_in_ring(own, first)?;
    let mut to_next = connect(SocketAddrV4::new(next, port))?;
    let (mut from_last, _) = listener.accept().context("accept the node before")?;
    from_last.set_read_timeout(Some(RING_DEADLINE)).context("bound the time to wait")?;
    from_last.set_nodelay(true).context("send at once")?;

    let mask = random()?;
    send(&mut to_next, mask)?;
    let other_mask = receive(&mut from_last)?;
    let partial = number.wrapping_sub(mask).wrapping_add(other_mask);
    if own == first {
        send(&mut to_next, partial)?;
        let sum = receive(&mut from_last)?;
        send(&mut to_next, sum)?;
        let came_around = receive(&mut from_last)?;
        if came_around != sum {
            bail!("the sum changed on its way around the ring");
        }
        return Ok(sum);
    }
    let so_far = receive(&mut from_last)?;
    send(&mut to_next, so_far.wrapping_add(partial))?;
    let sum = receive(&mut from_last)?;
    send(&mut to_next, sum)?;
    Ok(sum)
}

/// The next address if somebody has it, else the first of the ring.
fn next_in_ring(own: Ipv4Addr, first: Ipv4Addr) -> Result<Ipv4Addr> {
    let next = Ipv4Addr::from(u32::from(own).checked_add(1).context("there is no next address")?);
    let status = Command::new("ping")
        .args(["-n", "-q", "-c", "1", "-W", "10", &next.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("start ping")?;
    Ok(if status.success() { next } else { first })
}

fn connect(to: SocketAddrV4) -> Result<TcpStream> {
    let stream = wait::until_some(RING_DEADLINE, &format!("{to} accepts"), || TcpStream::connect(to).ok())?;
    stream.set_nodelay(true).context("send at once")?;
    Ok(stream)
}

fn send(to: &mut TcpStream, number: u64) -> Result<()> {
    to.write_all(&number.to_be_bytes()).context("send to the next node")
}

fn receive(from: &mut TcpStream) -> Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes).context("receive from the node before")?;
    Ok(u64::from_be_bytes(bytes))
}

fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).context("draw a mask")?;
    Ok(u64::from_ne_bytes(bytes))
}
