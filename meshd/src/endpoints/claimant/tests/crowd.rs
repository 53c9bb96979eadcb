//! Many hosts at once, one registry, and a restart of it in between.

use std::collections::BTreeSet;

use super::*;

/// Attachments that a host works on at once.
const JOBS: usize = 16;
const POOL: &str = "10.91.128.0/17";
/// Longest time until a registry that restarts has answered all that waits for it, on one thread for all hosts.
const AWAY_MAX: Duration = Duration::from_secs(600);

/// Takes addresses on ten hosts at once, and restarts the registry when half of them are taken.
async fn take_all(each: usize, allocation: fn(u8) -> Allocation) {
    let rig = Rig::new(10).await;
    let (taken, mut seen) = tokio::sync::watch::channel(0usize);
    let (mut hosts, mut jobs) = (Vec::new(), Vec::new());
    for node in 1..=10u8 {
        rig.introduced(node).await;
        let host = Arc::new(rig.host(node, []).await);
        let left = Arc::new(Mutex::new(each));
        for _ in 0..JOBS {
            let (host, left, taken) = (Arc::clone(&host), Arc::clone(&left), taken.clone());
            jobs.push(tokio::spawn(async move {
                let mut own = Vec::new();
                while take_one(&left) {
                    own.push((node, persist(&host, allocation(node)).await));
                    taken.send_modify(|taken| *taken += 1);
                }
                own
            }));
        }
        hosts.push(host);
    }
    seen.wait_for(|taken| *taken >= 5 * each).await.expect("hosts work");
    rig.close().await;
    rig.open().await;
    let mut all = Vec::new();
    for job in jobs {
        all.extend(job.await.expect("a job"));
    }
    assert_eq!(all.len(), 10 * each);
    let distinct: BTreeSet<IpAddr> = all.iter().map(|(_, addr)| *addr).collect();
    assert_eq!(distinct.len(), all.len(), "two endpoints have one address");

    for host in &hosts {
        host.is_heard(&rig).await;
    }
    // Somebody who reads the registry now sends to each address by way of the host that has it.
    let mut stranger = rig.meadow.roster(1..=10);
    let listed = rig.registry(1).await.list_all(rig.keyspace.prefix()).await.expect("listed");
    accept_values(&mut stranger, &rig.keyspace, listed.entries.iter().map(entry).collect());
    let mut wrong = BTreeMap::new();
    for (node, addr) in &all {
        let claims = stranger.claims_on(*addr, 32, wall());
        let live = claims.iter().filter(|claim| claim.state == meshd_trust::ClaimState::Live);
        let holder = live.max_by_key(|claim| claim.len).map(|claim| claim.node);
        if holder != Some(rig.meadow.node(*node)) {
            wrong.insert(*addr, (*node, claims.clone()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    // And no host is said to have what it does not have.
    for host in &hosts {
        let (roster, claims) = (host.roster.lock().expect("held"), host.claims.lock().expect("held"));
        assert_eq!(claims.strays(&roster, &host.addresses, wall()), Vec::<IpNet>::new());
    }
}

fn take_one(left: &Mutex<usize>) -> bool {
    let mut left = left.lock().expect("held");
    let has_one = *left > 0;
    *left -= usize::from(has_one);
    has_one
}

/// Takes an address as a runtime would: it asks again while the registry is away.
async fn persist(host: &Host, allocation: Allocation) -> IpAddr {
    let until = Instant::now() + AWAY_MAX;
    loop {
        match host.claimant.take(at(POOL), allocation, &[], None, None).await {
            Ok(addr) => return addr,
            Err(TakeError::NoRegistry { .. } | TakeError::Late) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("no address: {error}"),
        }
    }
}

/// How many addresses a host takes: `MESHD_CLAIMS_EACH=1000` where there is time.
fn each() -> usize {
    std::env::var("MESHD_CLAIMS_EACH").ok().and_then(|each| each.parse().ok()).unwrap_or(60)
}

#[tokio::test]
async fn ten_hosts_never_take_one_address_twice_from_blocks() {
    take_all(each(), |_| Allocation::Blocks).await;
}

#[tokio::test]
async fn ten_hosts_never_take_one_address_twice_one_after_the_other() {
    take_all(each(), |_| Allocation::Sequential).await;
}

#[tokio::test]
async fn ten_hosts_never_take_one_address_twice_when_only_some_have_blocks() {
    take_all(each(), |node| if node % 2 == 0 { Allocation::Blocks } else { Allocation::Sequential }).await;
}
