//! This file answers: for how long does a source ask to be left alone (RFC 9110 section 10.2.3)?

use wsauth::time::WallTime;

/// The most that is made of it, in milliseconds.
const MAX_MS: u32 = 3_600_000;
const DAY_SECONDS: u64 = 86_400;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Parses `Retry-After`: seconds, or a date. In milliseconds, at most an hour; a date that is past is 0.
pub(super) fn parse_retry_after(value: &str, now: WallTime) -> Option<u32> {
    let value = value.trim_matches([' ', '\t']);
    let ms = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        value.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1000)
    } else {
        parse_date(value)?.saturating_mul(1000).saturating_sub(now.0)
    };
    Some(u32::try_from(ms).unwrap_or(MAX_MS).min(MAX_MS))
}

/// Parses an HTTP date in its three forms (RFC 9110 section 5.6.7); seconds since 1970.
fn parse_date(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    match words.as_slice() {
        [_, day, month, year, time, "GMT"] => parse_parts(year.parse().ok()?, month, day, time),
        [_, date, time, "GMT"] => {
            let mut parts = date.split('-');
            let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?.parse::<u64>().ok()?);
            // Two digits; what looks more than fifty years ahead is past, and either way at most an hour is made of it.
            parse_parts(if year < 70 { 2000 + year } else { 1900 + year }, month, day, time)
        }
        [_, month, day, time, year] => parse_parts(year.parse().ok()?, month, day, time),
        _ => None,
    }
}

fn parse_parts(year: u64, month: &str, day: &str, time: &str) -> Option<u64> {
    let month = u64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()?.saturating_add(1);
    let day: u64 = day.parse().ok()?;
    let mut clock = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if clock.next().is_some() || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_since_1970(year, month, day)?;
    Some(days.saturating_mul(DAY_SECONDS).saturating_add(hour * 3600 + minute * 60 + second))
}

/// Days from civil dates, with the year beginning in March so that the leap day comes last.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    // 719,468 days lie between the first of March of the year 0 and 1970.
    (year * 365 + year / 4 - year / 100 + year / 400 + of_year).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(784_111_777_000);

    #[test]
    fn seconds_and_all_three_dates_are_understood_and_capped() {
        for (text, ms) in [
            ("0", 0),
            ("120", 120_000),
            (" 7 ", 7_000),
            ("3601", 3_600_000),
            ("99999999999999999999999", 3_600_000),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:47 GMT", 10_000),
            ("Sunday, 06-Nov-94 08:50:37 GMT", 60_000),
            ("Sun Nov  6 08:49:38 1994", 1_000),
            ("Sun, 06 Nov 1993 08:49:37 GMT", 0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 3_600_000),
        ] {
            assert_eq!(parse_retry_after(text, NOW), Some(ms), "{text}");
        }
    }

    #[test]
    fn anything_else_says_nothing() {
        for text in [
            "",
            "-1",
            "+1",
            "1.5",
            "1e3",
            "soon",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37:1 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06-Nov GMT x",
            "\u{661}",
        ] {
            assert_eq!(parse_retry_after(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn leap_days_count() {
        assert_eq!(days_since_1970(1970, 1, 1), Some(0));
        assert_eq!(days_since_1970(2000, 2, 29), Some(11_016));
        assert_eq!(days_since_1970(2000, 3, 1), Some(11_017));
        assert_eq!(days_since_1970(2026, 11, 25), Some(20_782));
    }
}
