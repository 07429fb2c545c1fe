"""The stage: guarded servers in processes of their own, clients that talk to them, and what one may expect of both."""

import asyncio
import json
import shlex
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

ORIGIN = "https://app.homes.example"
PATIENCE = 8.0


class Surprise(Exception):
    """A server did something the story does not expect."""


@dataclass(frozen=True)
class Row:
    """One decision: the step, the operator's reason, the HTTP status, the close code."""

    step: str
    reason: str
    http: int | None = None
    close: int | None = None


@dataclass
class Server:
    """One guarded server under test, in a process of its own."""

    name: str
    process: asyncio.subprocess.Process
    port: int = 0
    audit: list[dict[str, Any]] = field(default_factory=list)
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)
    rows: list[Row] = field(default_factory=list)

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            line = raw.decode().strip()
            if line.startswith("listening "):
                self.port = int(line.rsplit(":", 1)[1])
            elif line.startswith("{"):
                self.audit.append(json.loads(line))
            async with self.heard:
                self.heard.notify_all()

    async def until(self, what: str, found: Any) -> Any:
        """Waits until `found()` answers something."""

        async def wait() -> Any:
            async with self.heard:
                while not (answer := found()):
                    if self.process.returncode is not None:
                        raise Surprise(f"{self.name}: the server ended")
                    await self.heard.wait()
                return answer

        try:
            return await asyncio.wait_for(wait(), PATIENCE)
        except TimeoutError:
            raise Surprise(f"{self.name}: no {what} within {PATIENCE:.0f} s") from None

    async def reason(self, address: str, *kinds: str) -> str:
        """The reason in the first audit event of these kinds that concerns an address."""

        def found() -> str | None:
            for event in self.audit:
                if event.get("address") == address and event["event"] in kinds:
                    return str(event.get("reason") or "accepted")
            return None

        return str(await self.until(f"audit event {kinds} for {address}", found))

    async def command(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()

    def note(self, row: Row) -> None:
        self.rows.append(row)
        http = row.http or "-"
        close = row.close or "-"
        print(f"  {self.name:<14} {row.step:<34} {row.reason:<22} {http:>5} {close:>6}", flush=True)


@asynccontextmanager
async def client(
    server: Server, address: str, token: str | None, *, origin: str | None = ORIGIN, **options: Any
) -> AsyncIterator[ClientConnection]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with connect(
        f"ws://127.0.0.1:{server.port}/live",
        origin=origin,  # type: ignore[arg-type]
        additional_headers=headers,
        local_addr=(address, 0),
        proxy=None,
        **options,
    ) as socket:
        yield socket


async def refused(server: Server, step: str, address: str, token: str | None, **options: Any) -> None:
    """A handshake that must be refused over HTTP."""
    try:
        async with client(server, address, token, **options):
            raise Surprise(f"{server.name}: {step}: the upgrade was accepted")
    except InvalidStatus as error:
        status = error.response.status_code
    reason = await server.reason(address, "handshake_refused")
    server.note(Row(step, reason, status))


async def expect(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a type; others pass by."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            text = await asyncio.wait_for(socket.recv(), deadline - time.monotonic())
        except TimeoutError:
            raise Surprise(f"no {kind} message came") from None
        message: dict[str, Any] = json.loads(text)
        if message["type"] == kind:
            return message


async def silence(socket: ClientConnection, kind: str, seconds: float = 0.7) -> None:
    """No message of a type comes for a while."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            message = json.loads(await asyncio.wait_for(socket.recv(), left))
        except TimeoutError:
            return
        if message["type"] == kind:
            raise Surprise(f"a {kind} message came after its permission was lost")


async def closed(socket: ClientConnection) -> int:
    """Reads until the server closes; its close code."""
    try:
        async with asyncio.timeout(PATIENCE + 4):
            while True:
                await socket.recv()
    except ConnectionClosed as error:
        return error.rcvd.code if error.rcvd else 1006
    except TimeoutError:
        raise Surprise("the connection was not closed") from None


async def say(socket: ClientConnection, kind: str, **fields: Any) -> None:
    await socket.send(json.dumps({"type": kind, **fields}))


async def start(command: str, config: Path) -> asyncio.subprocess.Process:
    """Starts a server: it is given its configuration and the port 0."""
    return await asyncio.create_subprocess_exec(
        *shlex.split(command),
        str(config),
        "0",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def stop(servers: list[Server]) -> None:
    """Asks every server to end, and ends those that do not."""
    for server in servers:
        if server.process.returncode is None:
            await server.command("quit")
    try:
        await asyncio.wait_for(asyncio.gather(*(server.process.wait() for server in servers)), PATIENCE)
    except TimeoutError:
        for server in servers:
            if server.process.returncode is None:
                server.process.kill()
