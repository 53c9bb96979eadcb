//! Names of network interfaces as they are typed.

use std::fmt;
use std::str::FromStr;

/// Longest name the kernel takes.
const LEN_MAX: usize = 15;

/// Name of a network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceName(String);

/// Reports a text that is not a name of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to {LEN_MAX} letters, digits, dots, hyphens or underscores, but not `.` or `..`")]
pub struct ParseInterfaceError;

impl FromStr for InterfaceName {
    type Err = ParseInterfaceError;

    fn from_str(text: &str) -> Result<Self, ParseInterfaceError> {
        let letters = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        let sized = (1..=LEN_MAX).contains(&text.len());
        let is_name = letters && sized && !matches!(text, "." | "..");
        if is_name { Ok(Self(text.to_owned())) } else { Err(ParseInterfaceError) }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::InterfaceName;

    #[test]
    fn names_are_those_the_kernel_takes() {
        for right in ["mesh0", "eth0.7", "a", "br-lan_2", &"x".repeat(15)] {
            assert!(right.parse::<InterfaceName>().is_ok(), "{right}");
        }
        for wrong in ["", ".", "..", "a/b", "a b", "a:1", "é", &"x".repeat(16)] {
            assert!(wrong.parse::<InterfaceName>().is_err(), "{wrong}");
        }
    }
}
