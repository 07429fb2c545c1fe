//! This file answers: what does each message type and each delivery type need?

use crate::config::RuleConfig;
use crate::decision::Reason;
use crate::policy::pattern::Pattern;
use crate::policy::permission::PermissionSet;
use crate::wire::message::{MAX_SHORT_TEXT, Reserved};

/// Most message types and delivery types together.
pub(crate) const MAX_TYPES: usize = 1_024;

/// The rules of one configuration, compiled: names resolve without allocation, needs are read without parsing.
#[derive(Debug)]
pub(crate) struct Policy {
    rules: Box<[Rule]>,
    messages: NameIndex,
    deliveries: NameIndex,
}

/// A message type or a delivery type of one policy. Means nothing in a policy of another epoch (RULES 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TypeId(pub(crate) u16);

/// One bit for each type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bitmap(pub(crate) [u64; MAX_TYPES / 64]);

/// What one type needs.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: Box<str>,
    pub(crate) weight: u32,
    pub(crate) needs: Needs,
    /// The message fields that the patterns read; empty for a type that is decided without looking.
    pub(crate) fields: Box<[Box<str>]>,
}

/// What an identity must hold.
#[derive(Debug)]
pub(crate) enum Needs {
    /// Nothing.
    Public,
    /// Any one of these.
    AnyOf(Box<[Pattern]>),
}

impl Policy {
    /// Compiles the rules. Both lists share one space of at most 1,024 types; the same name may stand in both.
    ///
    /// # Errors
    ///
    /// What is wrong and where, for the operator.
    pub(crate) fn compile(
        messages: &[(String, RuleConfig)],
        deliveries: &[(String, RuleConfig)],
    ) -> Result<Policy, String> {
        if messages.len().saturating_add(deliveries.len()) > MAX_TYPES {
            return Err("more than 1,024 message and delivery types".into());
        }
        let mut rules = Vec::new();
        for (kind, list) in [("message", messages), ("delivery", deliveries)] {
            for (name, config) in list {
                let rule = Rule::compile(name, config).map_err(|problem| format!("{kind} type `{name}`: {problem}"))?;
                rules.push(rule);
            }
        }
        let (first, second) = rules.split_at_checked(messages.len()).unwrap_or_default();
        let repeated = |kind: &'static str| move |name: &str| format!("{kind} type `{name}`: stands twice");
        let messages = NameIndex::build(first, 0).map_err(repeated("message"))?;
        let deliveries = NameIndex::build(second, first.len()).map_err(repeated("delivery"))?;
        Ok(Policy { messages, deliveries, rules: rules.into() })
    }

    /// The message type of this name, byte for byte, or `MessageTypeUnknown`.
    pub(crate) fn select_message(&self, name: &[u8]) -> Result<TypeId, Reason> {
        self.messages.find(name, &self.rules).ok_or(Reason::MessageTypeUnknown)
    }

    /// The delivery type of this name, byte for byte, or `MessageTypeUnknown`.
    pub(crate) fn select_delivery(&self, name: &[u8]) -> Result<TypeId, Reason> {
        self.deliveries.find(name, &self.rules).ok_or(Reason::MessageTypeUnknown)
    }

    /// The rule of a type of this policy, or `MessageTypeUnknown`.
    pub(crate) fn select_rule(&self, type_id: TypeId) -> Result<&Rule, Reason> {
        self.rules.get(usize::from(type_id.0)).ok_or(Reason::MessageTypeUnknown)
    }

    /// Whether the type is decided by the fields of each message, in `judge::require_permission`,
    /// and not by the bitmap. False for a type that does not exist.
    pub(crate) fn slow(&self, type_id: TypeId) -> bool {
        self.select_rule(type_id).is_ok_and(|rule| !rule.fields.is_empty())
    }

    /// The types that this identity may use whatever the message says.
    ///
    /// A slow type is never among them, even when one of its alternatives is held: its fields must be read all the
    /// same, since a repeated one refuses the message. So a set bit alone allows, and a forgotten `slow` denies.
    pub(crate) fn bitmap(&self, permissions: &PermissionSet, subject: &str) -> Bitmap {
        let mut bitmap = Bitmap::default();
        for (index, rule) in (0u16..).zip(&self.rules) {
            let allowed = match &rule.needs {
                _ if !rule.fields.is_empty() => false,
                Needs::Public => true,
                Needs::AnyOf(patterns) => patterns.iter().any(|pattern| {
                    pattern.filled(subject, |_| None).is_ok_and(|needed| permissions.allows_segments(needed))
                }),
            };
            if allowed {
                bitmap.insert(TypeId(index));
            }
        }
        bitmap
    }
}

impl Bitmap {
    /// Sets the bit of a type; nothing for a type that no policy can have.
    pub(crate) fn insert(&mut self, type_id: TypeId) {
        if let Some(word) = self.0.get_mut(type_id.word()) {
            *word |= type_id.bit();
        }
    }

    /// Whether the bit of a type is set.
    #[cfg(test)]
    pub(crate) fn contains(&self, type_id: TypeId) -> bool {
        self.0.get(type_id.word()).is_some_and(|word| word & type_id.bit() != 0)
    }
}

impl TypeId {
    /// The number, as the faces tell it.
    pub(crate) fn index(self) -> u16 {
        self.0
    }

    /// Which word of a bitmap holds its bit.
    pub(crate) fn word(self) -> usize {
        usize::from(self.0 >> 6)
    }

    /// Its bit in that word.
    pub(crate) fn bit(self) -> u64 {
        1 << (self.0 & 63)
    }
}

impl Rule {
    fn compile(name: &str, config: &RuleConfig) -> Result<Rule, String> {
        if name.is_empty() || name.len() > MAX_SHORT_TEXT || name.chars().any(char::is_control) {
            return Err("a type is 1 to 128 bytes without control characters".into());
        }
        if Reserved::of(name.as_bytes()).is_some() {
            return Err("the name is reserved for wsauth".into());
        }
        if config.weight == 0 {
            return Err("the weight is 0; a message costs at least 1".into());
        }
        let mut fields = Vec::new();
        let needs = match config.permissions.as_slice() {
            [] => return Err("no permission is named; write `public` if none is needed".into()),
            [only] if only == "public" => Needs::Public,
            several if several.iter().any(|text| text == "public") => {
                return Err("`public` stands beside a permission; it must stand alone".into());
            }
            several => {
                let parse = |text: &String| {
                    Pattern::parse(text, &mut fields).map_err(|problem| format!("permission `{text}` {problem}"))
                };
                Needs::AnyOf(several.iter().map(parse).collect::<Result<_, _>>()?)
            }
        };
        Ok(Rule { name: name.into(), weight: config.weight, needs, fields: fields.into() })
    }
}

/// Names to types: open addressing over a fixed table. The names are the operator's and a search only ever compares
/// with them, so no peer can make it slow, whatever it sends.
#[derive(Debug)]
struct NameIndex {
    /// A power of two of slots, at least half of them free. The hash tag spares most comparisons of names.
    slots: Box<[Option<(u32, TypeId)>]>,
}

impl NameIndex {
    /// Indexes rules whose types start at `first`; gives back a name that stands twice.
    fn build(rules: &[Rule], first: usize) -> Result<NameIndex, &str> {
        let size = rules.len().saturating_mul(2).max(2).next_power_of_two();
        let mut index = NameIndex { slots: vec![None; size].into() };
        for (at, rule) in rules.iter().enumerate() {
            let hash = hash_name(rule.name.as_bytes());
            let type_id = TypeId(u16::try_from(first.saturating_add(at)).unwrap_or(u16::MAX));
            for slot in index.probe(hash) {
                let Some(slot) = index.slots.get_mut(slot) else { continue };
                match slot {
                    None => {
                        *slot = Some((hash, type_id));
                        break;
                    }
                    Some((_, TypeId(known))) => {
                        let known = rules.get(usize::from(*known).saturating_sub(first));
                        if known.is_some_and(|known| known.name == rule.name) {
                            return Err(&rule.name);
                        }
                    }
                }
            }
        }
        Ok(index)
    }

    fn find(&self, name: &[u8], rules: &[Rule]) -> Option<TypeId> {
        let hash = hash_name(name);
        for slot in self.probe(hash) {
            let (known, type_id) = (*self.slots.get(slot)?)?;
            if known == hash && rules.get(usize::from(type_id.0))?.name.as_bytes() == name {
                return Some(type_id);
            }
        }
        None
    }

    /// Every slot once, from where the hash points.
    fn probe(&self, hash: u32) -> impl Iterator<Item = usize> + use<> {
        let size = self.slots.len();
        let mask = size.wrapping_sub(1);
        let start = usize::try_from(hash).unwrap_or(0);
        (0..size).map(move |step| start.wrapping_add(step) & mask)
    }
}

/// FNV-1a with a final mix. Not keyed: it only spreads the operator's names.
fn hash_name(name: &[u8]) -> u32 {
    let hash = name.iter().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(permissions: &[&str]) -> RuleConfig {
        RuleConfig { permissions: permissions.iter().map(|text| text.to_string()).collect(), weight: 1 }
    }

    fn rules(list: &[(&str, &[&str])]) -> Vec<(String, RuleConfig)> {
        list.iter().map(|(name, permissions)| (name.to_string(), rule(permissions))).collect()
    }

    fn held(texts: &[&str]) -> PermissionSet {
        PermissionSet::from_texts(texts.iter().copied())
    }

    #[test]
    fn names_resolve_in_their_own_list_byte_for_byte() {
        let messages = rules(&[("ping", &["public"]), ("chat.send", &["chat:write"])]);
        let deliveries = rules(&[("chat.send", &["chat:read"])]);
        let policy = Policy::compile(&messages, &deliveries).unwrap();
        assert_eq!(policy.select_message(b"chat.send"), Ok(TypeId(1)));
        assert_eq!(policy.select_delivery(b"chat.send"), Ok(TypeId(2)));
        assert_eq!(policy.select_delivery(b"ping"), Err(Reason::MessageTypeUnknown));
        for unknown in [&b""[..], b"CHAT.SEND", b"chat.sen", b"chat.send\0.x", b"chat.send ", b"\xff"] {
            assert_eq!(policy.select_message(unknown), Err(Reason::MessageTypeUnknown));
        }
        assert_eq!(&*policy.select_rule(TypeId(2)).unwrap().name, "chat.send");
        assert_eq!(policy.select_rule(TypeId(3)).err(), Some(Reason::MessageTypeUnknown));
    }

    #[test]
    fn an_empty_policy_knows_nothing() {
        let policy = Policy::compile(&[], &[]).unwrap();
        assert_eq!(policy.select_message(b"ping"), Err(Reason::MessageTypeUnknown));
        assert_eq!(policy.select_message(b""), Err(Reason::MessageTypeUnknown));
        assert_eq!(policy.bitmap(&held(&["**"]), "u"), Bitmap::default());
        assert!(!policy.slow(TypeId(0)));
    }

    #[test]
    fn a_full_policy_resolves_every_name() {
        let list = |count: usize, prefix: &str| -> Vec<(String, RuleConfig)> {
            (0..count).map(|number| (format!("{prefix}{number}"), rule(&["public"]))).collect()
        };
        let (messages, deliveries) = (list(1_000, "m"), list(24, "d"));
        let policy = Policy::compile(&messages, &deliveries).unwrap();
        for number in 0..1_000u16 {
            assert_eq!(policy.select_message(format!("m{number}").as_bytes()), Ok(TypeId(number)));
        }
        assert_eq!(policy.select_delivery(b"d23"), Ok(TypeId(1_023)));
        assert_eq!(policy.bitmap(&held(&[]), "u"), Bitmap([u64::MAX; 16]));
        let error = Policy::compile(&messages, &list(25, "d")).unwrap_err();
        assert_eq!(error, "more than 1,024 message and delivery types");
    }

    #[test]
    fn mistakes_of_the_operator_are_named() {
        let error = |list: &[(&str, &[&str])]| Policy::compile(&rules(list), &[]).unwrap_err();
        assert_eq!(
            error(&[("chat", &["chat::write"])]),
            "message type `chat`: permission `chat::write` has an empty segment"
        );
        assert!(error(&[("chat", &["a", "listing:*"])]).contains("permission `listing:*` has a wildcard"));
        assert!(error(&[("chat", &[])]).contains("write `public` if none is needed"));
        assert!(error(&[("chat", &["public", "chat:write"])]).contains("must stand alone"));
        assert!(error(&[("chat", &["a"]), ("chat", &["b"])]).contains("message type `chat`: stands twice"));
        assert!(error(&[("", &["a"])]).contains("1 to 128 bytes"));
        assert!(error(&[("a\nb", &["a"])]).contains("control characters"));
        assert!(error(&[(&"a".repeat(129), &["a"])]).contains("1 to 128 bytes"));
        for name in Reserved::SERVER.iter().chain(&["auth", "token_refresh"]) {
            assert!(error(&[(name, &["public"])]).contains("reserved"), "{name}");
            let deliveries = rules(&[(name, &["public"])]);
            let problem = Policy::compile(&[], &deliveries).unwrap_err();
            assert!(problem.starts_with(&format!("delivery type `{name}`")), "{problem}");
        }
        let free = [("ping".to_string(), RuleConfig { permissions: vec!["public".into()], weight: 0 })];
        assert!(Policy::compile(&free, &[]).unwrap_err().contains("weight"));
    }

    #[test]
    fn the_bitmap_holds_what_needs_no_look_at_the_message() {
        let list = rules(&[
            ("ping", &["public"]),
            ("chat.send", &["chat:write", "chat:admin"]),
            ("inbox", &["user:{@sub}:read"]),
            ("listing", &["listing:{id}:read", "listing:admin"]),
        ]);
        let policy = Policy::compile(&list, &[]).unwrap();
        let bits = |texts: &[&str], subject: &str| -> Vec<u16> {
            let bitmap = policy.bitmap(&held(texts), subject);
            (0..1_024).filter(|id| bitmap.contains(TypeId(*id))).collect()
        };
        assert_eq!(bits(&[], "u1"), [0]);
        assert_eq!(bits(&["chat:admin"], "u1"), [0, 1]);
        assert_eq!(bits(&["chat:*"], "u1"), [0, 1]);
        assert_eq!(bits(&["user:u1:read"], "u1"), [0, 2]);
        assert_eq!(bits(&["user:u1:read"], "u2"), [0]);
        assert_eq!(bits(&["user:*:read"], "u 2"), [0], "a subject that is no clean segment fills nothing");
        assert_eq!(bits(&["**", "listing:admin"], "u1"), [0, 1, 2], "a slow type has no bit");
        assert_eq!([0, 1, 2, 3, 4].map(|id| policy.slow(TypeId(id))), [false, false, false, true, false]);
        assert!(!Bitmap([u64::MAX; 16]).contains(TypeId(1_024)));
    }
}
