"""Two acts, told to every guarded server at once; each decision is compared.

usage: story.py NAME=COMMAND...   (a command is given the config path and the port 0)

Exits 1 when a server decides anything else than an act expects, or two servers decide differently.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import homes
import provider
from stage import Row, Server, Surprise, start, stop
from websockets.exceptions import ConnectionClosed, InvalidStatus

HERE = Path(__file__).parent

Chapter = Callable[[Server, Any], Awaitable[None]]


@dataclass
class Act:
    """What is told, who vouches, and what every server must decide."""

    title: str
    issuer: Any
    chapters: Sequence[Chapter]
    expected: list[Row]
    servers: list[Server] = field(default_factory=list)

    async def open(self, commands: list[str], config: Path) -> None:
        """Starts every server with a configuration."""
        for text in commands:
            name, command = text.split("=", 1)
            self.servers.append(Server(name, await start(command, config)))

    async def tell(self) -> list[str]:
        """Tells the act to every server. What went wrong, if anything did."""
        print(f"\n  {self.title}")
        print(f"  {'server':<14} {'step':<34} {'reason':<22} {'http':>5} {'close':>6}")
        problems = await asyncio.gather(*(self.tell_one(server) for server in self.servers))
        found = [problem for problem in problems if problem]
        if any(server.rows != self.servers[0].rows for server in self.servers):
            found.append(f"{self.title}: the servers decided differently")
        return found

    async def tell_one(self, server: Server) -> str | None:
        try:
            await server.until("port", lambda: server.port)
            for chapter in self.chapters:
                await chapter(server, self.issuer)
        except Surprise as error:
            return str(error)
        except (InvalidStatus, ConnectionClosed, OSError) as error:
            return f"{server.name}: {error!r}"
        if server.rows != self.expected:
            wrong = [(got, want) for got, want in zip(server.rows, self.expected, strict=False) if got != want]
            return f"{server.name}: unexpected decision: {wrong[0] if wrong else len(server.rows)}"
        return None


async def main(commands: list[str]) -> int:
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder, provider.Provider() as vouching:
        own = homes.Issuer()
        shutil.copy(HERE / "homes.toml", folder)
        (Path(folder) / "jwks.json").write_text(own.jwks())
        text = (HERE / "provider.toml").read_text().replace("PROVIDER", vouching.url)
        (Path(folder) / "provider.toml").write_text(text)
        acts = [
            Act("A life of connections", own, homes.CHAPTERS, homes.EXPECTED),
            Act("A provider on the network vouches", vouching, provider.CHAPTERS, provider.EXPECTED),
        ]
        # Both are open from the start: the provider's keys are fetched and refreshed while the first is told.
        for act, config in zip(acts, ["homes.toml", "provider.toml"], strict=True):
            await act.open(commands, Path(folder) / config)
        servers = [server for act in acts for server in act.servers]
        listeners = [asyncio.create_task(server.listen()) for server in servers]
        announced = asyncio.create_task(vouching.announce_next_key(len(commands)))
        for act in acts:
            problems += await act.tell()
        announced.cancel()
        await stop(servers)
        await asyncio.gather(*listeners)
        decisions = sum(len(act.expected) for act in acts)
    for problem in problems:
        print(f"UNEXPECTED  {problem}", file=sys.stderr)
    if problems:
        return 1
    print(f"\n{decisions} decisions, identical on {len(commands)} servers.")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
