"""What the engine must ask: answered by the test, waited for in every way."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import wsauth
from conftest import AUDIENCE, ISSUER, START, UPGRADE, World, token

SESSIONS: dict[str, Any] = {
    "sessions": {},
    "handshake": {
        "credentials": ["cookie"],
        "cookie": {"name": "sid", "holds": "session"},
        "origins": ["https://app.example.com"],
    },
}
HEADERS = [*UPGRADE, ("Origin", "https://app.example.com"), ("Cookie", "sid=abc123abc123abc123")]


@pytest.fixture
def sessions(make: Callable[..., World]) -> World:
    return make(**SESSIONS)


def vouched(**more: Any) -> wsauth.Vouched:
    return wsauth.Vouched("ann", START + 3600, permissions=["chat:write"], claims={"a": [1]}, **more)


def test_a_scripted_driver(sessions: World) -> None:
    engine = sessions.engine
    connection = engine.start_handshake("/", HEADERS, "192.0.2.1")
    assert connection.progress == "authenticating"
    assert connection.message('{"type":"chat.send"}').kind == "hold"
    with pytest.raises(wsauth.Withheld):
        connection.receive('{"type":"chat.send"}')
    (lookup,) = engine.lookups()
    assert (lookup.kind, lookup.credential) == ("session", b"abc123abc123abc123")
    assert "abc123" not in repr(lookup)
    engine.answer(lookup.id, vouched(issued_at=int(START)))
    assert [event.kind for event in engine.poll()] == ["ready", "send"]
    assert connection.message('{"type":"chat.send"}')
    assert connection.identity is not None
    assert connection.identity.claims == {"a": [1]}
    with pytest.raises(wsauth.MisuseError):
        engine.answer(lookup.id, inactive=True)


@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        ({"inactive": True}, "session_unknown", 401),
        ({"unavailable": True, "retry_after": 3}, "source_unavailable", 503),
        ({"vouched": wsauth.Vouched("ann", START - 1)}, "token_expired", 401),
        ({"vouched": wsauth.Vouched("", START + 1)}, "subject_invalid", 401),
    ],
)
def test_awaited_refusals(sessions: World, answer: dict[str, Any], reason: str, status: int) -> None:
    engine = sessions.engine

    async def main() -> None:
        waiting = asyncio.create_task(engine.handshake_async("/", HEADERS, "192.0.2.1"))
        await asyncio.sleep(0)
        (lookup,) = engine.lookups()
        engine.answer(lookup.id, **answer)
        with pytest.raises(wsauth.Refused) as error:
            await waiting
        assert (error.value.reason, error.value.status) == (reason, status)

    asyncio.run(main())
    assert engine.connections == 0


def test_awaited_success_and_nobody_else_loses_an_event(sessions: World) -> None:
    engine = sessions.engine

    async def main() -> None:
        first = asyncio.create_task(engine.handshake_async("/", HEADERS, "192.0.2.1"))
        second = asyncio.create_task(engine.handshake_async("/", HEADERS, "192.0.2.2"))
        await asyncio.sleep(0)
        (lookup,) = engine.lookups()  # one question for both
        engine.answer(lookup.id, vouched())
        connections = [await first, await second]
        assert all(connection.message('{"type":"chat.send"}') for connection in connections)
        sent = {event.connection for event in engine.poll() if event.kind == "send"}
        assert sent == {connection.id for connection in connections}

    asyncio.run(main())


def test_a_cancelled_wait_gives_its_place_back(sessions: World) -> None:
    async def main() -> None:
        waiting = asyncio.create_task(sessions.engine.handshake_async("/", HEADERS, "192.0.2.1"))
        await asyncio.sleep(0)
        assert sessions.engine.connections == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert sessions.engine.connections == 0

    asyncio.run(main())


def test_without_lookups_the_awaitable_returns_at_once(world: World) -> None:
    coroutine = world.engine.handshake_async("/", world.headers(), "192.0.2.1")
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    assert stopped.value.value.identity.subject == "ann"


def test_blocking_in_a_loop_is_misuse_and_holds_nothing(sessions: World) -> None:
    async def main() -> None:
        with pytest.raises(wsauth.MisuseError) as error:
            sessions.engine.handshake("/", HEADERS, "192.0.2.1")
        assert error.value.reason == "misuse_blocking"

    asyncio.run(main())
    assert sessions.engine.connections == 0


def test_blocking_while_another_thread_answers(sessions: World) -> None:
    engine = sessions.engine

    def drive() -> None:
        while not (lookups := engine.lookups()):
            time.sleep(0.001)
        engine.answer(lookups[0].id, vouched())

    driver = threading.Thread(target=drive)
    driver.start()
    connection = engine.handshake("/", HEADERS, "192.0.2.1")
    driver.join()
    assert connection.message('{"type":"chat.send"}')


def test_keys_that_must_be_fetched(make: Callable[..., World]) -> None:
    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes_raw()
    x = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    jwks = json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "1", "alg": "EdDSA", "use": "sig"}]})
    issuer = {
        "issuer": ISSUER,
        "audience": [AUDIENCE],
        "algorithms": ["EdDSA"],
        "keys": {"jwks_url": "https://id.example.com/jwks"},
    }
    world = make(issuer=[issuer], lookups={"driver": "host"})
    claims = jwt.decode(token(START), options={"verify_signature": False})
    signed = jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "1"})
    headers = [*UPGRADE, ("Authorization", f"Bearer {signed}")]
    connection = world.engine.start_handshake("/", headers, "192.0.2.1")
    (lookup,) = world.engine.lookups()
    assert (lookup.kind, lookup.issuer, lookup.url) == ("keys", ISSUER, "https://id.example.com/jwks")
    assert lookup.credential is None
    world.engine.answer(lookup.id, keys=jwks)
    assert connection.message('{"type":"chat.send"}')
    assert world.engine.handshake("/", headers, "192.0.2.1").progress == "live"


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"inactive": True, "unavailable": True},
        {"profile": {}, "inactive": True},
        {"keys": 7},
        {"profile": 7},
        {"profile": {"a": {1}}},
        {"response": 200},
        {"response": (200, [])},
        {"response": (99, [], b"")},
        {"response": (1000, [], b"")},
        {"response": (-1, [], b"")},
        {"response": ("200", [], b"")},
        {"response": (200, 7, b"")},
        {"response": (200, [("a",)], b"")},
        {"response": (200, [("a", 1)], b"")},
        {"response": (200, [], "text")},
        {"response": (200, [], None)},
    ],
)
def test_an_unclear_answer_is_misuse(sessions: World, arguments: dict[str, Any]) -> None:
    with pytest.raises(wsauth.MisuseError) as error:
        sessions.engine.answer(1, **arguments)
    assert error.value.reason == "misuse_argument"


@pytest.mark.parametrize(
    "answer",
    [
        {"response": (200, {"Content-Type": "application/json", "Retry-After": "3"}, b"{}")},
        {"response": (503, [(b"retry-after", b"soon"), ("A", "\xff")], bytearray(b"\xff"))},
        {"profile": {"permissions": ["chat:write"], "plan": "pro"}},
        {"profile": MappingProxyType({})},
        {"keys": "{}"},
    ],
)
def test_an_answer_to_another_question_is_no_answer(sessions: World, answer: dict[str, Any]) -> None:
    connection = sessions.engine.start_handshake("/", HEADERS, "192.0.2.1")
    (lookup,) = sessions.engine.lookups()
    assert (lookup.url, lookup.subject) == (None, None)
    sessions.engine.answer(lookup.id, **answer)
    (event,) = sessions.events(connection)
    assert (event.kind, event.reason) == ("refused", "source_unavailable")


@pytest.mark.parametrize("claims", [{"a": {1}}, {"a": float("nan")}, {1: 2}, {"a": 2**70}, {"a": "\ud800"}])
def test_claims_that_are_no_json_are_misuse(claims: Any) -> None:
    with pytest.raises(wsauth.MisuseError):
        wsauth.Vouched("ann", START, claims=claims)


def test_endless_claims_are_misuse() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    with pytest.raises(wsauth.MisuseError):
        wsauth.Vouched("ann", START, claims=endless)
