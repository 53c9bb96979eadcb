//! `meshctl network create`.

use clap::{Args, ValueEnum};
use meshd_api::{Allocation, Egress, Exit, Network, Policing, PutNetworkRequest, Reach};

use crate::command::Daemon;
use crate::failure::Failure;
use crate::name::Name;
use crate::place::RUNTIME;
use crate::subnet::Subnet;

/// Make a network: a subnet of the mesh that endpoints get their addresses from.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name on this host.
    name: Name,
    /// Where addresses come from; once for each family that endpoints shall have.
    #[arg(long = "subnet", value_name = "PREFIX", required = true, value_delimiter = ',')]
    subnets: Vec<Subnet>,
    /// Addresses outside of this part of the subnet go only to who asks for them; may be given several times.
    #[arg(long = "range", value_name = "PREFIX", value_delimiter = ',')]
    ranges: Vec<Subnet>,
    /// How addresses are chosen.
    #[arg(long = "alloc", value_enum, default_value_t = Alloc::Blocks)]
    allocation: Alloc,
    /// How endpoints reach what is not in the mesh.
    #[arg(long, value_enum, default_value_t = Way::Runtime)]
    egress: Way,
    /// Whom endpoints exchange packets with in their organisation.
    #[arg(long, value_enum, default_value_t = Circle::Mesh)]
    reach: Circle,
    /// Largest packet, if less than the mesh's.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u16>,
}

/// How addresses are chosen.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Alloc {
    /// From blocks of this host, also while the registry is away.
    Blocks,
    /// The lowest that is free on all hosts.
    Sequential,
}

/// How endpoints reach what is not in the mesh.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    /// By other interfaces that they have.
    Runtime,
    /// Through this host, under its address.
    Mesh,
    /// Not at all.
    None,
}

/// Whom endpoints exchange packets with.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Circle {
    /// Everybody.
    Mesh,
    /// Each other, on all hosts, and the nodes.
    Network,
}

impl Create {
    /// Has the network made.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let request = PutNetworkRequest {
            network: Network {
                runtime: RUNTIME.to_owned(),
                network: self.name.to_string(),
                pool4: self.pool(Subnet::is_v4)?,
                pool6: self.pool(|subnet| !subnet.is_v4())?,
                allocation: match self.allocation {
                    Alloc::Blocks => Allocation::Blocks,
                    Alloc::Sequential => Allocation::Sequential,
                },
                egress: match self.egress {
                    Way::Runtime => Egress::Runtime,
                    Way::Mesh => Egress::Mesh,
                    Way::None => Egress::None,
                },
                mtu: self.mtu,
                reach: match self.reach {
                    Circle::Mesh => Reach::Mesh,
                    Circle::Network => Reach::Network,
                },
                policy: Policing::Optional,
                ranges: self.ranges.iter().map(ToString::to_string).collect(),
            },
        };
        let answer = daemon.client.call(&request).await?;
        daemon.form.answer(&answer, |reply| {
            let Network { network, pool4, pool6, .. } = &reply.network;
            let pools: Vec<&str> = [pool4, pool6].into_iter().flatten().map(String::as_str).collect();
            format!("endpoints of {network} get addresses of {}", pools.join(" and "))
        })
    }

    /// The subnet of a family, if there is one.
    fn pool(&self, family: impl Fn(Subnet) -> bool) -> Result<Option<String>, Failure> {
        let mut subnets = self.subnets.iter().filter(|subnet| family(**subnet));
        let first = subnets.next();
        match subnets.next() {
            None => Ok(first.map(ToString::to_string)),
            Some(_) => Err(Failure::new(Exit::Usage, "a network has one subnet of each family")),
        }
    }
}
