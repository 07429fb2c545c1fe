//! This file answers: how is text written so that no log, terminal or parser can be led astray?

use std::fmt::Write as _;

use crate::time::WallTime;

const CUT: &str = "...";

/// Printable ASCII stays, a backslash is doubled, every other byte becomes `\xNN`. At most `max` bytes; what
/// does not fit is cut between two of these and ends in `...`.
pub(super) fn escape(bytes: &[u8], max: usize) -> String {
    let mut text = String::new();
    // Where to cut, should the rest not fit.
    let mut cut_at = 0;
    for byte in bytes {
        if text.len() <= max.saturating_sub(CUT.len()) {
            cut_at = text.len();
        }
        let width = match byte {
            b'\\' => 2,
            0x20..=0x7e => 1,
            _ => 4,
        };
        if text.len().saturating_add(width) > max {
            text.truncate(cut_at);
            text.push_str(CUT);
            return text;
        }
        match byte {
            b'\\' => text.push_str("\\\\"),
            0x20..=0x7e => text.push(char::from(*byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text
}

/// A JSON string (RFC 8259 section 7) in printable ASCII.
pub(super) fn write_json_string(out: &mut String, text: &str) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(char),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// RFC 3339 in UTC with milliseconds. Times after the year 9999 are written as its last millisecond.
pub(super) fn write_time(out: &mut String, time: WallTime) {
    let ms = time.0.min(WallTime::MAX.0);
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, milli) = (in_day / 1_000 % 60, in_day % 1_000);
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z");
}

/// The Gregorian date of a day counted from 1970-01-01.
///
/// After Howard Hinnant's `civil_from_days`: years begin in March, so that the leap day is the last day of one.
#[allow(
    clippy::arithmetic_side_effects,
    reason = "at most 2,932,896 days, and each difference is of a part and its whole"
)]
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // Days from 0000-03-01; 146,097 are an era of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::{escape, write_json_string, write_time};
    use crate::time::WallTime;

    fn time(ms: u64) -> String {
        let mut out = String::new();
        write_time(&mut out, WallTime(ms));
        out
    }

    #[test]
    fn known_times() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_000_000_000_000, "2001-09-09T01:46:40.000Z"),
            (1_234_567_890_123, "2009-02-13T23:31:30.123Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(time(ms), expected);
        }
    }

    #[test]
    fn every_day_until_9999_follows_the_one_before() {
        let leap = |year: u32| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut month, mut day) = (1970u32, 1u32, 1u32);
        for days in 0..2_932_896u64 {
            assert_eq!(super::civil_from_days(days), (year.into(), month.into(), day.into()));
            let last = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
        assert_eq!((year, month, day), (9999, 12, 31));
    }

    #[test]
    fn escapes_are_unambiguous() {
        assert_eq!(escape(b"a\\x0a\n\x1b[31m\xff\"", 256), "a\\\\x0a\\x0a\\x1b[31m\\xff\"");
    }

    #[test]
    fn cuts_between_escapes_and_says_so() {
        assert_eq!(escape(&[b'a'; 256], 256), "a".repeat(256));
        assert_eq!(escape(&[b'a'; 257], 256), "a".repeat(253) + "...");
        assert_eq!(escape(&[0; 64], 256), "\\x00".repeat(64));
        assert_eq!(escape(&[0; 65], 256), "\\x00".repeat(63) + "...");
        let mut mixed = vec![b'a'; 250];
        mixed.extend([0, 0, 0]);
        assert_eq!(escape(&mixed, 256), "a".repeat(250) + "...");
    }

    #[test]
    fn json_strings_are_ascii() {
        let mut out = String::new();
        write_json_string(&mut out, "a\"\\/\u{0}\u{7f}\u{85}\u{2029}\u{10ffff}");
        assert_eq!(out, r#""a\"\\/\u0000\u007f\u0085\u2029\udbff\udfff""#);
    }
}
