"""Real clients and real servers on loopback."""

import asyncio
import base64
import json
import logging
import socket as tcp
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.asyncio.server import serve as plain_serve
from websockets.asyncio.server import unix_serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

import wsauth
from conftest import SECRET, START, UPGRADE, World, in_child
from wsauth.adapters import websockets as adapter
from wsauth.adapters.websockets import Guard, GuardedConnection, serve

Handler = Callable[[GuardedConnection], Awaitable[None]]

PING = '{"type":"ping"}'
CHAT = '{"type":"chat.send"}'


async def echo(ws: GuardedConnection) -> None:
    async for message in ws:
        await ws.send(message)


class Site:
    """A guarded server and clients for it."""

    def __init__(self, world: World, guard: Guard, port: int) -> None:
        self.world = world
        self.guard = guard
        self.port = port

    @asynccontextmanager
    async def client(
        self, subject: str = "ann", *, token: str | None = None, headers: Any = None, **options: Any
    ) -> AsyncIterator[ClientConnection]:
        if headers is None:
            headers = {"Authorization": f"Bearer {token or self.world.token(subject)}"}
        url = f"ws://127.0.0.1:{self.port}/live"
        async with connect(url, additional_headers=headers, proxy=None, **options) as socket:
            yield socket

    async def empty(self) -> None:
        """Waits until the engine holds no connection and the guard's pump has stopped."""
        async with asyncio.timeout(10):
            while self.world.engine.connections or self.guard._pump is not None:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def site(world: World, handler: Handler = echo, /, **options: Any) -> AsyncIterator[Site]:
    own = {name: options.pop(name) for name in list(options) if name in GUARD}
    guard = Guard(world.engine, **own)
    async with serve(guard, handler, "127.0.0.1", 0, **options) as server:
        yield Site(world, guard, server.sockets[0].getsockname()[1])


GUARD = ("refuse", "max_pending", "close_timeout", "touch_on_pong", "on_permissions_changed", "shard")


async def expect(socket: ClientConnection, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while (message := json.loads(await socket.recv()))["type"] != kind:
            pass
    assert isinstance(message, dict)
    return message


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """Reads to the end: the close code and its reason."""
    async with asyncio.timeout(10):
        try:
            while True:
                await socket.recv()
        except ConnectionClosed as error:
            return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await main()

    asyncio.run(bounded())


def test_only_what_is_allowed_reaches_the_handler(world: World) -> None:
    seen: list[Any] = []

    async def handler(ws: GuardedConnection) -> None:
        assert ws.auth.identity is not None
        assert ws.auth.identity.subject == "ann"
        async for message in ws:
            seen.append(message)
            await ws.send(message)

    async def main() -> None:
        async with site(world, handler) as here:
            async with here.client() as socket:
                success = await expect(socket, "auth_success")
                assert success["user"] == {"id": "ann"}
                for text in ("nonsense", '{"type":"listing.subscribe","listing_id":"7"}', b"binary"):
                    await socket.send(text)
                world.clock.advance(5)
                await socket.send(json.dumps({"type": "token_refresh", "token": world.token(life=7200)}))
                await expect(socket, "token_refreshed")
                await socket.send(CHAT)
                await expect(socket, "chat.send")
            await here.empty()
        assert seen == [CHAT]

    run(main)


def test_a_refusal_over_http_is_exact(world: World) -> None:
    async def main() -> None:
        async with site(world) as here:
            with pytest.raises(InvalidStatus) as error:
                async with here.client(headers={}):
                    pass
            response = error.value.response
            with pytest.raises(wsauth.Refused) as refused:
                world.engine.handshake("/live", UPGRADE, "127.0.0.1")
            assert response.status_code == refused.value.status == 401
            assert response.body == refused.value.body.encode()
            for name, value in refused.value.headers:
                assert response.headers.get_all(name) == [value]
            assert response.headers["Content-Length"] == str(len(response.body))
            await here.empty()

    run(main)


@pytest.mark.parametrize("way", ["serve", "options"])
def test_accept_then_close(make: Callable[..., World], way: str) -> None:
    world = make(handshake={"subprotocols": ["chat"], "credentials": ["subprotocol"], "require_origin": False})
    served: list[Any] = []

    async def handler(ws: Any) -> None:
        served.append(ws)
        with pytest.raises(ConnectionClosed):
            await ws.send("to nobody in particular")
        async for _ in ws:
            raise AssertionError

    async def main() -> None:
        guard = Guard(world.engine, refuse="close")
        here_serve = serve(guard, handler, "127.0.0.1", 0)
        if way == "options":
            here_serve = plain_serve(handler, "127.0.0.1", 0, **guard.options())
        async with here_serve as server:
            here = Site(world, guard, server.sockets[0].getsockname()[1])
            offered: Any = ["wsauth.bearer.YWJj", "chat"]
            async with here.client(headers={}, subprotocols=offered) as socket:
                assert socket.subprotocol == "chat"
                with suppress(ConnectionClosed):
                    await socket.send(PING)
                assert await closed(socket) == (4001, "auth_failed")
            await here.empty()
        if way == "serve":
            assert served == []
            return
        assert served[0].end_reason == "token_opaque"
        with pytest.raises(wsauth.MisuseError):
            _ = served[0].auth

    run(main)


def test_the_token_in_the_subprotocol_is_never_echoed(make: Callable[..., World]) -> None:
    world = make(
        handshake={"credentials": ["subprotocol"], "origins": ["https://app.example.com"], "subprotocols": ["chat"]}
    )

    async def main() -> None:
        async with site(world) as here:
            item = "wsauth.bearer." + base64.urlsafe_b64encode(world.token().encode()).decode().rstrip("=")
            offered: Any = [item, "chat"]
            origin: Any = "https://app.example.com"
            async with here.client(headers={}, subprotocols=offered, origin=origin) as socket:
                assert socket.subprotocol == "chat"
                await expect(socket, "auth_success")

    run(main)


def test_a_revocation_closes_and_the_handler_ends_quietly(world: World, caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str | None] = []

    async def handler(ws: GuardedConnection) -> None:
        await echo(ws)
        ended.append(ws.end_reason)

    async def main() -> None:
        async with site(world, handler) as here:
            async with here.client() as socket, here.client() as other:
                await expect(socket, "auth_success")
                await expect(other, "auth_success")
                assert world.engine.revoke(subject="ann", issuer="https://id.example.com").closed == 2
                assert await closed(socket) == await closed(other) == (4006, "revoked")
            await here.empty()

    run(main)
    assert ended == ["revoked", "revoked"]
    assert not caplog.records


def test_expiry_comes_without_a_message(world: World) -> None:
    async def main() -> None:
        async with site(world) as here, here.client(token=world.token(life=600)) as socket:
            await expect(socket, "auth_success")
            world.clock.advance(400)
            await expect(socket, "token_refresh_required")
            world.clock.advance(200)
            code, _ = await closed(socket)
            assert code == 4005
            await here.empty()

    run(main)


def test_a_handshake_that_dies_half_way_gives_its_permit_back(world: World) -> None:
    async def main() -> None:
        async with site(world) as here:
            lines = [f"{name}: {value}" for name, value in world.headers()]
            request = "\r\n".join(["GET /live HTTP/1.1", *lines, "Sec-WebSocket-Extensions: ;;;", "", ""]).encode()
            # wsauth accepts it, websockets does not.
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(request)
            assert (await reader.readline()).split()[1] == b"400"
            writer.close()
            await here.empty()
            # The peer is gone before the answer.
            for _ in range(30):
                _, writer = await asyncio.open_connection("127.0.0.1", here.port)
                writer.write(request.replace(b";;;", b"x"))
                writer.transport.abort()
            # And already when it is accepted.
            for _ in range(30):
                early = tcp.create_connection(("127.0.0.1", here.port))
                early.sendall(request.replace(b";;;", b"x"))
                early.setsockopt(tcp.SOL_SOCKET, tcp.SO_LINGER, struct.pack("ii", 1, 0))
                early.close()
            # Half a request.
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(request[:100])
            await writer.drain()
            writer.transport.abort()
            await asyncio.sleep(0.1)
            await here.empty()
            async with here.client() as socket:
                await expect(socket, "auth_success")
            assert "misuse_peer" not in "".join(world.engine.audit_lines())

    run(main)


def test_deliveries_follow_permissions(world: World) -> None:
    sockets: dict[str, GuardedConnection] = {}
    changes: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    async def handler(ws: GuardedConnection) -> None:
        assert ws.auth.identity is not None
        sockets[ws.auth.identity.subject] = ws
        await echo(ws)

    def changed(_: GuardedConnection, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        changes.append((added, removed))

    async def main() -> None:
        async with site(world, handler, on_permissions_changed=changed) as here:
            async with here.client() as ann, here.client("bob", token=world.token("bob", permissions=[])) as bob:
                await expect(ann, "auth_success")
                await expect(bob, "auth_success")
                text = '{"type":"listing.changed"}'
                fields: dict[str, object] = {"listing_id": 42}
                assert here.guard.publish(sockets.values(), "listing.changed", fields, text) == 1
                await expect(ann, "listing.changed")
                assert await sockets["ann"].deliver("listing.changed", fields, text.encode())
                assert await ann.recv() == text.encode()
                assert not await sockets["bob"].deliver("listing.changed", fields, text)
                sockets["ann"].auth.set_permissions(["chat:write"])
                await expect(ann, "permissions_changed")
                assert changes == [((), ("listing:42:read",))]
                assert here.guard.publish(sockets.values(), "listing.changed", fields, text) == 0
                await bob.send(PING)
                assert await bob.recv() == PING
            await here.empty()
            assert here.guard.publish(sockets.values(), "listing.changed", fields, text) == 0
            assert not await sockets["ann"].deliver("listing.changed", fields, text)

    run(main)


def test_a_slow_peer_is_dropped_and_delays_nobody(world: World) -> None:
    sockets: list[GuardedConnection] = []

    async def handler(ws: GuardedConnection) -> None:
        sockets.append(ws)
        await echo(ws)

    async def main() -> None:
        async with site(world, handler, max_pending=1 << 16) as here:
            lines = [f"{name}: {value}" for name, value in world.headers("slow")]
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port, limit=1024)
            writer.write("\r\n".join(["GET /live HTTP/1.1", *lines, "", ""]).encode())
            await reader.readline()
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            async with here.client() as quick:
                await expect(quick, "auth_success")
                text = json.dumps({"type": "listing.changed", "x": "y" * 60_000})
                sent = 2
                rounds = 0
                while sent == 2:
                    sent = here.guard.publish(sockets, "listing.changed", {"listing_id": 42}, text)
                    await expect(quick, "listing.changed")
                    rounds += 1
                    assert rounds < 1000
                while world.engine.connections > 1:
                    await asyncio.sleep(0.005)
                world.engine.revoke(subject="ann", issuer="https://id.example.com")
                assert (await closed(quick))[0] == 4006
            writer.close()

    run(main)


def test_a_peer_that_ignores_the_close_frame_is_dropped(world: World) -> None:
    async def main() -> None:
        async with site(world, close_timeout=0.05) as here:
            lines = [f"{name}: {value}" for name, value in world.headers()]
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write("\r\n".join(["GET /live HTTP/1.1", *lines, "", ""]).encode())
            await reader.readuntil(b"auth_success")
            world.engine.revoke(subject="ann", issuer="https://id.example.com")
            await here.empty()
            writer.close()

    run(main)


def test_what_was_said_before_leaving_is_still_heard(world: World) -> None:
    heard: list[Any] = []
    go = asyncio.Event()

    async def handler(ws: GuardedConnection) -> None:
        await go.wait()
        async for message in ws:
            heard.append(message)

    async def main() -> None:
        async with site(world, handler) as here:
            async with here.client() as socket:
                await socket.send(CHAT)
                await socket.send('{"type":"unknown"}')
                await socket.send(PING)
            await asyncio.sleep(0.05)
            assert world.engine.connections == 1
            go.set()
            await here.empty()
        assert heard == [CHAT, PING]

    run(main)


def test_a_pong_keeps_it_alive(make: Callable[..., World]) -> None:
    world = make(connection={"idle": "60s"})
    sockets: list[GuardedConnection] = []

    async def handler(ws: GuardedConnection) -> None:
        sockets.append(ws)
        await echo(ws)

    async def main() -> None:
        async with site(world, handler) as here, here.client() as socket:
            await expect(socket, "auth_success")
            for _ in range(3):
                world.clock.advance(40)
                await (await sockets[0].ping())
                await socket.pong(b"unasked")
            await socket.send(PING)
            await expect(socket, "ping")
            world.clock.advance(61)
            assert (await closed(socket))[0] == 4003

    run(main)


def test_the_first_message_authenticates(make: Callable[..., World]) -> None:
    world = make(handshake={"credentials": ["first_message"], "require_origin": False})

    async def main() -> None:
        async with site(world) as here:
            async with here.client(headers={}) as socket:
                await socket.send(json.dumps({"type": "auth", "token": world.token()}))
                await expect(socket, "auth_success")
                await socket.send(CHAT)
                await expect(socket, "chat.send")
            async with here.client(headers={}) as socket:
                await socket.send(CHAT)
                assert (await closed(socket))[0] == 4001
            await here.empty()

    run(main)


OPAQUE: dict[str, Any] = {
    "handshake": {"credentials": ["first_message"], "require_origin": False},
    "issuer": [
        {
            "issuer": "https://id.example.com",
            "audience": ["wss://live.example.com"],
            "algorithms": ["HS256"],
            "keys": {"secret": SECRET},
            "opaque": True,
        }
    ],
}


@pytest.mark.parametrize("leaves", [False, True])
def test_a_message_is_held_until_its_sender_is_known(
    make: Callable[..., World], monkeypatch: pytest.MonkeyPatch, leaves: bool
) -> None:
    monkeypatch.setattr(adapter, "LINGER", 0.05)
    world = make(**OPAQUE)
    heard: list[Any] = []

    async def handler(ws: GuardedConnection) -> None:
        async for message in ws:
            heard.append(message)
            await ws.send(message)

    async def main() -> None:
        async with site(world, handler) as here:
            async with here.client(headers={}) as socket:
                await socket.send('{"type":"auth","token":"opaque-0123456789"}')
                await socket.send(CHAT)
                while not (lookups := world.engine.lookups()):
                    await asyncio.sleep(0.005)
                if not leaves:
                    await asyncio.sleep(0.05)
                    assert heard == []
                    vouched = wsauth.Vouched("ann", START + 3600, permissions=["chat:write"])
                    world.engine.answer(lookups[0].id, vouched)
                    await expect(socket, "chat.send")
            await here.empty()

    run(main)
    assert heard == ([] if leaves else [CHAT])


def test_a_lookup_is_awaited_before_the_answer(make: Callable[..., World]) -> None:
    world = make(
        sessions={},
        handshake={
            "credentials": ["cookie"],
            "cookie": {"name": "sid", "holds": "session"},
            "origins": ["https://app.example.com"],
        },
    )
    answers: list[dict[str, Any]] = [
        {"vouched": wsauth.Vouched("ann", START + 3600, permissions=["chat:write"])},
        {"inactive": True},
    ]

    async def drive() -> None:
        while answers:
            for lookup in world.engine.lookups():
                world.engine.answer(lookup.id, **answers.pop(0))
            await asyncio.sleep(0.005)

    async def main() -> None:
        driving = asyncio.create_task(drive())
        origin: Any = "https://app.example.com"
        async with site(world) as here:
            async with here.client(headers={"Cookie": "sid=0123456789abcdef"}, origin=origin) as socket:
                await expect(socket, "auth_success")
                await socket.send(CHAT)
                await expect(socket, "chat.send")
            with pytest.raises(InvalidStatus) as error:
                async with here.client(headers={"Cookie": "sid=0123456789abcdeg"}, origin=origin):
                    pass
            assert error.value.response.status_code == 401
            await here.empty()
        await driving

    run(main)


def test_what_a_lookup_refuses_never_reaches_the_handler(make: Callable[..., World]) -> None:
    world = make(**{**OPAQUE, "handshake": {"require_origin": False}})
    heard: list[Any] = []

    async def handler(ws: GuardedConnection) -> None:
        heard.append(ws)

    async def drive() -> None:
        while not (lookups := world.engine.lookups()):
            await asyncio.sleep(0.005)
        world.engine.answer(lookups[0].id, inactive=True)

    async def main() -> None:
        async with site(world, handler, refuse="close") as here:
            driving = asyncio.create_task(drive())
            async with here.client(token="opaque-0123456789") as socket:
                assert await closed(socket) == (4001, "auth_failed")
            await driving
            await here.empty()

    run(main)
    assert heard == []


def test_a_guard_goes_on_in_a_child(world: World) -> None:
    guard = Guard(world.engine)

    async def use(then: Callable[[], None]) -> None:
        async with serve(guard, echo, "127.0.0.1", 0) as server:
            here = Site(world, guard, server.sockets[0].getsockname()[1])
            async with here.client() as socket:
                await expect(socket, "auth_success")
                then()

    def child() -> None:
        # The loop that was running belongs to the parent; a thread has none.
        with ThreadPoolExecutor() as pool:
            pool.submit(asyncio.run, asyncio.wait_for(use(lambda: None), 10)).result()

    run(lambda: use(lambda: in_child(child)))


def test_events_do_not_break_a_fragmented_message(world: World) -> None:
    go = asyncio.Event()

    async def handler(ws: GuardedConnection) -> None:
        async def pieces() -> AsyncIterator[str]:
            yield '{"type":'
            ws.auth.set_permissions([])
            await asyncio.sleep(0.05)
            assert here_guard[0].publish([ws], "listing.changed", {"listing_id": 42}, "never") == 0
            yield '"whole"}'

        await go.wait()
        await ws.send(pieces())
        await echo(ws)

    here_guard: list[Guard] = []

    async def main() -> None:
        async with site(world, handler) as here:
            here_guard.append(here.guard)
            async with here.client() as socket:
                await expect(socket, "auth_success")
                go.set()
                await expect(socket, "whole")
                await expect(socket, "permissions_changed")

    run(main)


def test_receiving_in_every_way(world: World) -> None:
    got: list[Any] = []

    async def handler(ws: GuardedConnection) -> None:
        got.append(await ws.recv(decode=False))
        got.append(await ws.recv(decode=True))
        got.extend([piece async for piece in ws.recv_streaming()])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await ws.recv()
        await ws.send("now")
        got.append(await ws.recv())

    async def main() -> None:
        async with site(world, handler) as here, here.client() as socket:
            for _ in range(2):
                await socket.send(PING)
            await socket.send([PING[:5], PING[5:]])
            while await socket.recv() != "now":
                pass
            await socket.send(CHAT)
            assert await closed(socket) == (1000, "")
        assert got == [PING.encode(), PING, PING, CHAT]

    run(main)


def test_half_a_guard_lets_nobody_in(world: World) -> None:
    async def handler(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    async def main() -> None:
        guard = Guard(world.engine)
        async with plain_serve(handler, "127.0.0.1", 0, process_request=guard.process_request) as server:
            here = Site(world, guard, server.sockets[0].getsockname()[1])
            with pytest.raises(InvalidStatus) as error:
                async with here.client():
                    pass
            assert error.value.response.status_code == 500
        async with plain_serve(handler, "127.0.0.1", 0, create_connection=guard.create_connection) as server:
            here = Site(world, guard, server.sockets[0].getsockname()[1])
            async with here.client() as socket:
                assert await closed(socket) == (1011, "misuse")
        assert world.engine.connections == 0

    run(main)


def test_misuse_of_the_guard_is_said(world: World) -> None:
    with pytest.raises(wsauth.MisuseError):
        serve(world.engine, echo, process_request=None)
    with pytest.raises(wsauth.MisuseError):
        Guard(world.engine, refuse="maybe")  # type: ignore[arg-type]

    async def main() -> None:
        async with site(world) as one, site(world) as two, one.client() as socket:
            await expect(socket, "auth_success")
            with pytest.raises(InvalidStatus) as error:
                async with two.client():
                    pass
            assert error.value.response.status_code == 500
            await socket.close()
            await one.empty()

    run(main)


def test_closing_the_server_says_so_to_everybody(world: World) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            async with site(world) as here:
                sockets = [await stack.enter_async_context(here.client()) for _ in range(5)]
            for socket in sockets:
                assert (await closed(socket))[0] == 1001
            await here.empty()

    run(main)


def test_a_unix_socket(make: Callable[..., World], tmp_path: Path) -> None:
    world = make(handshake={"trust_unix_peers": True})

    async def main() -> None:
        path = str(tmp_path / "socket")
        guard = Guard(world.engine)
        headers = {"Authorization": f"Bearer {world.token()}", "X-Forwarded-For": "192.0.2.7"}
        handler: Any = echo
        async with (
            unix_serve(handler, path, **guard.options()),
            unix_connect(path, "ws://localhost/live", additional_headers=headers) as socket,
        ):
            await expect(socket, "auth_success")
        assert world.engine.audit()[0]["address"] == "192.0.2.7"

    run(main)


def test_a_handler_that_fails_ends_its_connection_only(world: World) -> None:
    async def handler(ws: GuardedConnection) -> None:
        async for message in ws:
            if message == CHAT:
                raise ValueError("the application is broken")
            await ws.send(message)

    async def main() -> None:
        async with site(world, handler) as here:
            async with here.client() as one, here.client() as two:
                await one.send(CHAT)
                assert (await closed(one))[0] == 1011
                await two.send(PING)
                await expect(two, "ping")
            await here.empty()

    run(main)


def test_tokens_stay_out_of_the_debug_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("websockets.client").setLevel(logging.INFO)

    async def main() -> None:
        async with site(world) as here, here.client() as socket:
            await socket.send(json.dumps({"type": "token_refresh", "token": world.token(life=7200)}))
            await socket.send(PING)
            await expect(socket, "ping")

    run(main)
    assert "Bearer" not in caplog.text
    assert "eyJ" not in caplog.text
