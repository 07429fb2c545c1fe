"""The libwebsockets server where the story does not look: pieces, limits, waiting for its own store, and its end.

usage: WSAUTH_LWS_SERVER=path/to/server pytest test_server.py
"""
# ruff: noqa: S101, S106, PLR2004

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

sys.path.insert(0, str(Path(__file__).parents[2] / "demo"))
from homes import AGENT, Issuer
from stage import ORIGIN

SERVER = os.environ.get("WSAUTH_LWS_SERVER", str(Path(__file__).parents[1] / "server"))
CONFIG = """
[[issuer]]
issuer = "https://id.homes.example"
audience = ["wss://live.homes.example"]
algorithms = ["EdDSA"]
keys = { jwks_file = "jwks.json" }
opaque = true

[sessions]
issuer = "session"

[handshake]
origins = ["https://app.homes.example"]
credentials = ["authorization", "subprotocol", "cookie", "first_message"]
cookie = { name = "__Host-ws", holds = "session" }
trusted_proxies = []

[messages]
"listing.subscribe" = "listing:{listing_id}:read"
"listing.update" = "listing:{listing_id}:write"
"chat.send" = "chat:write"
"chat.history" = "chat:write"

[deliveries]
"listing.changed" = "listing:{listing_id}:read"
"chat.message" = "public"

[limits]
connections_per_address = 200
messages_per_user = { count = 1000, per = "1m", burst = 1000 }
"""

Test = Callable[["Server"], Coroutine[Any, Any, None]]


class Server:
    def __init__(self, process: asyncio.subprocess.Process, port: int, issuer: Issuer) -> None:
        self.process, self.port, self.issuer = process, port, issuer
        self.audit: list[dict[str, Any]] = []

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.audit.append(json.loads(line))

    async def command(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()
        await asyncio.sleep(0.1)

    def connect(self, token: str | None = None, **options: Any) -> connect:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return connect(
            f"ws://127.0.0.1:{self.port}/live", origin=ORIGIN, additional_headers=headers, proxy=None, **options
        )

    def raw(self, *pieces: bytes, pause: float = 0.02) -> bytes:
        """Sends pieces on a bare socket; what comes back until the server closes or is silent."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as bare:
            try:
                for piece in pieces:
                    bare.sendall(piece)
                    time.sleep(pause)
                while more := bare.recv(65536):
                    answer += more
                    if b"101 Switching" in answer:
                        bare.settimeout(1.5)
            except (TimeoutError, ConnectionError):
                pass
        return answer

    def head(self, *lines: str, token: str | None = None) -> bytes:
        whole = [
            "GET /live HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Origin: {ORIGIN}",
            *([f"Authorization: Bearer {token}"] if token else []),
            *lines,
        ]
        return "\r\n".join(whole).encode() + b"\r\n\r\n"


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Server]:
    issuer = Issuer()
    (folder / "server.toml").write_text(CONFIG)
    (folder / "jwks.json").write_text(issuer.jwks())
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(SERVER, str(folder / "server.toml"), "0", stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 10)).decode()
    server = Server(process, int(line.rsplit(":", 1)[1]), issuer)
    listening = asyncio.create_task(server.listen())
    try:
        yield server
    finally:
        if process.returncode is None:
            await server.command("quit")
        assert await asyncio.wait_for(process.wait(), 10) == 0
        await listening


def run(folder: Path, test: Test) -> None:
    async def whole() -> None:
        async with serving(folder) as server:
            await asyncio.wait_for(test(server), 30)

    asyncio.run(whole())


async def expect(ws: Any, kind: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(ws.recv(), 5))
        if message["type"] == kind:
            return message


async def close_code(ws: Any) -> int:
    try:
        while True:
            await asyncio.wait_for(ws.recv(), 5)
    except ConnectionClosed as error:
        return error.rcvd.code if error.rcvd else 1006


def test_a_request_may_come_in_pieces(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        head = server.head(token=server.issuer.token("ann", AGENT))
        pieces = [head[at : at + 97] for at in range(0, len(head), 97)]
        answer = await asyncio.to_thread(server.raw, *pieces)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"auth_success" in answer

    run(tmp_path, test)


def test_what_comes_behind_the_request_is_not_lost(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        text = b'{"type":"listing.subscribe","listing_id":"42"}'
        frame = bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text
        answer = await asyncio.to_thread(server.raw, server.head(token=server.issuer.token("ann", AGENT)) + frame)
        assert b"listing.subscribed" in answer

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /live HTTP/1.1\r\n\r\n", 400),
        (b"GET /live HTTP/1.0\r\nHost: a\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a\rb: c\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nHost: a\nUpgrade: websocket\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n", 400),
    ],
)
def test_a_bad_request_is_refused(tmp_path: Path, head: bytes, status: int) -> None:
    async def test(server: Server) -> None:
        answer = await asyncio.to_thread(server.raw, head)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())

    run(tmp_path, test)


def test_an_endless_request_is_cut_off(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        answer = await asyncio.to_thread(server.raw, b"GET /live HTTP/1.1\r\n", *[b"a: " + b"b" * 16000] * 8)
        assert answer == b""
        async with server.connect(server.issuer.token("ann", AGENT)) as ws:
            await expect(ws, "auth_success")

    run(tmp_path, test)


def test_repeated_fields_are_seen(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        token = server.issuer.token("ann", AGENT)
        twice = server.head(f"Origin: {ORIGIN}", token=token)
        assert (await asyncio.to_thread(server.raw, twice)).startswith(b"HTTP/1.1 400 ")
        two = server.head("Cookie: __Host-ws=abc", token=token)
        assert (await asyncio.to_thread(server.raw, two)).startswith(b"HTTP/1.1 400 ")

    run(tmp_path, test)


def test_a_refusal_is_the_librarys_own(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        answer = await asyncio.to_thread(server.raw, server.head(token="not.a.token"))
        head, body = answer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b'WWW-Authenticate: Bearer error="invalid_token"' in head
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == 401

    run(tmp_path, test)


def test_a_session_waits_for_the_servers_own_store(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with server.connect(headers={"Cookie": "__Host-ws=s3cret"}):
                pass
        assert refused.value.response.status_code == 401
        await server.command("session s3cret carl 60 chat:write listing:42:read")
        async with server.connect(headers={"Cookie": "__Host-ws=s3cret"}) as ws:
            assert (await expect(ws, "auth_success"))["user"]["id"] == "carl"
            await ws.send('{"type":"listing.subscribe","listing_id":"42"}')
            await expect(ws, "listing.subscribed")
            await server.command("revoke session carl")
            assert await close_code(ws) == 4006
        await server.command("logout s3cret")
        with pytest.raises(InvalidStatus):
            async with server.connect(headers={"Cookie": "__Host-ws=s3cret"}):
                pass

    run(tmp_path, test)


def test_the_first_message_authenticates_and_the_next_is_held(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        def frames(token: str) -> bytes:
            texts = [{"type": "auth", "token": token}, {"type": "listing.subscribe", "listing_id": "42"}]
            return b"".join(
                bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text
                for text in (json.dumps(one).encode() for one in texts)
            )

        await server.command("session opaque-1 carl 60 listing:42:read")
        answer = await asyncio.to_thread(server.raw, server.head(), frames("opaque-1"))
        assert answer.index(b"auth_success") < answer.index(b"listing.subscribed")
        answer = await asyncio.to_thread(server.raw, server.head(), frames("opaque-2"))
        assert (4001).to_bytes(2, "big") + b"auth_failed" in answer
        assert b"listing.subscribed" not in answer
        async with server.connect() as ws:
            await ws.send(json.dumps({"type": "auth", "token": server.issuer.token("ann", AGENT)}))
            await expect(ws, "auth_success")

    run(tmp_path, test)


def test_fragments_are_one_message(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        async with server.connect(server.issuer.token("ann", AGENT)) as ws:
            await ws.send(['{"type":"listing.sub', 'scribe","listing_', 'id":"42"}'])
            await expect(ws, "listing.subscribed")
            await ws.send('{"type":"chat.send","listing_id":"42","text":"' + "x" * 60_000 + '"}')
            assert len((await expect(ws, "chat.message"))["text"]) == 60_000

    run(tmp_path, test)


def test_a_message_too_large_closes(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        async with server.connect(server.issuer.token("ann", AGENT)) as ws:
            await ws.send("x" * 70_000)
            assert await close_code(ws) == 1009

    run(tmp_path, test)


def test_json_comes_back_as_it_was_meant(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        async with server.connect(server.issuer.token('a"\\\u00e9\U0001f600', AGENT)) as ws:
            await ws.send(json.dumps({"type": "listing.subscribe", "listing_id": "42"}))
            await ws.send(
                '{"type":"chat.send","listing\\u005fid":"\\u0034\\u0032","text":"\\ud83d\\ude00 \\"x\\" \\\\"}'
            )
            said = await expect(ws, "chat.message")
            assert (said["from"], said["text"]) == ('a"\\\u00e9\U0001f600', '\U0001f600 "x" \\')
            await ws.send(json.dumps({"type": "listing.update", "listing_id": "42", "price": [1]}))
            assert (await expect(ws, "listing.changed"))["price"] is None
            await ws.send(json.dumps({"type": "chat.send", "listing_id": "42", "text": {"a": 1}}))
            assert (await expect(ws, "chat.message"))["text"] == ""
            await ws.send(json.dumps({"type": "chat.history", "listing_id": "42"}))
            assert [one["text"] for one in (await expect(ws, "chat.history"))["messages"]] == [said["text"], ""]
            await ws.send(json.dumps({"type": "chat.send", "listing_id": 42}))
            assert (await expect(ws, "bad_request"))["field"] == "listing_id"

    run(tmp_path, test)


def test_history_is_bounded(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        async with server.connect(server.issuer.token("ann", AGENT)) as ws:
            for number in range(53):
                await ws.send(json.dumps({"type": "chat.send", "listing_id": "7", "text": str(number)}))
            await ws.send(json.dumps({"type": "chat.history", "listing_id": "7"}))
            said = (await expect(ws, "chat.history"))["messages"]
            assert [one["text"] for one in said] == [str(number) for number in range(3, 53)]

    run(tmp_path, test)


def test_a_peer_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        token = server.issuer.token("ann", AGENT)
        slow = socket.create_connection(("127.0.0.1", server.port))
        slow.sendall(server.head(token=token))
        text = b'{"type":"listing.subscribe","listing_id":"42"}'
        slow.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        async with server.connect(token) as ws:
            await asyncio.sleep(0.2)
            for _ in range(200):
                await ws.send(json.dumps({"type": "chat.send", "listing_id": "42", "text": "x" * 60_000}))
            await ws.send(json.dumps({"type": "chat.history", "listing_id": "1"}))
            await expect(ws, "chat.history")
            deadline = time.monotonic() + 10
            while sum(event["event"] == "closed" for event in server.audit) < 1:
                assert time.monotonic() < deadline, "the slow peer is still there"
                await asyncio.sleep(0.1)
        slow.close()

    run(tmp_path, test)


def test_clients_that_leave_early_hold_nothing(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        token = server.issuer.token("ann", AGENT)
        for cut in (1, 60, 200, len(server.head(token=token))):
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", server.port)) as bare:
                    bare.sendall(server.head(token=token)[:cut])
        async with server.connect(token) as ws:
            await expect(ws, "auth_success")

    run(tmp_path, test)


def test_quit_says_goodbye(tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        async with server.connect(server.issuer.token("ann", AGENT)) as ws:
            await expect(ws, "auth_success")
            await server.command("quit")
            assert await close_code(ws) == 1001

    run(tmp_path, test)
