//! The domain under which the names of a mesh stand.

use std::str::FromStr;

use hickory_proto::rr::Name;
use meshd_wire::limits::{ENDPOINT_NAME_BYTES_MAX, NAME_BYTES_MAX};
use meshd_wire::name::is_host_name;

/// Longest name of DNS as text, without the final dot and one byte below its limit (RFC 1035, section 2.3.4).
const DNS_NAME_BYTES_MAX: usize = 252;
/// Longest suffix: the longest endpoint of the longest organisation still has a name.
const SUFFIX_BYTES_MAX: usize = DNS_NAME_BYTES_MAX - ENDPOINT_NAME_BYTES_MAX - NAME_BYTES_MAX - 2;

/// The domain under which the names of a mesh stand, such as `mesh.internal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suffix(String);

/// Reports a text that is no such domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use names of a-z, 0-9 and `-` with dots between them, {SUFFIX_BYTES_MAX} characters at most")]
pub struct ParseSuffixError;

impl FromStr for Suffix {
    type Err = ParseSuffixError;

    fn from_str(text: &str) -> Result<Self, ParseSuffixError> {
        let is_domain = text.len() <= SUFFIX_BYTES_MAX && text.split('.').all(is_host_name);
        // Addresses are asked for below `arpa`.
        let is_reverse = text.rsplit('.').next() == Some("arpa");
        if is_domain && !is_reverse { Ok(Self(text.to_owned())) } else { Err(ParseSuffixError) }
    }
}

impl Suffix {
    /// The name of DNS below it that some labels make; none if that would be too long.
    pub(super) fn below(&self, labels: &str) -> Option<Name> {
        let labels = labels.split('.').filter(|label| !label.is_empty()).chain(self.0.split('.'));
        Name::from_labels(labels.map(str::as_bytes)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_domains_that_leave_room_for_names() {
        for right in ["mesh.internal", "m", &"x".repeat(SUFFIX_BYTES_MAX)] {
            let suffix: Suffix = right.parse().unwrap_or_else(|error| panic!("{right}: {error}"));
            let longest = format!("{0}.{0}.{0}", "n".repeat(NAME_BYTES_MAX));
            assert!(suffix.below(&longest).is_some(), "{right}");
        }
        let long = "x.".repeat(SUFFIX_BYTES_MAX / 2) + "xx";
        for wrong in ["", ".", "mesh.internal.", "Mesh", "a b", "10.in-addr.arpa", "arpa", &long] {
            assert!(wrong.parse::<Suffix>().is_err(), "{wrong}");
        }
    }
}
