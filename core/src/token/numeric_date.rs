//! This file answers: which instant does a NumericDate name?

use serde_json::Value;

use crate::decision::Reason;
use crate::time::WallTime;

/// Milliseconds since 1970, perhaps negative; within the years 0 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NumericDate(i64);

/// The first instant of the year 0.
const FIRST: i64 = -62_167_219_200_000;
/// The last instant of the year 9999.
const LAST: i64 = 253_402_300_799_999;

impl NumericDate {
    /// Reads a JSON number of seconds (RFC 7519 section 2). A fraction is kept to the millisecond, rounded down;
    /// anything but a number in range is [`Reason::ClaimInvalid`], never "absent".
    pub(crate) fn parse(value: &Value) -> Result<NumericDate, Reason> {
        let Value::Number(number) = value else { return Err(Reason::ClaimInvalid) };
        let ms = match (number.as_i64(), number.as_f64()) {
            (Some(seconds), _) => seconds.checked_mul(1000),
            (None, Some(seconds)) => whole_ms(seconds),
            (None, None) => None,
        };
        let ms = ms.filter(|ms| (FIRST..=LAST).contains(ms));
        ms.map(NumericDate).ok_or(Reason::ClaimInvalid)
    }

    /// As wall time; instants before 1970 become its beginning.
    pub(crate) fn wall(self) -> WallTime {
        WallTime(u64::try_from(self.0).unwrap_or(0))
    }

    /// Milliseconds from `earlier` to this instant; zero when `earlier` is later.
    pub(crate) fn since(self, earlier: NumericDate) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the range was compared just before")]
fn whole_ms(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1000.0).floor();
    (ms >= FIRST as f64 && ms <= LAST as f64).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::NumericDate;
    use crate::decision::Reason;

    fn read(text: &str) -> Result<u64, Reason> {
        NumericDate::parse(&serde_json::from_str(text).unwrap()).map(|date| date.wall().0)
    }

    #[test]
    fn numbers_are_instants() {
        for (text, ms) in [
            ("0", 0),
            ("-0", 0),
            ("-1", 0),
            ("1800003600", 1_800_003_600_000),
            ("1.8000036e9", 1_800_003_600_000),
            ("1800003600.5", 1_800_003_600_500),
            ("1800003600.9999", 1_800_003_600_999),
            ("253402300799", 253_402_300_799_000),
            ("-62167219200", 0),
        ] {
            assert_eq!(read(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn everything_else_is_invalid() {
        for text in [
            "null",
            "true",
            "\"1800003600\"",
            "[1800003600]",
            "{}",
            "253402300800",
            "-62167219201",
            "1e300",
            "-1e300",
            "9223372036854775807",
            "18446744073709551615",
            "18446744073709551616",
        ] {
            assert_eq!(read(text), Err(Reason::ClaimInvalid), "{text}");
        }
    }

    #[test]
    fn distance_is_never_negative() {
        let date = |seconds: i64| NumericDate::parse(&seconds.into()).unwrap();
        assert_eq!(date(7).since(date(-3)), 10_000);
        assert_eq!(date(-3).since(date(7)), 0);
    }
}
