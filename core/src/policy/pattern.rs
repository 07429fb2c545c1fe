//! This file answers: which permission does a rule ask for, once the message has filled its fields?

use crate::policy::permission::{MAX_SEGMENTS, is_clean, require_clean};

/// Most message fields the rule of one type reads.
pub(crate) const MAX_FIELDS: usize = 16;

/// Longest name of a field in bytes.
const MAX_FIELD_NAME: usize = 128;

/// One alternative of a rule: `listing:{listing_id}:read`, `user:{@sub}:inbox` or plainly `chat:write`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: Box<str>,
    segments: Box<[Segment]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// Stands as it is.
    Literal(Box<[u8]>),
    /// The message field at this place in the rule's list of fields.
    Field(usize),
    /// The subject of the identity.
    Subject,
}

impl Pattern {
    /// Reads a pattern; the fields it names are added to `fields`, which all alternatives of a rule share.
    pub(crate) fn parse(text: &str, fields: &mut Vec<Box<str>>) -> Result<Pattern, String> {
        let segments = text.split(':').map(|segment| Segment::parse(segment, fields)).collect::<Result<Vec<_>, _>>()?;
        if segments.len() > MAX_SEGMENTS {
            return Err("has more than 16 segments".into());
        }
        Ok(Pattern { text: text.into(), segments: segments.into() })
    }

    /// Fills the pattern. `fill` gives the value of a field; values and the subject must be clean segments.
    ///
    /// # Errors
    ///
    /// What is missing: such a pattern asks for nothing that could be held, so it grants nothing.
    pub(crate) fn filled<'f>(
        &'f self,
        subject: &'f str,
        fill: impl Fn(usize) -> Option<&'f [u8]> + Clone,
    ) -> Result<impl Iterator<Item = &'f [u8]> + Clone, Unfilled> {
        for segment in &self.segments {
            match segment {
                Segment::Literal(_) => {}
                Segment::Field(index) if fill(*index).is_some_and(is_clean) => {}
                Segment::Field(_) => return Err(Unfilled::Field),
                Segment::Subject if is_clean(subject.as_bytes()) => {}
                Segment::Subject => return Err(Unfilled::Subject),
            }
        }
        Ok(self.segments.iter().map(move |segment| match segment {
            Segment::Literal(text) => &**text,
            // Never empty: it was looked at above. An empty segment would be held by nobody.
            Segment::Field(index) => fill(*index).unwrap_or_default(),
            Segment::Subject => subject.as_bytes(),
        }))
    }
}

/// Why a pattern could not be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfilled {
    /// A message field is absent.
    Field,
    /// The subject of this identity is no clean segment, whatever the message says.
    Subject,
}

impl Segment {
    fn parse(text: &str, fields: &mut Vec<Box<str>>) -> Result<Segment, String> {
        let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            if text.contains(['{', '}']) {
                return Err(format!("`{text}`: a field must fill a whole segment"));
            }
            if text.contains('*') {
                return Err(
                    "has a wildcard; wildcards stand in what an identity holds, a rule names what is needed".into()
                );
            }
            require_clean(text).map_err(|problem| format!("has {problem}"))?;
            return Ok(Segment::Literal(text.as_bytes().into()));
        };
        if name == "@sub" {
            return Ok(Segment::Subject);
        }
        if name.starts_with('@') {
            return Err(format!("`{text}` is not known; `{{@sub}}` is the only value of the identity"));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-$".contains(&byte);
        if name.is_empty() || name.len() > MAX_FIELD_NAME || !name.bytes().all(plain) {
            return Err(format!(
                "`{text}`: a field is the name of one top-level message field, 1 to 128 of `A-Z a-z 0-9 _ - $`"
            ));
        }
        if let Some(known) = fields.iter().position(|known| **known == *name) {
            return Ok(Segment::Field(known));
        }
        if fields.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(format!("`{text}` differs from another field of the rule only in case"));
        }
        if fields.len() >= MAX_FIELDS {
            return Err("makes the rule read more than 16 fields".into());
        }
        fields.push(name.into());
        Ok(Segment::Field(fields.len().saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(Pattern, Vec<Box<str>>), String> {
        let mut fields = Vec::new();
        Pattern::parse(text, &mut fields).map(|pattern| (pattern, fields))
    }

    fn fill(text: &str, subject: &str, values: &[Option<&str>]) -> Result<String, Unfilled> {
        let (pattern, _) = parse(text).unwrap();
        let segments = pattern.filled(subject, |index| values[index].map(str::as_bytes))?;
        Ok(segments.map(|segment| std::str::from_utf8(segment).unwrap()).collect::<Vec<_>>().join(":"))
    }

    #[test]
    fn fields_and_the_subject_fill_whole_segments() {
        assert_eq!(fill("chat:write", "u", &[]), Ok("chat:write".into()));
        assert_eq!(fill("listing:{id}:read", "u", &[Some("7")]), Ok("listing:7:read".into()));
        assert_eq!(fill("user:{@sub}:{box}:{@sub}", "u@x", &[Some("in")]), Ok("user:u@x:in:u@x".into()));
        assert_eq!(fill("{a}:{b}:{a}", "u", &[Some("1"), Some("2")]), Ok("1:2:1".into()));
        assert_eq!(parse("{a}:{b}:{a}").unwrap().1, [Box::from("a"), Box::from("b")]);
    }

    #[test]
    fn what_cannot_be_filled_asks_for_nothing() {
        assert_eq!(fill("listing:{id}", "u", &[None]), Err(Unfilled::Field));
        for dirty in ["", "*", "**", "a:b", "a b", "é", "a\0", &"a".repeat(129)] {
            assert_eq!(fill("listing:{id}", "u", &[Some(dirty)]), Err(Unfilled::Field), "{dirty:?}");
            assert_eq!(fill("user:{@sub}", dirty, &[]), Err(Unfilled::Subject), "{dirty:?}");
        }
        assert_eq!(fill("listing:{id}", "a b", &[Some("7")]), Ok("listing:7".into()), "the subject is not read");
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = [
            ("listing:*:read", "has a wildcard"),
            ("**", "has a wildcard"),
            ("", "has an empty segment"),
            ("a::b", "has an empty segment"),
            ("a b", "outside"),
            ("listing-{id}", "must fill a whole segment"),
            ("{id}x", "must fill a whole segment"),
            ("{id", "must fill a whole segment"),
            ("{}", "name of one top-level"),
            ("{a.b}", "name of one top-level"),
            ("{ id }", "name of one top-level"),
            ("{{id}}", "name of one top-level"),
            ("{@iss}", "is not known"),
            ("{@Sub}", "is not known"),
            ("{id}:{ID}", "only in case"),
            ("a:{b:c}", "must fill a whole segment"),
        ];
        for (text, problem) in wrong {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
        assert!(parse(&vec!["a"; 16].join(":")).is_ok());
        assert!(parse(&vec!["a"; 17].join(":")).unwrap_err().contains("16 segments"));
        assert!(parse(&format!("{{{}}}", "a".repeat(129))).is_err());
    }

    #[test]
    fn alternatives_share_their_fields_up_to_a_bound() {
        let mut fields = Vec::new();
        for number in 0..16 {
            assert!(Pattern::parse(&format!("p:{{f{number}}}"), &mut fields).is_ok());
        }
        assert!(Pattern::parse("q:{f3}", &mut fields).is_ok(), "known already");
        assert!(Pattern::parse("q:{g}", &mut fields).unwrap_err().contains("16 fields"));
    }
}
