"""The providers, started once, and a guarded server with real clients."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import peers
import wsauth
from authority import Authority
from peers import Mock, Peer, Provider
from wsauth._engine import _engines
from wsauth.adapters.websockets import GuardedConnection, serve

PEER = "192.0.2.1"
UPGRADE = [
    ("Host", "live.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
CHAT = '{"type":"chat.send"}'

# A test that hangs says so. None needs more than some seconds.
LONGEST = 120.0

# No limit that a test of something else would meet.
GENEROUS = {
    "connections_per_address": 100_000,
    "connections_per_user": 100_000,
    "messages_per_user": {"count": 1_000_000, "per": "1s"},
}


# What is signed is judged by keys that are there: a first answer without them is refused, and asks for them.
# And keys that come later end every answer that is kept, so that questions cannot be counted.
KEYS_FIRST = {"require_keys": True}


@pytest.fixture(scope="session")
def installed() -> None:
    peers.install()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def provider(installed: None, authority: Authority) -> Iterator[Provider]:
    with Provider(authority, authority.sign("provider")) as started:
        yield started


@pytest.fixture(scope="session")
def mocks(installed: None) -> Iterator[Callable[..., Mock]]:
    """Starts a mock with a key for each of the algorithms named."""
    with Peer("mock.mjs") as started:
        yield lambda *algorithms: Mock(started, *algorithms)


def config(*issuers: dict[str, Any], **sections: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a server that takes tokens of these issuers; sections add keys."""
    base: dict[str, dict[str, Any]] = {
        "handshake": {"credentials": ["authorization"], "trusted_proxies": []},
        "connection": {"max_unauthenticated_per_address": 1_000},
        "limits": GENEROUS,
        "messages": {"chat.send": "chat:write", "listing.subscribe": "listing:{listing_id}:read"},
    }
    names = base.keys() | sections.keys()
    return {"issuer": list(issuers), **{name: {**base.get(name, {}), **sections.get(name, {})} for name in names}}


def discovered(provider: Provider, authority: Authority, **keys: Any) -> dict[str, Any]:
    """The provider as an issuer whose keys are found by discovery; ``keys`` are written beside the url."""
    return {
        "issuer": provider.issuer,
        "audience": [provider.audience],
        "algorithms": ["RS256", "ES256", "EdDSA"],
        "keys": {"discovery_url": provider.discovery_url, **keys},
        "tls": {"ca_file": str(authority.path)},
    }


def opaque(provider: Provider, authority: Authority, client: str = "live", **introspection: Any) -> dict[str, Any]:
    """The same, whose opaque tokens are asked about; ``introspection`` adds keys to the table."""
    table = {"client_id": client, "client_secret": {"text": provider.secret}, **introspection}
    return {**discovered(provider, authority), "opaque": True, "introspection": table}


def headers(token: str) -> list[tuple[str, str]]:
    return [*UPGRADE, ("Authorization", f"Bearer {token}")]


async def admit(engine: wsauth.Engine, token: str) -> wsauth.Connection:
    """A handshake that stands for a connection; the caller closes it."""
    return await engine.handshake_async("/live", headers(token), PEER)


async def refusal(engine: wsauth.Engine, token: str) -> wsauth.Refused:
    """How a handshake is refused. Fails when it is not."""
    try:
        connection = await admit(engine, token)
    except wsauth.Refused as refused:
        return refused
    connection.closed()
    raise AssertionError("the handshake was accepted")


class Site:
    """A guarded server that echoes what it may hear."""

    def __init__(self, engine: wsauth.Engine, port: int) -> None:
        self.engine = engine
        self.port = port

    @asynccontextmanager
    async def client(self, token: str, user: str | None = None) -> AsyncIterator[ClientConnection]:
        """A client that was let in, as ``user`` if given. Raises InvalidStatus when it is refused."""
        authorization = {"Authorization": f"Bearer {token}"}
        url = f"ws://127.0.0.1:{self.port}/live"
        async with connect(url, additional_headers=authorization, proxy=None) as socket:
            greeting = json.loads(await socket.recv())
            assert greeting["type"] == "auth_success"
            assert user is None or greeting["user"]["id"] == user
            yield socket

    async def status(self, token: str) -> int:
        """The HTTP status an upgrade is answered with."""
        try:
            async with self.client(token):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code


@asynccontextmanager
async def site(engine: wsauth.Engine) -> AsyncIterator[Site]:
    async def echo(ws: GuardedConnection) -> None:
        async for message in ws:
            await ws.send(message)

    async with serve(engine, echo, "127.0.0.1", 0) as server:
        yield Site(engine, server.sockets[0].getsockname()[1])


async def closed(socket: ClientConnection) -> int:
    """Reads to the end: the close code."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed as error:
        return error.rcvd.code if error.rcvd else 1006


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that must come."""
    end = time.monotonic() + LONGEST / 2
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, "it did not come"
        await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def nobody_else_asks() -> Iterator[None]:
    """Ends what a test's engines fetch by themselves: the next test counts who asks the provider."""
    yield
    for engine in list(_engines):
        engine.close()


def fetched(engine: wsauth.Engine) -> int:
    """How many documents about keys this engine was given, whoever else asks the provider."""
    series = 'wsauth_lookups_total{backend="keys",outcome="answered"} '
    return next(int(line.removeprefix(series)) for line in engine.metrics().splitlines() if line.startswith(series))


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LONGEST):
            await main()

    asyncio.run(bounded())
