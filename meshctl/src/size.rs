//! Numbers of bytes for people.

/// A number of bytes in the unit that leaves up to four digits.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10;
    let mut text = String::new();
    for unit in UNITS {
        tenths /= 1024;
        text = format!("{}.{} {unit}", tenths / 10, tenths % 10);
        if tenths < 10_240 {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn byte_counts_keep_a_readable_number_of_digits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 * 1024 * 1024 * 1024), "5.0 GiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }
}
