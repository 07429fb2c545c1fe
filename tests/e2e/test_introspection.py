"""Does what the provider says of an opaque token decide, from the first handshake to the last message?"""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsauth
from authority import Authority
from conftest import CHAT, KEYS_FIRST, admit, closed, config, headers, opaque, refusal, run, site
from peers import Mock, Provider
from proxy import Proxy

HANDSHAKES = 10_000
AT_ONCE = 500


@pytest.fixture
def proxy(provider: Provider) -> Iterator[Proxy]:
    with Proxy(provider.port) as started:
        yield started


def endpoint(proxy: Proxy) -> str:
    return f"http://127.0.0.1:{proxy.port}/token/introspection"


@pytest.mark.parametrize(
    ("client", "table"),
    [
        ("live", {}),
        ("live-post", {"method": "post"}),
        ("live-signed", {"signed": True}),
    ],
)
def test_an_opaque_token_lives_until_it_is_revoked_at_the_provider(
    provider: Provider, authority: Authority, client: str, table: dict[str, Any]
) -> None:
    issuer = opaque(provider, authority, client, recheck="1s", cache="1s", negative_cache="1s", **table)
    engine = wsauth.Engine(config(issuer, lookups=KEYS_FIRST))
    token, other = provider.log_in("ann", "opaque"), provider.log_in("bob", "opaque")

    async def main() -> None:
        async with site(engine) as here, here.client(token, "ann") as ann, here.client(other, "bob") as bob:
            await ann.send(CHAT)
            assert await ann.recv() == CHAT
            await asyncio.to_thread(provider.revoke, token)
            assert await closed(ann) == 4006
            assert await here.status(token) == 401
            # Nobody else's connection suffers.
            await bob.send(CHAT)
            assert await bob.recv() == CHAT

    run(main)


def test_answers_that_must_be_signed_and_are_not_vouch_for_nothing(mocks: Callable[..., Mock]) -> None:
    # The real provider signs for every client that asks for it.
    mock = mocks("RS256")
    mock.script("/introspect", 200, {"Content-Type": "application/json"}, '{"active":true,"sub":"ann"}')

    def engine(signed: bool) -> wsauth.Engine:
        issuer = {
            "issuer": mock.issuer,
            "audience": ["wss://live.example.com"],
            "algorithms": ["RS256"],
            "keys": {"jwks_url": f"{mock.issuer}/jwks"},
            "opaque": True,
            "introspection": {
                "url": f"{mock.issuer}/introspect",
                "client_id": "live",
                "client_secret": {"text": "secret-of-the-mock"},
                "signed": signed,
            },
        }
        return wsauth.Engine(config(issuer, lookups=KEYS_FIRST))

    async def main() -> None:
        refused = await refusal(engine(signed=True), "opaque-token")
        assert (refused.status, refused.reason) == (503, "source_unavailable")
        # The same answer where it need not be signed, so that nothing else was wrong with it.
        (await admit(engine(signed=False), "opaque-token")).closed()

    run(main)
    assert mock.counts()["POST /introspect"] == 2


def test_a_token_for_another_audience_is_not_vouched_for(provider: Provider, authority: Authority) -> None:
    issuer = {**opaque(provider, authority), "audience": ["wss://elsewhere.example.com"]}
    engine = wsauth.Engine(config(issuer))
    token = provider.log_in("ann", "opaque")

    async def main() -> None:
        assert (await refusal(engine, token)).reason == "audience_mismatch"

    run(main)


def test_an_invented_token_is_refused_and_remembered(provider: Provider, authority: Authority, proxy: Proxy) -> None:
    engine = wsauth.Engine(config(opaque(provider, authority, url=endpoint(proxy)), lookups=KEYS_FIRST))

    async def main() -> None:
        for _ in range(5):
            refused = await refusal(engine, "an-invented-token")
            assert (refused.status, refused.reason) == (401, "token_inactive")

    run(main)
    assert proxy.requests == 1


def test_our_own_bad_credentials_raise_an_alarm_and_blame_nobody(provider: Provider, authority: Authority) -> None:
    issuer = opaque(provider, authority, client_secret={"text": "not-the-secret-of-this-client"})
    engine = wsauth.Engine(config(issuer))
    token = provider.log_in("ann", "opaque")

    async def main() -> None:
        refused = await refusal(engine, token)
        assert (refused.status, refused.reason) == (503, "source_unavailable")

    run(main)
    lines = [json.dumps(event) for event in engine.audit()]
    assert any("alert_credentials_rejected" in line for line in lines)
    assert not any(token in line or "not-the-secret" in line for line in lines)


def test_ten_thousand_handshakes_of_one_token_ask_once(provider: Provider, authority: Authority, proxy: Proxy) -> None:
    engine = wsauth.Engine(config(opaque(provider, authority, url=endpoint(proxy)), lookups=KEYS_FIRST))
    token = provider.log_in("ann", "opaque")

    async def main() -> None:
        # These all wait for the one answer.
        first = await asyncio.gather(*(admit(engine, token) for _ in range(AT_ONCE)))
        for connection in first:
            assert connection.identity is not None
            assert connection.identity.subject == "ann"
            connection.closed()
        for _ in range(HANDSHAKES - AT_ONCE):
            (await admit(engine, token)).closed()

    run(main)
    assert proxy.requests == 1
    assert engine.connections == 0


def test_each_answer_goes_to_the_one_who_asked(provider: Provider, authority: Authority, proxy: Proxy) -> None:
    engine = wsauth.Engine(config(opaque(provider, authority, url=endpoint(proxy)), lookups=KEYS_FIRST))
    users = [f"user-{number}" for number in range(24)]
    tokens = {user: provider.log_in(user, "opaque") for user in users}

    async def ask(user: str) -> None:
        connection = await admit(engine, tokens[user])
        assert connection.identity is not None
        assert connection.identity.subject == user
        connection.closed()

    async def main() -> None:
        await asyncio.gather(*(ask(user) for user in users for _ in range(10)))

    run(main)
    assert proxy.requests == len(users)


def test_the_blocking_form_waits_for_the_answer(provider: Provider, authority: Authority) -> None:
    engine = wsauth.Engine(config(opaque(provider, authority)))
    token = provider.log_in("ann", "opaque")
    with engine.handshake("/live", headers(token), "192.0.2.1") as connection:
        assert connection.identity is not None
        assert connection.identity.subject == "ann"
    provider.revoke(token)
