"""Do clients notice when the provider changes its keys? None may be refused."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import wsauth
from authority import Authority
from conftest import CHAT, admit, closed, config, discovered, fetched, refusal, run, site, until
from peers import Provider

# Longer than the pause between two fetches for unknown keys, and than the shortest `refresh`.
LATER = 31.0

CLIENTS = 3


class Crowd:
    """Clients that connect with tokens made just before, one after the other, and count how it went."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused: list[str] = []

    @asynccontextmanager
    async def connecting(self, engine: wsauth.Engine, provider: Provider) -> AsyncIterator[None]:
        stop = asyncio.Event()

        async def connect_again_and_again() -> None:
            async with site(engine) as here:
                while not stop.is_set():
                    token = await asyncio.to_thread(provider.machine_token)
                    status = await here.status(token)
                    if status == 101:
                        self.accepted += 1
                    else:
                        self.refused.append(f"{status} after {self.accepted} were accepted")

        async def connect_directly() -> None:
            while not stop.is_set():
                token = await asyncio.to_thread(provider.machine_token, "jwt/ES256")
                try:
                    (await admit(engine, token)).closed()
                except wsauth.Refused as refused:
                    self.refused.append(f"{refused.reason} after {self.accepted} were accepted")
                else:
                    self.accepted += 1

        tasks = [asyncio.create_task(connect_again_and_again())]
        tasks += [asyncio.create_task(connect_directly()) for _ in range(CLIENTS - 1)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def grow(self, count: int = 20) -> None:
        """Waits for so many more."""
        wanted = self.accepted + len(self.refused) + count
        await until(lambda: self.accepted + len(self.refused) >= wanted)


def fetches(provider: Provider) -> int:
    return provider.counts().get("GET /jwks", 0)


def test_keys_that_are_published_first_are_changed_without_one_refused_client(
    provider: Provider, authority: Authority
) -> None:
    clock = wsauth.ManualClock(time.time())
    engine = wsauth.Engine(config(discovered(provider, authority, refresh="30s")), clock)
    crowd = Crowd()
    old = provider.log_in("ann")

    async def refetched() -> None:
        """Lets `refresh` pass and waits until the set was fetched and serves."""
        before = fetches(provider)
        clock.advance(LATER)
        await until(lambda: fetches(provider) > before)
        await crowd.grow()

    async def main() -> None:
        async with crowd.connecting(engine, provider):
            await crowd.grow()
            provider.order("publish")
            await refetched()
            provider.order("sign")
            await crowd.grow()
            (await admit(engine, old)).closed()
            # Nobody has a token of the old key any more, as far as this provider is concerned.
            provider.order("withdraw")
            await refetched()
        assert (await refusal(engine, old)).status == 401

    run(main)
    assert crowd.refused == []


def test_keys_that_are_used_at_once_are_fetched_for_the_first_who_needs_them(
    provider: Provider, authority: Authority
) -> None:
    clock = wsauth.ManualClock(time.time())
    engine = wsauth.Engine(config(discovered(provider, authority, refresh="10m")), clock)
    crowd = Crowd()

    async def main() -> None:
        async with crowd.connecting(engine, provider):
            await crowd.grow()
            clock.advance(LATER)
            before = fetched(engine)
            provider.order("publish")
            provider.order("sign")
            await crowd.grow()
            assert fetched(engine) == before + 2, "the discovery document and the key set, once"

    run(main)
    provider.order("withdraw")
    assert crowd.refused == []


def test_connections_of_a_key_that_is_withdrawn_are_asked_to_refresh_or_closed(
    provider: Provider, authority: Authority
) -> None:
    clock = wsauth.ManualClock(time.time())
    sections = {"refresh": {"on_key_removed": "close"}}
    engine = wsauth.Engine(config(discovered(provider, authority, refresh="30s"), **sections), clock)
    token = provider.log_in("ann")

    async def main() -> None:
        async with site(engine) as here, here.client(token, "ann") as socket:
            await socket.send(CHAT)
            assert await socket.recv() == CHAT
            provider.order("publish")
            provider.order("sign")
            provider.order("withdraw")
            clock.advance(LATER)
            assert await closed(socket) == 4006

    run(main)
