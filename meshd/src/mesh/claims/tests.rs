//! How long a claim is published, and what becomes of it then.

use super::*;
use crate::endpoints::Addresses;
use crate::mesh::fixture::Meadow;

const HALF_S: u64 = ENDPOINT_LIFE_S / 2;

struct Own {
    meadow: Meadow,
    roster: Roster,
    claims: OwnClaims,
}

impl Own {
    fn new() -> Self {
        let meadow = Meadow::new();
        let roster = meadow.roster([1, 2]);
        let claims = OwnClaims::new(ClaimSigner::new(&meadow.membership(1), &roster));
        Self { meadow, roster, claims }
    }

    fn now(&self) -> Timestamp {
        self.meadow.now
    }

    fn claim(&mut self, claim: &Claim, now: Timestamp) -> Result<bool, Refusal> {
        self.claims.claim(&mut self.roster, claim, now)
    }

    /// What stands in the registries: the places, and whether each says that something was given back.
    fn published(&self, now: Timestamp) -> Vec<(String, bool)> {
        let mut published = Published::new();
        self.claims.fill(&mut published, &self.roster, now);
        // Place by place it is the same.
        for slot in published.keys().chain(&self.claims.changed) {
            let word = self.claims.word_on(*slot, &self.roster, now);
            assert_eq!(word.as_ref(), published.get(slot), "{slot:?}");
        }
        let of = |value: &[u8]| -> Endpoint {
            Envelope::from_bytes(value).expect("an envelope").record().expect("a claim")
        };
        let net = |slot: &Slot| slot.claimed().expect("a claim").to_string();
        published.iter().map(|(slot, (value, _))| (net(slot), of(value).withdrawn)).collect()
    }
}

#[test]
fn claims_are_looked_at_anew_when_somebody_spoke_and_now_and_then_as_they_end_with_time() {
    let mut own = Own::new();
    let (start, now) = (Instant::now(), own.now());
    assert!(own.claims.has_news(start));
    assert!(!own.claims.has_news(start));
    assert_eq!(own.claim(&endpoint("one", &["10.91.128.5/32"]), now), Ok(true));
    assert!(own.claims.has_news(start));
    assert!(!own.claims.has_news(start + LOOK_EVERY / 2));
    assert!(own.claims.has_news(start + LOOK_EVERY));
    assert!(!own.claims.has_news(start + LOOK_EVERY + LOOK_EVERY / 2));
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn endpoint(name: &str, nets: &[&str]) -> Claim {
    Claim {
        endpoint: EndpointId::of("test", "net", name, "eth0"),
        nets: nets.iter().map(|text| net(text)).collect(),
        labels: Vec::new(),
        name: Some(name.into()),
        image: None,
    }
}

fn live(nets: &[&str]) -> Vec<(String, bool)> {
    nets.iter().map(|net| ((*net).to_owned(), false)).collect()
}

#[test]
fn an_endpoint_takes_over_the_addresses_that_were_taken_for_it() {
    let mut own = Own::new();
    let now = own.now();
    let mesh6 = meshd_trust::address::mesh_prefix6(&own.meadow.mesh).0.segments();
    let addr6 = format!("{:x}:{:x}:{:x}:1::5/128", mesh6[0], mesh6[1], mesh6[2]);
    for taken in ["10.91.128.5/32", &addr6] {
        assert_eq!(own.claim(&Claim::of_net(net(taken)), now), Ok(true));
    }
    assert_eq!(own.published(now), live(&["10.91.128.5/32", &addr6]));
    // The order of the families is the record's business.
    let web = endpoint("web", &[&addr6, "10.91.128.5/32"]);
    assert_eq!(own.claim(&web, now), Ok(true));
    assert_eq!(own.published(now), live(&["10.91.128.5/32", &addr6]));
    assert_eq!(own.roster.endpoint_named(&own.meadow.org, "web", now).map(|_| ()), Some(()));
    let addresses = Addresses::default();
    assert_eq!(own.claims.strays(&own.roster, &addresses, now), [], "they are endpoints' now");
}

#[test]
fn a_claim_is_signed_again_at_half_of_its_life_and_not_before() {
    let mut own = Own::new();
    let start = own.now();
    let web = endpoint("web", &["10.91.128.5/32"]);
    assert_eq!(own.claim(&web, start), Ok(true));
    assert_eq!(own.claim(&web, start.plus(HALF_S - 1)), Ok(false), "it is said already");
    let renamed = Claim { name: Some("www".into()), ..web.clone() };
    assert_eq!(own.claim(&renamed, start), Ok(true));
    assert!(!own.claims.renew(&mut own.roster, start.plus(HALF_S - 1)));
    assert!(own.claims.renew(&mut own.roster, start.plus(HALF_S)));
    let view = own.roster.endpoint(&own.meadow.node(1), &web.endpoint).expect("held");
    assert_eq!((view.record().issued_at, view.record().name.as_deref()), (start.plus(HALF_S), Some("www")));
    assert!(!own.claims.renew(&mut own.roster, start.plus(HALF_S)));
    // A node that was away for long claims again what nobody has taken meanwhile.
    let late = start.plus(HALF_S + ENDPOINT_LIFE_S + 1);
    assert_eq!(own.published(late), []);
    assert!(own.claims.renew(&mut own.roster, late));
    assert_eq!(own.published(late), live(&["10.91.128.5/32"]));
}

#[test]
fn what_another_node_has_by_now_is_not_renewed() {
    let mut own = Own::new();
    let late = own.now().plus(ENDPOINT_LIFE_S + 1);
    assert_eq!(own.claim(&endpoint("web", &["10.91.128.5/32"]), own.now()), Ok(true));
    let other = Endpoint { issued_at: late, ..own.meadow.claim(2, 1, &["10.91.128.5/32"]) };
    own.roster.accept(&own.meadow.signed(2, &other), late).expect("it was over");
    assert!(!own.claims.renew(&mut own.roster, late));
    assert_eq!(own.published(late), []);
}

#[test]
fn a_withdrawal_is_published_for_a_day_or_until_the_address_is_claimed_again() {
    let mut own = Own::new();
    let now = own.now();
    let web = endpoint("web", &["10.91.128.5/32"]);
    assert_eq!(own.claim(&web, now), Ok(true));
    assert!(own.claims.withdraw(&mut own.roster, &web.endpoint, now));
    assert!(!own.claims.withdraw(&mut own.roster, &web.endpoint, now), "it is withdrawn");
    assert!(!own.claims.withdraw(&mut own.roster, &claim_id(net("10.91.128.9/32")), now), "nobody has it");
    own.roster.forget_expired(now.plus(61));
    let gone = vec![("10.91.128.5/32".to_owned(), true)];
    let end = now.plus(ENDPOINT_LIFE_S);
    own.claims.renew(&mut own.roster, end);
    assert_eq!(own.published(end), gone, "also for who was away for long");

    assert_eq!(own.claim(&Claim::of_net(net("10.91.128.5/32")), end), Ok(true));
    assert_eq!(own.published(end), live(&["10.91.128.5/32"]));
    assert!(own.claims.withdraw(&mut own.roster, &claim_id(net("10.91.128.5/32")), end));
    own.claims.renew(&mut own.roster, end.plus(1));
    assert_eq!(own.published(end.plus(1)), gone, "the later one");
    own.claims.renew(&mut own.roster, end.plus(ENDPOINT_LIFE_S + 1));
    assert_eq!(own.published(end.plus(ENDPOINT_LIFE_S + 1)), []);
}

#[test]
fn what_another_node_has_by_now_is_no_more_given_back() {
    let mut own = Own::new();
    let now = own.now();
    for taken in ["10.91.128.5/32", "10.91.128.64/26"] {
        assert_eq!(own.claim(&Claim::of_net(net(taken)), now), Ok(true));
        assert!(own.claims.withdraw(&mut own.roster, &claim_id(net(taken)), now));
        let other = own.meadow.claim(2, 1, &[taken]);
        own.roster.accept(&own.meadow.signed(2, &other), now).expect("it is free");
    }
    assert_eq!(own.published(now), []);
}

#[test]
fn withdrawals_beyond_a_bound_push_out_the_oldest() {
    let mut own = Own::new();
    let now = own.now();
    let addr = |number: usize| net(&format!("10.91.{}.{}/32", 128 + number / 250, 1 + number % 250));
    for number in 0..=FAREWELLS_MAX {
        let claim = Claim::of_net(addr(number));
        assert_eq!(own.claim(&claim, now), Ok(true));
        assert!(own.claims.withdraw(&mut own.roster, &claim.endpoint, now));
    }
    let published = own.published(now);
    assert_eq!(published.len(), FAREWELLS_MAX);
    assert!(!published.contains(&(addr(0).to_string(), true)));
}

#[test]
fn a_claim_that_nobody_knows_of_is_a_stray() {
    let mut own = Own::new();
    let now = own.now();
    for claimed in ["10.91.128.5/32", "10.91.128.6/32", "10.91.128.64/26", "10.91.144.7/32"] {
        assert_eq!(own.claim(&Claim::of_net(net(claimed)), now), Ok(true));
    }
    assert_eq!(own.claim(&endpoint("web", &["10.91.128.9/32"]), now), Ok(true));
    let addresses = Addresses::default();
    addresses.pool(net("10.91.128.0/20"), meshd_core::pool::Allocation::Blocks).expect("a pool");
    addresses.hold(net("10.91.128.5/32"), now);
    let mut strays = own.claims.strays(&own.roster, &addresses, now);
    strays.sort();
    assert_eq!(strays, ["10.91.128.6/32", "10.91.128.64/26", "10.91.144.7/32"].map(net));
    // Blocks that the roster says are this node's are taken over.
    addresses.learn(&own.roster, &own.meadow.node(1), now);
    let strays = own.claims.strays(&own.roster, &addresses, now);
    assert!(!strays.contains(&net("10.91.128.64/26")), "{strays:?}");
}

#[test]
fn numbers_go_on_where_they_ended_also_when_the_clock_went_back() {
    let meadow = Meadow::new();
    let mut roster = meadow.roster([1]);
    let ahead = meadow.claim(1, u64::MAX - 10, &["10.91.128.5/32"]);
    roster.accept(&meadow.signed(1, &ahead), meadow.now).expect("a claim");
    let mut claims = OwnClaims::new(ClaimSigner::new(&meadow.membership(1), &roster));
    let web = endpoint("web", &["10.91.128.5/32"]);
    assert_eq!(claims.claim(&mut roster, &web, meadow.now), Ok(true));
    assert_eq!(roster.endpoint_seq(&meadow.node(1), &web.endpoint), Some(u64::MAX - 9));
}
