//! Which prefixes lead an endpoint into the mesh.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Most prefixes of one family: what is left out between the pools of many networks is small.
const PREFIXES_MAX: usize = 64;

/// What an endpoint's routes depend on.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Prefixes of the mesh.
    pub mesh: &'a [IpNet],
    /// Pools of its own network.
    pub own_pools: &'a [IpNet],
    /// Pools that another interface of the same container may come to have an address of. A runtime that sets routes
    /// itself refuses an address which lies inside a route that is there.
    pub foreign_pools: &'a [IpNet],
    /// Whether another interface of the same container leads into the mesh already.
    pub is_second: bool,
    /// Whether everything shall go through the mesh.
    pub is_default: bool,
}

impl Surroundings<'_> {
    /// The prefixes, sorted; only of families in which the endpoint has an address.
    pub fn routes(&self, addresses: &[IpAddr]) -> Vec<IpNet> {
        let mut routes: Vec<IpNet> = if self.is_second {
            self.own_pools.to_vec()
        } else if self.is_default {
            vec![Ipv4Net::default().into(), Ipv6Net::default().into()]
        } else {
            self.mesh_but_foreign_pools()
        };
        routes.retain(|route| addresses.iter().any(|one| one.is_ipv4() == route.addr().is_ipv4()));
        routes.sort();
        routes
    }

    fn mesh_but_foreign_pools(&self) -> Vec<IpNet> {
        let mut pieces: Vec<IpNet> =
            self.mesh.iter().flat_map(|prefix| without(*prefix, self.foreign_pools)).collect();
        pieces.sort_by_key(IpNet::prefix_len);
        let (mut v4, v6): (Vec<IpNet>, Vec<IpNet>) =
            pieces.into_iter().partition(|piece| piece.addr().is_ipv4());
        v4.truncate(PREFIXES_MAX);
        v4.extend(v6.into_iter().take(PREFIXES_MAX));
        v4.extend(self.own_pools);
        IpNet::aggregate(&v4)
    }
}

/// What of a prefix lies in none of some others.
fn without(prefix: IpNet, others: &[IpNet]) -> Vec<IpNet> {
    if others.iter().any(|other| other.contains(&prefix)) {
        return Vec::new();
    }
    if !others.iter().any(|other| prefix.contains(other)) {
        return vec![prefix];
    }
    let halves = prefix.subnets(prefix.prefix_len() + 1).into_iter().flatten();
    halves.flat_map(|half| without(half, others)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().expect("a prefix")).collect()
    }

    fn routes(mesh: &str, own: &str, foreign: &str, change: impl Fn(&mut Surroundings<'_>)) -> Vec<IpNet> {
        let (mesh, own, foreign) = (nets(mesh), nets(own), nets(foreign));
        let mut around = Surroundings {
            mesh: &mesh,
            own_pools: &own,
            foreign_pools: &foreign,
            is_second: false,
            is_default: false,
        };
        change(&mut around);
        let addresses = own.iter().map(IpNet::addr).collect::<Vec<_>>();
        around.routes(&addresses)
    }

    const MESH: &str = "10.91.0.0/16 fd00:1:2::/48";

    #[test]
    fn the_whole_mesh_is_reached_in_the_families_of_the_addresses() {
        assert_eq!(routes(MESH, "10.91.128.0/20", "", |_| {}), nets("10.91.0.0/16"));
        assert_eq!(routes(MESH, "10.91.128.0/20 fd00:1:2:3::/64", "", |_| {}), nets(MESH));
    }

    #[test]
    fn a_default_route_takes_the_place_of_all_others() {
        assert_eq!(routes(MESH, "10.91.128.0/20", "", |around| around.is_default = true), nets("0.0.0.0/0"));
    }

    #[test]
    fn pools_of_other_networks_are_cut_out() {
        let cut = routes("10.91.0.0/16", "10.91.128.0/18", "10.91.192.0/18 10.91.0.0/18", |_| {});
        assert_eq!(cut, nets("10.91.64.0/18 10.91.128.0/18"));
        let all = routes("10.91.0.0/16", "10.91.128.0/18", "10.92.0.0/16", |_| {});
        assert_eq!(all, nets("10.91.0.0/16"));
    }

    #[test]
    fn a_second_interface_reaches_its_own_pool_alone() {
        let own = "10.91.128.0/20 fd00:1:2:3::/64";
        let second = |around: &mut Surroundings<'_>| {
            around.is_second = true;
            around.is_default = true;
        };
        assert_eq!(routes(MESH, own, "", second), nets(own));
    }

    #[test]
    fn many_pools_leave_the_largest_pieces_and_the_own_pool() {
        let pools: Vec<String> = (0..200u32).map(|n| format!("10.91.{n}.16/28")).collect();
        let found = routes("10.91.0.0/16", "10.91.250.0/28", &pools.join(" "), |_| {});
        assert!(found.len() <= PREFIXES_MAX + 1, "{}", found.len());
        assert!(found.iter().any(|net| net.contains(&"10.91.250.1".parse::<IpAddr>().expect("address"))));
        for pool in nets(&pools.join(" ")) {
            assert!(!found.iter().any(|net| net.contains(&pool)), "{pool}");
        }
    }
}
