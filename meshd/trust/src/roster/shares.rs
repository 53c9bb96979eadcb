//! How organisations share a table, so that none can fill it against the others.

use std::collections::BTreeMap;

use meshd_wire::OrgId;

/// Whether an organisation may have one more entry in a table of `max` entries.
///
/// Half of the table is shared out in equal parts, so whoever comes late finds room; the other half goes to
/// whoever asks first. `entries` names the organisations of the entries
/// there are, with their numbers.
pub(super) fn has_room(
    max: usize,
    members: usize,
    org: &OrgId,
    entries: impl Iterator<Item = (OrgId, usize)>,
) -> bool {
    let common = max / 2;
    let share = common.checked_div(members).unwrap_or(0);
    let mut counts: BTreeMap<OrgId, usize> = BTreeMap::new();
    for (entry, count) in entries {
        *counts.entry(entry).or_default() += count;
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
            entries.push((GREEDY, 1));
        }
        assert_eq!(entries.len(), 75);
        while has_room(100, 2, &MODEST, entries.iter().copied()) {
            entries.push((MODEST, 1));
        }
        assert_eq!(entries.len(), 100);
    }

    #[test]
    fn one_organisation_alone_has_the_whole_table() {
        assert!(has_room(100, 1, &GREEDY, std::iter::once((GREEDY, 99))));
        assert!(!has_room(100, 1, &GREEDY, std::iter::once((GREEDY, 100))));
    }
}
