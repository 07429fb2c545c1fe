//! This file answers: what is a permission, and does holding these cover the one that is needed?

use std::cmp::Ordering;
use std::sync::Arc;

/// Longest segment of a permission in bytes.
pub(crate) const MAX_SEGMENT: usize = 128;

/// Most segments of one permission.
pub(crate) const MAX_SEGMENTS: usize = 16;

/// Most permissions of one identity.
pub(crate) const MAX_PERMISSIONS: usize = 256;

/// One permission as an identity holds it: segments split at `:`, such as `chat:write` or `listing:*:read`.
///
/// A segment is 1 to 128 bytes of `[A-Za-z0-9._~@/+-]`, or exactly `*`, which stands for any one segment. The last
/// may be `**`, which stands for one segment or more. At most 16 segments. Everything is compared byte for byte.
///
/// What it covers:
///
/// ```
/// use wsauth::policy::Permission;
///
/// let covers = |held: &str, needed: &str| Permission::parse(held).is_ok_and(|held| held.covers(needed));
///
/// // Without a wildcard: itself, and nothing that begins with it or that it begins with.
/// assert!(covers("chat:write", "chat:write"));
/// assert!(!covers("chat:write", "chat:write:all") && !covers("chat:write", "chat") && !covers("chat", "chat:write"));
/// assert!(!covers("chat:write", "Chat:write"));
///
/// // `*` is one segment, so the counts must be equal: never none, never two.
/// assert!(covers("listing:*:read", "listing:7:read"));
/// assert!(!covers("listing:*:read", "listing:read") && !covers("listing:*:read", "listing:7:8:read"));
/// assert!(covers("listing:*", "listing:7"));
/// assert!(!covers("listing:*", "listing") && !covers("listing:*", "listing:7:read"));
///
/// // `**` is one segment or more, at the end.
/// assert!(covers("listing:**", "listing:7") && covers("listing:**", "listing:7:read"));
/// assert!(!covers("listing:**", "listing") && !covers("listing:**", "listings:7"));
///
/// // What is needed is always one plain permission; a wildcard there is covered by nothing.
/// assert!(!covers("listing:*", "listing:*") && !covers("**", "*") && !covers("**", "") && !covers("**", "a::b"));
///
/// // Anything else is no permission.
/// for wrong in ["", "a:", ":a", "a::b", "a b", "a*", "**:a", "a:**:b", "***", "é", "a:{b}"] {
///     assert!(Permission::parse(wrong).is_err(), "{wrong}");
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permission(Arc<str>);

impl Permission {
    /// Reads a permission as an identity may hold it.
    ///
    /// # Errors
    ///
    /// What is wrong with the text, in words that do not repeat it.
    pub fn parse(text: impl Into<Arc<str>>) -> Result<Permission, &'static str> {
        let text = text.into();
        let mut segments = text.split(':').peekable();
        let mut count = 0usize;
        while let Some(segment) = segments.next() {
            count = count.saturating_add(1);
            if count > MAX_SEGMENTS {
                return Err("more than 16 segments");
            }
            match segment {
                "*" => {}
                "**" if segments.peek().is_none() => {}
                "**" => return Err("`**` before the last segment"),
                _ => require_clean(segment)?,
            }
        }
        Ok(Permission(text))
    }

    /// The permission as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for more than itself.
    pub fn is_wildcard(&self) -> bool {
        self.0.contains('*')
    }

    /// Whether holding this is enough where `needed` is needed. False when `needed` is not one plain permission.
    pub fn covers(&self, needed: &str) -> bool {
        is_plain(needed) && self.covers_segments(needed.split(':').map(str::as_bytes))
    }

    /// INVARIANT: `needed` yields clean segments only, so that no wildcard can be needed.
    fn covers_segments<'n>(&self, mut needed: impl Iterator<Item = &'n [u8]>) -> bool {
        for held in self.0.split(':') {
            let Some(segment) = needed.next() else { return false };
            match held {
                "**" => return true,
                "*" => {}
                _ if held.as_bytes() == segment => {}
                _ => return false,
            }
        }
        needed.next().is_none()
    }

    /// Orders by segments, the shorter first: as bytes, `-` and `.` would sort before the `:` between them.
    fn order_segments<'n>(&self, mut needed: impl Iterator<Item = &'n [u8]>) -> Ordering {
        let mut held = self.0.split(':').map(str::as_bytes);
        loop {
            let (segment, wanted) = (held.next(), needed.next());
            match segment.cmp(&wanted) {
                Ordering::Equal if segment.is_some() => {}
                order => return order,
            }
        }
    }
}

/// The permissions of one identity, compiled once: plain ones sorted, wildcards apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionSet {
    plain: Vec<Permission>,
    wildcards: Vec<Permission>,
}

impl PermissionSet {
    /// Compiles the permissions of an identity.
    ///
    /// What is no permission is dropped, and so is what comes after the first 256: dropping only ever grants less.
    /// Whether wildcards count at all is decided before, where the issuer is known.
    pub fn from_texts(texts: impl IntoIterator<Item = impl Into<Arc<str>>>) -> PermissionSet {
        let parsed = texts.into_iter().filter_map(|text| Permission::parse(text).ok()).take(MAX_PERMISSIONS);
        let (mut wildcards, mut plain): (Vec<_>, Vec<_>) = parsed.partition(Permission::is_wildcard);
        for list in [&mut wildcards, &mut plain] {
            list.sort_unstable_by(|left, right| left.order_segments(right.0.split(':').map(str::as_bytes)));
            list.dedup();
            list.shrink_to_fit();
        }
        PermissionSet { plain, wildcards }
    }

    /// Whether these permissions cover `needed`. False when `needed` is not one plain permission.
    ///
    /// # Cost
    ///
    /// A binary search among the plain ones, then one comparison for each wildcard. No allocation.
    ///
    /// # Examples
    ///
    /// ```
    /// use wsauth::policy::PermissionSet;
    ///
    /// let held = PermissionSet::from_texts(["chat:write", "listing:*:read", "not a permission"]);
    /// assert!(held.allows("chat:write") && held.allows("listing:7:read"));
    /// assert!(!held.allows("chat:read") && !held.allows("listing:7:write") && !held.allows("not a permission"));
    /// ```
    pub fn allows(&self, needed: &str) -> bool {
        is_plain(needed) && self.allows_segments(needed.split(':').map(str::as_bytes))
    }

    /// As [`PermissionSet::allows`], for segments that are known to be clean.
    ///
    /// INVARIANT: `needed` yields clean segments only.
    pub(crate) fn allows_segments<'n>(&self, needed: impl Iterator<Item = &'n [u8]> + Clone) -> bool {
        self.plain.binary_search_by(|held| held.order_segments(needed.clone())).is_ok()
            || self.wildcards.iter().any(|held| held.covers_segments(needed.clone()))
    }

    /// How many permissions are held.
    pub fn len(&self) -> usize {
        self.plain.len().saturating_add(self.wildcards.len())
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether a segment has 1 to 128 bytes of the alphabet, and so is no wildcard.
pub(crate) fn is_clean(segment: &[u8]) -> bool {
    let clean = |byte: &u8| byte.is_ascii_alphanumeric() || b"._~@/+-".contains(byte);
    (1..=MAX_SEGMENT).contains(&segment.len()) && segment.iter().all(clean)
}

/// As [`is_clean`], saying what is wrong.
pub(crate) fn require_clean(segment: &str) -> Result<(), &'static str> {
    if segment.is_empty() {
        return Err("an empty segment");
    }
    if segment.len() > MAX_SEGMENT {
        return Err("a segment longer than 128 bytes");
    }
    if !is_clean(segment.as_bytes()) {
        return Err("a character outside `A-Z a-z 0-9 . _ ~ @ / + -` in a segment");
    }
    Ok(())
}

fn is_plain(text: &str) -> bool {
    text.split(':').all(|segment| is_clean(segment.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(texts: &[&str]) -> PermissionSet {
        PermissionSet::from_texts(texts.iter().copied())
    }

    #[test]
    fn bounds_of_a_permission() {
        let long = "a".repeat(128);
        assert!(Permission::parse(long.as_str()).is_ok());
        assert_eq!(Permission::parse(format!("{long}a")), Err("a segment longer than 128 bytes"));
        assert!(Permission::parse(vec!["a"; 16].join(":")).is_ok());
        assert_eq!(Permission::parse(vec!["a"; 17].join(":")), Err("more than 16 segments"));
        assert_eq!(Permission::parse("a:**:b"), Err("`**` before the last segment"));
        assert_eq!(Permission::parse(""), Err("an empty segment"));
        for byte in 0..=127u8 {
            let text = char::from(byte).to_string();
            let wanted = byte.is_ascii_alphanumeric() || b"._~@/+-*".contains(&byte);
            let wanted = if byte == b':' { false } else { wanted };
            assert_eq!(Permission::parse(text.as_str()).is_ok(), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_prefix_is_not_the_permission() {
        let held = set(&["chat:writ", "chat:", "chat", "chat:write:all"]);
        assert!(!held.allows("chat:write"));
        assert_eq!(held.len(), 3, "`chat:` is no permission");
    }

    #[test]
    fn an_empty_set_allows_nothing() {
        let held = set(&[]);
        assert!(held.is_empty());
        assert!(!held.allows("chat") && !held.allows("") && !held.allows("*"));
    }

    #[test]
    fn unparsable_permissions_are_dropped_and_never_granted() {
        let held = set(&["a b", "chat:*x", "**:a", "a::b", "chat:\u{430}", "ok"]);
        assert_eq!(held.len(), 1);
        assert!(held.allows("ok") && !held.allows("a b") && !held.allows("chat:1x") && !held.allows("a::b"));
    }

    #[test]
    fn order_by_segment_finds_what_order_by_byte_would_miss() {
        // `-` and `.` sort before `:`, so bytes and segments disagree.
        let texts = ["a", "a:b", "a-b", "a.b:c", "a:b:c", "a-b:c", "a/b", "a:b-c"];
        let held = set(&texts);
        for text in texts {
            assert!(held.allows(text), "{text}");
        }
        assert!(!held.allows("a:c") && !held.allows("a.b"));
    }

    #[test]
    fn only_the_first_256_count() {
        let texts: Vec<String> = (0..300).map(|n| format!("p{n}")).collect();
        let held = PermissionSet::from_texts(texts);
        assert_eq!(held.len(), 256);
        assert!(held.allows("p255") && !held.allows("p256"));
    }

    #[test]
    fn a_bare_wildcard_reaches_as_far_as_it_says() {
        assert!(set(&["*"]).allows("chat") && !set(&["*"]).allows("chat:write"));
        assert!(set(&["**"]).allows("chat") && set(&["**"]).allows("chat:write:all"));
        assert!(set(&["*:**"]).allows("chat:write") && !set(&["*:**"]).allows("chat"));
    }

    #[test]
    fn what_is_no_plain_permission_is_covered_by_nothing() {
        let held = set(&["**", "*", "*:*", "*:*:*", "a"]);
        for needed in ["", "*", "**", "a:*", "a:**", ":", "a:", ":a", "a::b", "a b", "é"] {
            assert!(!held.allows(needed), "{needed:?}");
            assert!(!Permission::parse("**").unwrap().covers(needed), "{needed:?}");
        }
        assert!(held.allows("a:b:c:d"));
    }

    /// The grammar once more, as plainly as possible.
    fn model(held: &[&str], needed: &[&str]) -> bool {
        match (held, needed) {
            ([], []) => true,
            (["**"], [_, ..]) => true,
            (["*", held @ ..], [_, needed @ ..]) => model(held, needed),
            ([one, held @ ..], [other, needed @ ..]) => one == other && model(held, needed),
            _ => false,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_set_allows_what_one_of_its_members_covers(
            held in prop::collection::vec("(a|b|\\*|a-)(:(a|b|\\*)){0,2}(:\\*\\*)?", 0..6),
            needed in "(a|b|a-|c)(:(a|b|a-)){0,3}",
        ) {
            let segments: Vec<&str> = needed.split(':').collect();
            let wanted = held.iter().any(|held| model(&held.split(':').collect::<Vec<_>>(), &segments));
            let set = PermissionSet::from_texts(held.iter().map(String::as_str));
            prop_assert_eq!(set.allows(&needed), wanted);
        }

        #[test]
        fn no_text_is_parsed_and_then_covers_a_needed_wildcard(held in ".*", needed in ".*\\*.*") {
            if let Ok(held) = Permission::parse(held) {
                prop_assert!(!held.covers(&needed));
            }
        }
    }
}
