//! What stands at the key of a claim, as far as it can be told without verifying it.
//!
//! Nothing is believed here: a claim is only taken for what it says in order to leave it alone.

use meshd_trust::ENDPOINT_LIFE_S;
use meshd_wire::record::Endpoint;
use meshd_wire::{Envelope, NodeId, Timestamp};

/// Whether a node may put its own claim in the place of a value: of one of its own, of one that is over, and of what
/// is none. The end of a claim takes no other node's place: two that gave up one address would go on for ever.
pub(super) fn may_be_replaced(value: &[u8], by: &[u8], node: &NodeId, now: Timestamp) -> bool {
    let is_end = claim(by).is_some_and(|claim| claim.withdrawn);
    claim(value).is_none_or(|claim| claim.node == *node || !is_end && is_over(&claim, now))
}

/// Whether a value is a claim of a node that is over.
pub(super) fn is_leftover(value: &[u8], node: &NodeId, now: Timestamp) -> bool {
    claim(value).is_some_and(|claim| claim.node == *node && is_over(&claim, now))
}

fn claim(value: &[u8]) -> Option<Endpoint> {
    Envelope::from_bytes(value).ok()?.record().ok()
}

fn is_over(claim: &Endpoint, now: Timestamp) -> bool {
    claim.withdrawn || claim.issued_at.plus(ENDPOINT_LIFE_S) < now
}

#[cfg(test)]
mod tests {
    use meshd_wire::EndpointId;
    use meshd_wire::record::{Prefix, VERSION};

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);
    const OWN: NodeId = NodeId([1; 32]);

    fn claim_of(node: NodeId, issued_at: Timestamp, withdrawn: bool) -> Vec<u8> {
        let addresses = vec![Prefix::v4([10, 1, 0, 5].into(), 32)];
        let (endpoint, labels) = (EndpointId([1; 32]), Vec::new());
        let (name, image) = (None, None);
        let record = Endpoint {
            version: VERSION,
            node,
            endpoint,
            seq: 1,
            issued_at,
            withdrawn,
            addresses,
            labels,
            name,
            image,
        };
        Envelope::new(&record).to_bytes()
    }

    #[test]
    fn a_live_claim_of_another_node_is_left_alone() {
        let other = NodeId([2; 32]);
        let old = Timestamp(NOW.0 - ENDPOINT_LIFE_S);
        let older = Timestamp(old.0 - 1);
        let cases = [
            (claim_of(other, NOW, false), false, false),
            (claim_of(other, old, false), false, false),
            (claim_of(other, older, false), true, false),
            (claim_of(other, NOW, true), true, false),
            (claim_of(OWN, NOW, false), true, false),
            (claim_of(OWN, older, false), true, true),
            (claim_of(OWN, NOW, true), true, true),
            (b"nothing".to_vec(), true, false),
        ];
        let (own, end) = (claim_of(OWN, NOW, false), claim_of(OWN, NOW, true));
        for (at, (value, replaced, leftover)) in cases.into_iter().enumerate() {
            assert_eq!(may_be_replaced(&value, &own, &OWN, NOW), replaced, "case {at}");
            let is_others = (0..4).contains(&at);
            assert_eq!(may_be_replaced(&value, &end, &OWN, NOW), !is_others, "case {at}");
            assert_eq!(is_leftover(&value, &OWN, NOW), leftover, "case {at}");
        }
    }
}
