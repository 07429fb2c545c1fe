//! This file answers: which subprotocols are offered, which carries a token, which is chosen?

use super::rules::HandshakeRules;
use super::upgrade::{Upgrade, is_token};
use crate::decision::Reason;

/// Most items, empty ones included, over all `Sec-WebSocket-Protocol` lines.
const MAX_ITEMS: usize = 64;

/// Requires a bounded list of tokens (RFC 6455 section 4.1); empty items are ignored as RFC 9110 section 5.6.1 has it.
///
/// # Refusals
///
/// - `RequestTooLarge`: over 64 items.
/// - `RequestMalformed`: an item is no token.
pub(super) fn require_offers(upgrade: Upgrade<'_>) -> Result<(), Reason> {
    if items(upgrade).nth(MAX_ITEMS).is_some() {
        return Err(Reason::RequestTooLarge);
    }
    if items(upgrade).all(|item| item.is_empty() || is_token(item)) { Ok(()) } else { Err(Reason::RequestMalformed) }
}

/// Finds the subprotocol to answer with: the first configured one that is offered, or without configured ones the
/// first offered. Never an item with a token prefix, whether or not that source is listed: it would be echoed.
///
/// `None`: answer without a subprotocol.
pub(crate) fn select_subprotocol<'a>(upgrade: Upgrade<'a>, rules: &HandshakeRules) -> Option<&'a str> {
    let mut real = offers(upgrade).filter(|item| !has_token_prefix(item, rules));
    let chosen = if rules.subprotocols.is_empty() {
        real.next()
    } else {
        let offered: Vec<&[u8]> = real.collect();
        rules.subprotocols.iter().find_map(|own| offered.iter().copied().find(|item| *item == own.as_bytes()))
    };
    chosen.and_then(|item| std::str::from_utf8(item).ok())
}

/// The items with a token prefix. They may be spelled in another case, which no reader may take for a real protocol.
pub(super) fn token_items<'a>(upgrade: Upgrade<'a>, rules: &HandshakeRules) -> impl Iterator<Item = &'a [u8]> {
    offers(upgrade).filter(|item| has_token_prefix(item, rules))
}

fn has_token_prefix(item: &[u8], rules: &HandshakeRules) -> bool {
    rules
        .token_prefixes
        .iter()
        .any(|prefix| item.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes())))
}

/// The items that are tokens, at most 64 read.
fn offers<'a>(upgrade: Upgrade<'a>) -> impl Iterator<Item = &'a [u8]> {
    items(upgrade).take(MAX_ITEMS).filter(|item| is_token(item))
}

fn items<'a>(upgrade: Upgrade<'a>) -> impl Iterator<Item = &'a [u8]> {
    upgrade.values("sec-websocket-protocol").flat_map(|line| line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}

#[cfg(test)]
mod tests {
    use super::super::rules::tests::rules;
    use super::super::upgrade::Header;
    use super::super::upgrade::tests::upgrade;
    use super::*;

    fn lines<'a>(values: &[&'a str]) -> Vec<Header<'a>> {
        values.iter().map(|value| Header { name: b"sec-websocket-PROTOCOL", value: value.as_bytes() }).collect()
    }

    fn select(own: &[&str], offered: &[&str]) -> Option<String> {
        let rules = rules(|config| config.subprotocols = own.iter().map(|name| name.to_string()).collect());
        select_subprotocol(upgrade("/", &lines(offered)), &rules).map(str::to_owned)
    }

    #[test]
    fn the_server_prefers() {
        assert_eq!(select(&["chat.v2", "chat.v1"], &["chat.v1, chat.v2"]).as_deref(), Some("chat.v2"));
        assert_eq!(select(&["chat.v2", "chat.v1"], &["other", "chat.v1"]).as_deref(), Some("chat.v1"));
        assert_eq!(select(&["chat.v2"], &["chat.v1, CHAT.V2"]), None);
        assert_eq!(select(&[], &["chat.v1, chat.v2"]).as_deref(), Some("chat.v1"));
        assert_eq!(select(&[], &[]), None);
    }

    #[test]
    fn a_token_is_never_echoed() {
        for offered in ["wsauth.bearer.abc", "WSAUTH.Bearer.abc", "wsauth.bearer."] {
            assert_eq!(select(&[], &[offered]), None, "{offered}");
            assert_eq!(select(&[], &[offered, "chat.v1"]).as_deref(), Some("chat.v1"), "{offered}");
            assert_eq!(
                select(&["chat.v1"], &[&format!("{offered}, chat.v1")]).as_deref(),
                Some("chat.v1"),
                "{offered}"
            );
        }
        assert_eq!(select(&[], &["wsauth.bearer"]).as_deref(), Some("wsauth.bearer"));
    }

    #[test]
    fn offers_are_bounded_tokens() {
        let offers = |values: &[&str]| require_offers(upgrade("/", &lines(values)));
        assert_eq!(offers(&[]), Ok(()));
        assert_eq!(offers(&[",a,\t, b ,"]), Ok(()));
        assert_eq!(offers(&[&"a,".repeat(63)]), Ok(()));
        assert_eq!(offers(&[&"a,".repeat(64)]), Err(Reason::RequestTooLarge));
        assert_eq!(offers(&[&"a,".repeat(40), &"a,".repeat(40)]), Err(Reason::RequestTooLarge));
        assert_eq!(offers(&[&",".repeat(10_000), "chat.v1"]), Err(Reason::RequestTooLarge));
        for item in ["a b", "a/b", "a=", "\"a\"", "é", "a;q=1"] {
            assert_eq!(offers(&[item]), Err(Reason::RequestMalformed), "{item}");
        }
    }
}
