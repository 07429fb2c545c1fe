//! This file answers: what does a JSON string of a message say, without building it?

/// A validated JSON string, without its quotes and not yet unescaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawText<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> RawText<'a> {
    /// INVARIANT: `raw` was validated by the scanner: every backslash in it begins an escape that can be read, and
    /// `escaped` says whether there is one.
    pub(crate) fn new(raw: &'a [u8], escaped: bool) -> RawText<'a> {
        RawText { raw, escaped }
    }

    /// How many bytes it takes as written, which is never less than after unescaping.
    pub(crate) fn raw_len(self) -> usize {
        self.raw.len()
    }

    /// The text itself, where nothing in it is escaped.
    pub(crate) fn plain(self) -> Option<&'a [u8]> {
        (!self.escaped).then_some(self.raw)
    }

    /// The bytes after unescaping, which are UTF-8. Allocates nothing.
    pub(crate) fn decoded(self) -> Decoded<'a> {
        Decoded { rest: self.raw, ready: [0; 4], from: 0, to: 0 }
    }

    /// Whether the unescaped text is `name`, byte for byte.
    pub(crate) fn is(self, name: &[u8]) -> bool {
        match self.plain() {
            Some(text) => text == name,
            None => self.may_have_length(name) && self.decoded().eq(name.iter().copied()),
        }
    }

    /// Whether the unescaped text is `name`, but for ASCII case.
    pub(crate) fn is_nearly(self, name: &[u8]) -> bool {
        match self.plain() {
            Some(text) => text.eq_ignore_ascii_case(name),
            None => {
                let lower = self.decoded().map(|byte| byte.to_ascii_lowercase());
                self.may_have_length(name) && lower.eq(name.iter().map(u8::to_ascii_lowercase))
            }
        }
    }

    /// An escape writes one byte with at most six: spares the walk over most long keys.
    fn may_have_length(self, name: &[u8]) -> bool {
        self.raw.len() >= name.len() && self.raw.len() <= name.len().saturating_mul(6)
    }
}

/// The bytes of a string after unescaping.
#[derive(Clone, Debug)]
pub(crate) struct Decoded<'a> {
    rest: &'a [u8],
    ready: [u8; 4],
    from: usize,
    to: usize,
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.from < self.to {
            let byte = self.ready.get(self.from).copied();
            self.from = self.from.saturating_add(1);
            return byte;
        }
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        if first != b'\\' {
            return Some(first);
        }
        // The scanner has validated every escape, so this ends nothing early.
        let (symbol, length) = parse_escape(rest)?;
        self.rest = rest.get(length..).unwrap_or_default();
        self.to = symbol.encode_utf8(&mut self.ready).len();
        self.from = 1;
        self.ready.first().copied()
    }
}

/// Reads what follows a backslash: the character and how many bytes wrote it. A lone surrogate is no character.
pub(crate) fn parse_escape(after: &[u8]) -> Option<(char, usize)> {
    let symbol = match after.first()? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = parse_hex(after.get(1..5)?)?;
            if !(0xd800..0xdc00).contains(&first) {
                // The lower half of a pair alone is refused by `from_u32`.
                return char::from_u32(first).map(|symbol| (symbol, 5));
            }
            if after.get(5..7)? != b"\\u" {
                return None;
            }
            let second = parse_hex(after.get(7..11)?)?;
            if !(0xdc00..0xe000).contains(&second) {
                return None;
            }
            let joined = ((first & 0x3ff) << 10) | (second & 0x3ff);
            return char::from_u32(joined.saturating_add(0x1_0000)).map(|symbol| (symbol, 11));
        }
        _ => return None,
    };
    Some((symbol, 1))
}

fn parse_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |all, &digit| Some((all << 4) | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_characters() {
        let decoded = |raw: &str| String::from_utf8(RawText::new(raw.as_bytes(), true).decoded().collect()).unwrap();
        assert_eq!(decoded(r#"\"\\\/\b\f\n\r\t"#), "\"\\/\u{8}\u{c}\n\r\t");
        assert_eq!(decoded(r"a\u0000\u00E9\u20acz\ud83d\ude00"), "a\0é€z😀");
        assert_eq!(decoded(r"\ud800\udc00\uDBFF\uDFFF\uffff"), "\u{10000}\u{10ffff}\u{ffff}");
    }

    #[test]
    fn what_is_no_character_is_no_escape() {
        let wrong =
            ["", "x", "u", "u123", "u12g4", "u+123", "ud800", "udfff", r"ud800\ud800", r"ud800\n", r"ud800\u", "U0041"];
        for after in wrong {
            assert_eq!(parse_escape(after.as_bytes()), None, "{after}");
        }
        assert_eq!(parse_escape(b"n..."), Some(('\n', 1)));
        assert_eq!(parse_escape(b"u0041..."), Some(('A', 5)));
        assert_eq!(parse_escape(br"ud83d\ude00..."), Some(('😀', 11)));
    }

    #[test]
    fn names_compare_after_unescaping() {
        let text = |raw: &'static [u8]| RawText { raw, escaped: raw.contains(&b'\\') };
        assert!(text(b"type").is(b"type") && text(b"t\\u0079pe").is(b"type"));
        assert!(!text(b"Type").is(b"type") && text(b"Type").is_nearly(b"type"));
        assert!(text(b"\\u0054ype").is_nearly(b"type") && !text(b"\\u0054ype").is(b"type"));
        assert!(!text(b"typ").is_nearly(b"type") && !text(b"types").is_nearly(b"type"));
        assert!(!text(b"t\\u0079p").is_nearly(b"type") && !text(b"t\\u0079pes").is(b"type"));
        assert!(text(br"\u0074\u0079\u0070\u0065").is(b"type"), "six bytes for each");
        assert!(text(br"\u0054\u0059\u0050\u0045").is_nearly(b"type"));
        assert!(text(br"\u00e9t\u00e9").is("été".as_bytes()));
        // Only ASCII folds: the Kelvin sign is not a k.
        assert!(!text(b"\\u212a").is_nearly(b"k"));
    }
}
