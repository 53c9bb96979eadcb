//! One node of a secure sum; prints the sum.

use std::net::Ipv4Addr;

use anyhow::Result;
use clap::Parser;

/// Add up numbers of several hosts without showing them to each other.
#[derive(Debug, Parser)]
struct Arguments {
    /// Own overlay address.
    #[arg(long)]
    address: Ipv4Addr,
    /// Address at which the ring begins.
    #[arg(long)]
    first: Ipv4Addr,
    /// TCP port that all of them use.
    #[arg(long, default_value_t = 8888)]
    port: u16,
    /// Own number.
    #[arg(long)]
    number: u64,
}

fn main() -> Result<()> {
    let Arguments { address, first, port, number } = Arguments::parse();
    println!("{}", mesh_lab::secure_sum::take_part(address, first, port, number)?);
    Ok(())
}
