"""What do clients see when the provider, or the way to it, fails? Never an acceptance, and never a loop that stops."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsauth
from authority import Authority
from conftest import (
    CHAT,
    KEYS_FIRST,
    PEER,
    admit,
    config,
    discovered,
    headers,
    opaque,
    refusal,
    run,
    site,
    until,
)
from peers import Mock, Provider
from proxy import Fault, Proxy

# A source is not left alone in tests of single failures.
PATIENT = {"breaker_failures": 1_000}

# Times shorter than any test waits.
QUICK = {"connect_timeout": "500ms", "timeout": "500ms"}

MESSAGES = 1_000
BATCH = 100


@pytest.fixture
def proxy(provider: Provider) -> Iterator[Proxy]:
    with Proxy(provider.port) as started:
        yield started


@pytest.fixture(scope="module")
def mock(mocks: Callable[..., Mock]) -> Mock:
    return mocks("RS256")


def behind(proxy: Proxy, provider: Provider, authority: Authority, client: str = "live", **table: Any) -> Any:
    """The provider, whose introspection endpoint is asked through the proxy."""
    url = f"http://127.0.0.1:{proxy.port}/token/introspection"
    return opaque(provider, authority, client, url=url, **table)


async def require_unavailable(engine: wsauth.Engine, token: str, what: object) -> None:
    refused = await refusal(engine, token)
    assert (refused.status, refused.reason) == (503, "source_unavailable"), what
    assert engine.connections == 0, what


@pytest.mark.parametrize(("client", "table"), [("live", {}), ("live-signed", {"signed": True})])
def test_an_answer_that_is_cut_anywhere_vouches_for_nothing(
    provider: Provider, authority: Authority, proxy: Proxy, client: str, table: dict[str, Any]
) -> None:
    issuer = behind(proxy, provider, authority, client, cache="1s", **table)
    token, other = provider.log_in("ann", "opaque"), provider.log_in("bob", "opaque")
    engine = wsauth.Engine(config(issuer, lookups=PATIENT | KEYS_FIRST))

    async def main() -> None:
        # Of another token, so that no answer about this one is remembered.
        (await admit(engine, other)).closed()
        whole = len(proxy.last_response)
        for position in range(whole):
            proxy.fault = Fault(cut_after=position)
            await require_unavailable(engine, token, f"cut after {position} of {whole} bytes")
        assert proxy.requests == whole + 1
        assert len(proxy.last_response) == whole
        proxy.fault = Fault(cut_after=whole)
        (await admit(engine, token)).closed()

    run(main)


def test_a_signed_answer_with_one_byte_changed_vouches_for_nothing(
    provider: Provider, authority: Authority, proxy: Proxy
) -> None:
    issuer = behind(proxy, provider, authority, "live-signed", signed=True, cache="1s")
    token, other = provider.log_in("ann", "opaque"), provider.log_in("bob", "opaque")
    engine = wsauth.Engine(config(issuer, lookups=PATIENT | KEYS_FIRST))

    async def main() -> None:
        (await admit(engine, other)).closed()
        body = len(proxy.last_response.split(b"\r\n\r\n")[1])
        for position in range(body):
            # Another letter of the same alphabet more often than not, or the other case of it.
            proxy.fault = Fault(garble_body_at=position, garble_bits=(0x01, 0x02, 0x20)[position % 3])
            await require_unavailable(engine, token, f"byte {position} of {body} changed")
        proxy.fault = Fault()
        (await admit(engine, token)).closed()

    run(main)


def test_a_slow_answer_counts_and_one_that_is_too_slow_does_not(
    provider: Provider, authority: Authority, proxy: Proxy
) -> None:
    token = provider.log_in("ann", "opaque")
    engine = wsauth.Engine(config(behind(proxy, provider, authority), lookups=PATIENT | QUICK))

    async def main() -> None:
        proxy.fault = Fault(delay=30)
        await require_unavailable(engine, token, "delayed")
        # One byte after the other, each in time, and all of them far too late.
        proxy.fault = Fault(throttle=20)
        await require_unavailable(engine, token, "throttled")
        proxy.fault = Fault(delay=0.05, throttle=50_000)
        (await admit(engine, token)).closed()

    run(main)


def test_live_connections_are_served_while_handshakes_wait_for_a_black_hole(
    provider: Provider, authority: Authority, proxy: Proxy
) -> None:
    lookups = {**PATIENT, "workers": 2, "timeout": "2s"}
    sections = {"handshake": {"lookup_deadline": "4s"}}
    engine = wsauth.Engine(config(behind(proxy, provider, authority), lookups=lookups, **sections))
    live, waiting = provider.log_in("ann"), [provider.log_in(f"user-{number}", "opaque") for number in range(6)]

    async def main() -> None:
        async with site(engine) as here, here.client(live, "ann") as socket:
            proxy.fault = Fault(silent=True)
            # More than there are workers: some wait for a worker, all of which hang.
            handshakes = asyncio.gather(*(refusal(engine, token) for token in waiting))
            await asyncio.to_thread(proxy.wait_for_requests, 2)
            served = 0
            while not handshakes.done():
                for _ in range(BATCH):
                    await socket.send(CHAT)
                for _ in range(BATCH):
                    assert await socket.recv() == CHAT
                served += BATCH
            for refused in await handshakes:
                assert (refused.status, refused.public) == (503, "unavailable")
            assert served >= MESSAGES
            assert engine.connections == 1

    run(main)


def test_more_questions_than_fit_the_queue_are_refused_and_none_hangs(
    provider: Provider, authority: Authority, proxy: Proxy
) -> None:
    lookups = {**PATIENT, **QUICK, "workers": 1, "queue": 4}
    engine = wsauth.Engine(config(behind(proxy, provider, authority), lookups=lookups))
    proxy.fault = Fault(silent=True)

    async def main() -> None:
        handshakes = (refusal(engine, f"an-invented-token-{number}") for number in range(64))
        for refused in await asyncio.gather(*handshakes):
            assert (refused.status, refused.public) == (503, "unavailable")
        assert engine.connections == 0

    run(main)


def test_a_provider_that_went_down_and_came_back_is_used_again(
    provider: Provider, authority: Authority, proxy: Proxy
) -> None:
    lookups = {**QUICK, "breaker_failures": 3, "breaker_open": "1s"}
    engine = wsauth.Engine(config(behind(proxy, provider, authority, cache="1s"), lookups=lookups))
    token, other = provider.log_in("ann", "opaque"), provider.log_in("bob", "opaque")

    def accepted() -> bool:
        try:
            connection = engine.handshake("/live", headers(other), PEER)
        except wsauth.Refused as refused:
            assert refused.status == 503
            return False
        connection.closed()
        return True

    async def main() -> None:
        (await admit(engine, token)).closed()
        proxy.down()
        for _ in range(10):
            refused = await refusal(engine, other)
            assert (refused.status, refused.reason) == (503, "source_unavailable")
            assert int(dict(refused.headers)["Retry-After"]) >= 1
        asked = proxy.requests
        proxy.up()
        await until(accepted)
        assert proxy.requests > asked

    run(main)


def test_while_a_source_is_left_alone_it_is_not_asked(provider: Provider, authority: Authority, proxy: Proxy) -> None:
    lookups = {**QUICK, "breaker_failures": 3, "breaker_open": "1h"}
    engine = wsauth.Engine(config(behind(proxy, provider, authority), lookups=lookups))
    proxy.fault = Fault(cut_after=0)

    async def main() -> None:
        for number in range(50):
            await require_unavailable(engine, f"an-invented-token-{number}", number)

    run(main)
    # The first three, and the few that try whether it is back.
    assert 3 <= proxy.requests < 10


def test_key_sets_are_used_on_while_the_provider_is_down(provider: Provider, authority: Authority) -> None:
    clock = wsauth.ManualClock(time.time())
    with Proxy(provider.port, authority.sign("keys").server_context()) as front:
        issuer = discovered(provider, authority)
        issuer["keys"] = {"jwks_url": f"https://localhost:{front.port}/jwks", "refresh": "30s"}
        engine = wsauth.Engine(config(issuer, lookups=QUICK), clock)
        token = provider.log_in("ann")

        async def main() -> None:
            (await admit(engine, token)).closed()
            front.down()
            for _ in range(5):
                clock.advance(31)
                (await admit(engine, token)).closed()

        run(main)


@pytest.mark.parametrize(
    ("status", "fields", "body"),
    [
        (302, {"Location": "/elsewhere"}, ""),
        (204, {}, ""),
        (400, {"Content-Type": "application/json"}, '{"active":true,"sub":"ann"}'),
        (429, {"Retry-After": "7"}, ""),
        (500, {"Content-Type": "application/json"}, '{"active":true,"sub":"ann"}'),
        (503, {"Retry-After": "7"}, ""),
        (200, {"Content-Type": "text/html"}, "<html>log in</html>"),
        (200, {"Content-Type": "text/html"}, '{"active":true,"sub":"ann"}'),
        (200, {"Content-Type": "application/json"}, ""),
        (200, {"Content-Type": "application/json"}, '[{"active":true,"sub":"ann"}]'),
        (200, {"Content-Type": "application/json"}, '{"active":"true","sub":"ann"}'),
        (200, {"Content-Type": "application/json"}, '{"active":false,"active":true,"sub":"ann"}'),
        (200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, '{"active":true,"sub":"ann"}'),
        (200, {"Content-Type": "application/json"}, '{"active":true,"sub":"ann","x":"' + "x" * 70_000 + '"}'),
    ],
)
def test_no_other_answer_is_taken_for_one(mock: Mock, status: int, fields: dict[str, str], body: str) -> None:
    issuer = {
        "issuer": mock.issuer,
        "audience": ["wss://live.example.com"],
        "opaque": True,
        "introspection": {
            "url": f"{mock.issuer}/introspect",
            "client_id": "live",
            "client_secret": {"text": "secret-of-the-mock"},
        },
    }
    clock = wsauth.ManualClock(time.time())
    engine = wsauth.Engine(config(issuer, lookups=PATIENT), clock)
    mock.script("/introspect", status, fields, body)

    async def main() -> None:
        refused = await refusal(engine, "opaque-token")
        assert (refused.status, refused.reason) == (503, "source_unavailable")
        # The same without a fault, so that it is the answer that was refused.
        good = {"Content-Type": "application/json"}
        mock.script("/introspect", 200, good, '{"active":true,"sub":"ann"}')
        if "Retry-After" in fields:
            assert dict(refused.headers)["Retry-After"] == fields["Retry-After"]
            # It is left alone for as long as it asked, and no longer.
            asked = mock.counts()
            clock.advance(int(fields["Retry-After"]) - 1)
            refused = await refusal(engine, "opaque-token")
            assert (refused.status, dict(refused.headers)["Retry-After"]) == (503, "1")
            assert mock.counts() == asked
            clock.advance(1)
        (await admit(engine, "opaque-token")).closed()

    run(main)
    assert "GET /elsewhere" not in mock.counts()
