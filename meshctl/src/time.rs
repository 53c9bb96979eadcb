//! Points in time and spans as people read them.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use meshd_wire::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A point in time as it is typed: `2026-11-21`, `2026-11-21T04:30:16Z` or seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub u64);

/// Reports a text that is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time in UTC, such as 2026-11-21, 2026-11-21T04:30:16Z or 1795235416")]
pub struct ParseMomentError;

impl FromStr for Moment {
    type Err = ParseMomentError;

    fn from_str(text: &str) -> Result<Self, ParseMomentError> {
        if let Ok(seconds) = text.parse() {
            return Ok(Self(seconds));
        }
        let text = text.strip_suffix(" UTC").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
        let (date, clock) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
        let [year, month, day] = numbers(date, '-').ok_or(ParseMomentError)?;
        let [hour, minute, second] = numbers(clock, ':').ok_or(ParseMomentError)?;
        if !(1970..=9999).contains(&year) || hour > 23 || minute > 59 || second > 59 {
            return Err(ParseMomentError);
        }
        // A date is one that the calendar gives back.
        let first = (year - 1970) * 365;
        let found = (first..first + 2_400).find(|number| civil(*number) == (year, month, day));
        let days = found.ok_or(ParseMomentError)?;
        Ok(Self(days * DAY + hour * HOUR + minute * MINUTE + second))
    }
}

/// Three numbers of digits alone.
fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let number = |part: &str| {
        let is_number = (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse().ok().filter(|_| is_number)
    };
    let all: Option<Vec<u64>> = text.split(between).map(number).collect();
    all?.try_into().ok()
}

/// This host's clock.
pub fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// A point in time as `2026-11-21 04:30:16 UTC`.
pub fn utc(at: u64) -> String {
    let (year, month, day) = civil(at / DAY);
    let (hour, minute, second) = (at % DAY / HOUR, at % HOUR / MINUTE, at % MINUTE);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// A point in time as `2026-11-21T04:30:16.123Z`.
pub fn utc_ms(at_ms: u64) -> String {
    let at = at_ms / 1000;
    let (year, month, day) = civil(at / DAY);
    let (hour, minute, second, ms) = (at % DAY / HOUR, at % HOUR / MINUTE, at % MINUTE, at_ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// A span in its two largest units.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min {} s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE),
        DAY.. => format!("{} d {} h", seconds / DAY, seconds % DAY / HOUR),
    }
}

/// Year, month and day of a day since 1970-01-01, by counting in eras of 400 years that start in March.
fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::{Moment, span, utc, utc_ms};

    #[test]
    fn what_is_printed_can_be_typed() {
        for at in [0, 951_782_399, 951_782_400, 1_795_235_416, 4_107_542_400, 253_402_300_799] {
            assert_eq!(utc(at).parse(), Ok(Moment(at)), "{at}");
            assert_eq!(at.to_string().parse(), Ok(Moment(at)));
        }
        assert_eq!("2026-11-21T04:30:16Z".parse(), Ok(Moment(1_795_235_416)));
        assert_eq!("2026-11-21".parse(), Ok(Moment(1_795_219_200)));
        let dates = ["2026-02-30", "2026-13-01", "+2026-11-21", "1969-12-31"];
        let clocks = ["2026-11-21T24:00:00Z", "2026-11-21T04:30", "2026-11-21T04:30:60"];
        for wrong in ["", "-1", "yesterday"].into_iter().chain(dates).chain(clocks) {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn points_in_time_follow_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert_eq!(utc_ms(1_795_235_416_007), "2026-11-21T04:30:16.007Z");
    }

    #[test]
    fn the_last_representable_second_has_a_text() {
        assert!(utc(u64::MAX).ends_with(" UTC"));
        assert!(utc_ms(u64::MAX).ends_with('Z'));
    }

    #[test]
    fn spans_show_two_units() {
        assert_eq!(span(59), "59 s");
        assert_eq!(span(61), "1 min 1 s");
        assert_eq!(span(3 * 3600 + 125), "3 h 2 min");
        assert_eq!(span(8 * 86_400), "8 d 0 h");
    }
}
