"""A complete guarded server: the chat of a real-estate site.

usage: server.py CONFIG PORT   (port 0 takes any)

Prints ``listening 127.0.0.1:PORT``, then one line of JSON per audit event. Lines on standard input:
``revoke ISSUER SUBJECT`` and ``quit``. Every decision about who may do what is wsauth's; this file only keeps the
application.
"""

import asyncio
import json
import sys
from collections import defaultdict, deque
from typing import Any

import wsauth
from wsauth.adapters.websockets import Guard, GuardedConnection, serve

MAX_HISTORY = 50
MAX_LISTINGS = 10_000
MAX_SUBSCRIPTIONS = 100
MAX_NAME = 128


class Chat:
    """Who listens to which listing, and what was said."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.subscribers: defaultdict[str, set[GuardedConnection]] = defaultdict(set)
        self.history: dict[str, deque[dict[str, str]]] = {}

    async def serve(self, ws: GuardedConnection) -> None:
        """Serves one connection until it ends."""
        subscribed: set[str] = set()
        try:
            async for text in ws:  # only what wsauth let through
                message = json.loads(text)
                if isinstance(message, dict):
                    await self.answer(ws, message, subscribed)
        finally:
            for listing in subscribed:
                self.subscribers[listing].discard(ws)
                if not self.subscribers[listing]:
                    del self.subscribers[listing]

    async def answer(self, ws: GuardedConnection, message: dict[str, Any], subscribed: set[str]) -> None:
        listing = message.get("listing_id")
        if not isinstance(listing, str) or not 0 < len(listing) <= MAX_NAME:
            await reply(ws, type="bad_request", field="listing_id")
            return
        match message["type"]:
            case "listing.subscribe":
                if listing not in subscribed and len(subscribed) >= MAX_SUBSCRIPTIONS:
                    await reply(ws, type="bad_request", field="listing_id")
                    return
                subscribed.add(listing)
                self.subscribers[listing].add(ws)
                await reply(ws, type="listing.subscribed", listing_id=listing)
            case "chat.send":
                text = message.get("text")
                self.say(ws, listing, text if isinstance(text, str) else "")
            case "chat.history":
                said = list(self.history.get(listing, ()))
                await reply(ws, type="chat.history", listing_id=listing, messages=said)
            case "listing.update":
                price = message.get("price")
                is_number = isinstance(price, int | float) and not isinstance(price, bool)
                self.deliver("listing.changed", listing, price=price if is_number else None)
            case _:
                pass  # allowed by the configuration, unknown to this program

    def say(self, ws: GuardedConnection, listing: str, text: str) -> None:
        identity = ws.auth.identity
        if identity is None:
            return
        # Who speaks is what the credential says, never what the message says.
        said = {"from": identity.subject, "text": text}
        if listing in self.history or len(self.history) < MAX_LISTINGS:
            self.history.setdefault(listing, deque(maxlen=MAX_HISTORY)).append(said)
        self.deliver("chat.message", listing, **said)

    def deliver(self, delivery: str, listing: str, **content: Any) -> None:
        """Sends to those subscribers who may receive it now. A subscription is a wish, not a right."""
        text = json.dumps({"type": delivery, "listing_id": listing, **content})
        self.guard.publish(self.subscribers.get(listing, ()), delivery, {"listing_id": listing}, text)


async def reply(ws: GuardedConnection, **message: Any) -> None:
    await ws.send(json.dumps(message))


def print_audit(engine: wsauth.Engine) -> None:
    while lines := engine.audit_lines(1024):
        print("\n".join(lines), flush=True)


async def print_audit_for_ever(engine: wsauth.Engine) -> None:
    while True:
        print_audit(engine)
        await asyncio.sleep(0.02)


async def obey(engine: wsauth.Engine) -> None:
    """The operator's lines. End of input leaves the server running."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        match line.decode(errors="replace").split():
            case ["revoke", issuer, subject]:
                engine.revoke(issuer=issuer, subject=subject)
            case ["quit"]:
                return
            case _:
                print("commands: revoke ISSUER SUBJECT, quit", file=sys.stderr)
    await asyncio.Event().wait()


async def main(config: str, port: int) -> None:
    engine = wsauth.Engine.from_file(config)
    guard = Guard(engine)
    async with serve(guard, Chat(guard).serve, "127.0.0.1", port) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening {host}:{port}", flush=True)
        printing = asyncio.create_task(print_audit_for_ever(engine))
        await obey(engine)
    printing.cancel()
    print_audit(engine)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
