//! Spans as people type them: `500ms`, `30s`, `15m`, `2h`.

use std::str::FromStr;
use std::time::Duration;

/// A span typed on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typed(pub Duration);

/// Reports a text that is not a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a number and a unit: 500ms, 30s, 15m, 2h or 1d")]
pub struct ParseDurationError;

/// Longest span taken: a year, so that arithmetic with clocks can't overflow.
const SECONDS_MAX: u64 = 366 * 24 * 3600;

impl FromStr for Typed {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or(ParseDurationError)?;
        let (number, unit) = text.split_at_checked(split).ok_or(ParseDurationError)?;
        let number: u64 = number.parse().map_err(|_| ParseDurationError)?;
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(ParseDurationError),
        };
        let ms =
            number.checked_mul(unit_ms).filter(|ms| *ms <= SECONDS_MAX * 1_000).ok_or(ParseDurationError)?;
        Ok(Self(Duration::from_millis(ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Typed};

    #[test]
    fn numbers_with_units_are_spans() {
        let parse = |text: &str| text.parse::<Typed>().map(|typed| typed.0).ok();
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("15m"), Some(Duration::from_secs(900)));
        assert_eq!(parse("2h"), Some(Duration::from_secs(7200)));
        for wrong in ["", "15", "m", "-1s", "1.5s", "1 s", "99999999999999999999s", "9999999999d", "1µs"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
