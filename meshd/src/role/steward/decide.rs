//! Every decision of a steward that needs no storage.

use std::net::Ipv4Addr;

use meshd_wire::enrol::Refused;
use meshd_wire::name::is_label_part;
use meshd_wire::record::{Label, NodeCert};
use meshd_wire::{NodeId, PublicKey, Timestamp};

use super::entry::{Hold, Station, Token};

/// Life of a node certificate.
const CERT_LIFE_S: u64 = 7 * DAY_S;
/// How far a certificate is dated back: the clock of a newcomer may be that much behind.
const BACKDATE_S: u64 = 5 * 60;
/// How long an address rests after its node has left, or its last certificate has expired.
pub(super) const ADDRESS_REST_S: u64 = 7 * DAY_S;
/// Remaining life at which a certificate is handed out again instead of a new one.
const REISSUE_BELOW_S: u64 = 6 * DAY_S;
/// Labels of one token.
const LABELS_MAX: usize = 64;
/// Seconds of a day.
pub(super) const DAY_S: u64 = 24 * 60 * 60;

/// What a valid proof of a token entitles to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entitled {
    /// To a new certificate.
    Admission,
    /// To the reply that was given before.
    Repetition(NodeId),
}

/// Judges the use of a token whose proof fits.
pub(super) fn judge_token(
    token: &Token,
    identity: &PublicKey,
    transport: &PublicKey,
    now: Timestamp,
) -> Result<Entitled, Refused> {
    match &token.used_by {
        Some(user) if user.identity == *identity && user.transport == *transport => {
            Ok(Entitled::Repetition(user.node))
        }
        Some(_) => Err(Refused::TokenUsed),
        None if token.not_after < now => Err(Refused::TokenExpired),
        None => Ok(Entitled::Admission),
    }
}

/// Finds the lowest address of a prefix that nobody else holds; `holds` is sorted by address.
///
/// The first and the last address of a prefix are never given to a node.
pub(super) fn lowest_free_address(
    prefix: (Ipv4Addr, u8),
    holds: impl Iterator<Item = (u32, Hold)>,
    node: &NodeId,
    now: Timestamp,
) -> Option<Ipv4Addr> {
    let (first, len) = (u32::from(prefix.0), u32::from(prefix.1));
    let host_bits = 32u32.checked_sub(len)?;
    let size = 1u64.checked_shl(host_bits)?;
    let last = u64::from(first).checked_add(size)?.checked_sub(2)?;
    let mut free = u64::from(first) + 1;
    for (address, hold) in holds {
        if hold.excludes(node, now) && u64::from(address) == free {
            free += 1;
        }
    }
    (free <= last).then(|| u32::try_from(free).ok().map(Ipv4Addr::from)).flatten()
}

/// Next number of a count.
///
/// Time keeps it ahead of everything issued before, even if the book was restored from a backup.
pub(super) fn next_count(stored: u64, now: Timestamp) -> u64 {
    stored.saturating_add(1).max(now.0.saturating_mul(1000))
}

/// First and last moment of a new certificate; none while the delegation is not in force.
pub(super) fn cert_times(station: &Station, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    if now < station.not_before || now > station.not_after {
        return None;
    }
    let not_before = Timestamp(now.0.saturating_sub(BACKDATE_S)).max(station.not_before);
    Some((not_before, now.plus(CERT_LIFE_S).min(station.not_after)))
}

/// Whether a certificate still says what a new one would, and for long enough.
pub(super) fn still_good(
    cert: &NodeCert,
    name: &str,
    labels: &[Label],
    transport: &PublicKey,
    root_version: u32,
    now: Timestamp,
) -> bool {
    cert.name == name
        && cert.labels == labels
        && cert.transport == *transport
        && cert.root_version == root_version
        && cert.not_after.since(now) > REISSUE_BELOW_S
}

/// Sorts labels, if all may stand in a certificate of this station.
pub(super) fn scope_labels(station: &Station, labels: &[Label]) -> Option<Vec<Label>> {
    let mut sorted = labels.to_vec();
    sorted.sort();
    let fit = sorted.len() <= LABELS_MAX
        && sorted.iter().all(|label| is_label_part(&label.key) && is_label_part(&label.value))
        && sorted.iter().all(|label| label.key.starts_with(&station.label_namespace))
        && sorted.windows(2).all(|pair| matches!(pair, [one, two] if one.key != two.key));
    fit.then_some(sorted)
}

#[cfg(test)]
mod tests {
    use meshd_wire::record::Prefix;
    use meshd_wire::{MeshId, OrgId};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);
    const NODE: NodeId = NodeId([1; 32]);

    #[test]
    fn a_token_is_good_once_and_until_its_time() {
        let (host, other) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let mut token = token(None);
        assert_eq!(judge_token(&token, &host, &host, NOW), Ok(Entitled::Admission));
        assert_eq!(judge_token(&token, &host, &host, NOW.plus(61)), Err(Refused::TokenExpired));
        token.used_by = Some(super::super::entry::TokenUse { identity: host, transport: host, node: NODE });
        assert_eq!(judge_token(&token, &host, &host, NOW), Ok(Entitled::Repetition(NODE)));
        assert_eq!(judge_token(&token, &host, &other, NOW), Err(Refused::TokenUsed));
        assert_eq!(judge_token(&token, &other, &host, NOW), Err(Refused::TokenUsed));
    }

    #[test]
    fn addresses_are_given_out_in_order_and_rest() {
        let prefix = (Ipv4Addr::new(10, 91, 0, 0), 29);
        let base = u32::from(prefix.0);
        let hold = |node: u8, until| Hold { node: NodeId([node; 32]), until };
        let free = |holds: &[(u32, Hold)]| lowest_free_address(prefix, holds.iter().copied(), &NODE, NOW);
        assert_eq!(free(&[]), Some(Ipv4Addr::new(10, 91, 0, 1)));
        let two = [(base + 1, hold(2, NOW)), (base + 2, hold(3, NOW))];
        assert_eq!(free(&two), Some(Ipv4Addr::new(10, 91, 0, 3)));
        let rested = [(base + 1, hold(2, Timestamp(NOW.0 - 1))), (base + 2, hold(3, NOW))];
        assert_eq!(free(&rested), Some(Ipv4Addr::new(10, 91, 0, 1)));
        let full: Vec<_> = (1..7).map(|at| (base + at, hold(2, NOW))).collect();
        assert_eq!(free(&full), None);
        assert_eq!(free(&full[..5]), Some(Ipv4Addr::new(10, 91, 0, 6)));
    }

    #[test]
    fn a_prefix_without_room_for_hosts_gives_nothing_out() {
        for len in [31, 32, 33, 255] {
            let prefix = (Ipv4Addr::new(255, 255, 255, 254), len);
            assert_eq!(lowest_free_address(prefix, std::iter::empty(), &NODE, NOW), None, "/{len}");
        }
    }

    #[test]
    fn counts_grow_even_when_clock_or_book_go_back() {
        let first = next_count(0, NOW);
        assert_eq!(next_count(first, NOW), first + 1);
        assert_eq!(next_count(first, Timestamp(5)), first + 1);
        assert!(next_count(0, NOW.plus(1)) > first);
    }

    #[test]
    fn certificates_stay_inside_the_delegation() {
        let station = station();
        assert_eq!(cert_times(&station, Timestamp(NOW.0 - 1)), None);
        assert_eq!(cert_times(&station, NOW), Some((NOW, NOW.plus(CERT_LIFE_S))));
        let late = Timestamp(station.not_after.0 - 10);
        assert_eq!(cert_times(&station, late), Some((Timestamp(late.0 - BACKDATE_S), station.not_after)));
        assert_eq!(cert_times(&station, station.not_after.plus(1)), None);
    }

    #[test]
    fn labels_keep_to_their_namespace_and_alphabet() {
        let label = |key: &str, value: &str| Label { key: key.into(), value: value.into() };
        let station = Station { label_namespace: "org.".into(), ..station() };
        let sorted = scope_labels(&station, &[label("org.zone", "b"), label("org.role", "db")]);
        assert_eq!(sorted, Some(vec![label("org.role", "db"), label("org.zone", "b")]));
        for bad in [label("zone", "b"), label("org.zone", "B"), label("org.", "")] {
            assert_eq!(scope_labels(&station, std::slice::from_ref(&bad)), None, "{bad:?}");
        }
        assert_eq!(scope_labels(&station, &[label("org.a", "1"), label("org.a", "2")]), None);
    }

    fn token(used_by: Option<super::super::entry::TokenUse>) -> Token {
        Token { key: [0; 32], not_after: NOW.plus(60), name: None, labels: Vec::new(), used_by }
    }

    fn station() -> Station {
        Station {
            mesh: MeshId([0; 32]),
            org: OrgId([0; 32]),
            root_version: 1,
            agreement_version: 1,
            prefix4: Prefix::v4(Ipv4Addr::new(10, 91, 0, 0), 16),
            subnet6: 1,
            label_namespace: String::new(),
            not_before: NOW,
            not_after: NOW.plus(90 * DAY_S),
        }
    }
}
