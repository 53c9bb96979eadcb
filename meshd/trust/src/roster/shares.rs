//! How organisations share a table, so that none can fill it against the others.

use std::collections::BTreeMap;

use meshd_wire::OrgId;

/// Whether an organisation may have one more entry in a table of `max` entries.
///
/// Half of the table is shared out in equal parts, so whoever comes late finds room; the other half goes to
/// whoever asks first. `entries` names the organisation of each entry there is.
pub(super) fn has_room(
    max: usize,
    members: usize,
    org: &OrgId,
    entries: impl Iterator<Item = OrgId>,
) -> bool {
    let common = max / 2;
    let share = common.checked_div(members).unwrap_or(0);
    let mut counts: BTreeMap<OrgId, usize> = BTreeMap::new();
    for entry in entries {
        *counts.entry(entry).or_default() += 1;
    }
    let own = counts.get(org).copied().unwrap_or(0);
    let beyond: usize = counts.values().map(|count| count.saturating_sub(share)).sum();
    own < share || beyond < common
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: OrgId = OrgId([1; 32]);
    const MODEST: OrgId = OrgId([2; 32]);

    #[test]
    fn whoever_takes_all_it_can_leaves_the_others_their_share() {
        let mut entries = Vec::new();
        while has_room(100, 2, &GREEDY, entries.iter().copied()) {
            entries.push(GREEDY);
        }
        assert_eq!(entries.len(), 75);
        while has_room(100, 2, &MODEST, entries.iter().copied()) {
            entries.push(MODEST);
        }
        assert_eq!(entries.len(), 100);
    }

    #[test]
    fn one_organisation_alone_has_the_whole_table() {
        let full = std::iter::repeat_n(GREEDY, 100);
        assert!(has_room(100, 1, &GREEDY, full.clone().take(99)));
        assert!(!has_room(100, 1, &GREEDY, full));
    }
}
