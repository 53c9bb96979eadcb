//! Which characters names and labels may have: one rule for who asks, who certifies and who verifies.

use crate::limits::{ENDPOINT_NAME_BYTES_MAX, NAME_BYTES_MAX};

/// Whether a text is a host name: `[a-z0-9-]{1,63}`, no hyphen at either end.
pub fn is_host_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    has_name_len(text) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether a text is the name of an endpoint: host names with dots between them.
pub fn is_endpoint_name(text: &str) -> bool {
    text.len() <= ENDPOINT_NAME_BYTES_MAX && text.split('.').all(is_host_name)
}

/// Whether a text may be the key or value of a label: `[a-z0-9.-]{1,63}`.
pub fn is_label_part(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    has_name_len(text) && text.bytes().all(inner)
}

/// Whether a text may be shown to people as a name: short, and without control characters.
pub fn is_shown_name(text: &str) -> bool {
    has_name_len(text) && !text.chars().any(char::is_control)
}

fn has_name_len(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_those_of_dns() {
        assert!(is_host_name("node-1"));
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }
    #[test]
    fn endpoints_may_have_dots_in_their_names() {
        let longest = format!("{}.{}", "p".repeat(63), "n".repeat(63));
        for good in ["web", "web.default", "a.b.c", &longest] {
            assert!(is_endpoint_name(good), "{good}");
        }
        for bad in ["", ".", "web.", ".web", "a..b", "-a.b", "Web", &format!("{longest}.x"), &"x".repeat(64)]
        {
            assert!(!is_endpoint_name(bad), "{bad}");
        }
    }
}
