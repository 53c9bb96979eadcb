//! Names and labels as they are typed.

use std::fmt;
use std::str::FromStr;

use meshd_wire::limits::NAME_BYTES_MAX;

/// Name of a mesh, organisation or host: `[a-z0-9-]`, so that it is also safe as part of a file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// Reports a text that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to 63 lowercase letters, digits or hyphens, no hyphen first or last")]
pub struct ParseNameError;

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, ParseNameError> {
        let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let framed = !text.starts_with('-') && !text.ends_with('-');
        let sized = (1..=NAME_BYTES_MAX).contains(&text.len());
        if letters && framed && sized { Ok(Self(text.to_owned())) } else { Err(ParseNameError) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// A label, `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}

/// Reports a text that is not a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected KEY=VALUE, each 1 to 63 lowercase letters, digits, dots or hyphens")]
pub struct ParseLabelError;

impl FromStr for Label {
    type Err = ParseLabelError;

    fn from_str(text: &str) -> Result<Self, ParseLabelError> {
        let fits = |part: &str| {
            (1..=NAME_BYTES_MAX).contains(&part.len())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        };
        match text.split_once('=') {
            Some((key, value)) if fits(key) && fits(value) => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            Some(_) | None => Err(ParseLabelError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Label, Name};

    #[test]
    fn names_stay_within_their_letters() {
        for right in ["a", "uva-1", "0", &"x".repeat(63)] {
            assert!(right.parse::<Name>().is_ok(), "{right}");
        }
        for wrong in ["", "-a", "a-", "A", "a/b", "..", "a b", "é", &"x".repeat(64)] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn labels_are_a_key_and_a_value() {
        let label: Label = "role=data.steward".parse().expect("a label");
        assert_eq!((label.key.as_str(), label.value.as_str()), ("role", "data.steward"));
        for wrong in ["", "role", "=x", "x=", "a=b=c", "A=b"] {
            assert!(wrong.parse::<Label>().is_err(), "{wrong}");
        }
    }
}
