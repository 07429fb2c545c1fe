"""What does the Python half of the engine add? Files, waiting, and events kept for whoever polls."""

import asyncio
import atexit
import json
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from wsauth import _wsauth
from wsauth._functions import Introspect, Profile, Sessions, plain
from wsauth._pump import BATCH, Pump
from wsauth._wsauth import Connection, Event, ManualClock
from wsauth.errors import ConfigError, MisuseError

Text = str | bytes
Headers = Mapping[Any, Any] | Iterable[tuple[Text, Text]]
Peer = str | tuple[Any, ...] | None

# Most bytes of a configuration file.
MAX_FILE = 1 << 20

# The engine ends a handshake that waits after five seconds of its own time. This bounds the wait when that
# time stands still.
LONGEST_WAIT = 30.0

# Events kept for the next ``poll()`` while a handshake is awaited and nobody polls.
MOST_KEPT = 10_000

_engines: "weakref.WeakSet[Engine]" = weakref.WeakSet()


class Engine(_wsauth.Engine):
    """Decides the whole life of every connection of one server. Shared by all threads.

    Engine(config) takes a dict of the shape of the TOML file; see also ``from_file`` and ``from_toml``.
    ``clock`` is for tests.

    Functions of the server may vouch for what has no URL in the configuration:
    ``sessions(session_id)`` and ``introspect(issuer, token)`` return a ``Vouched``, or None for a no;
    ``profile(issuer, subject)`` returns a mapping of what is known of a subject, or None, which refuses it.
    They are plain functions, not ``async``, called on up to ``lookups.workers`` worker threads at once, so they
    may block, for up to two seconds; they may call the engine. What raises, or returns anything else, is logged
    to the logger ``wsauth``, without the error's text, and counts as no answer: neither a yes nor a no. A
    question without its function waits for ``lookups()``.

    Raises TypeError for what is no plain function, and MisuseError for functions where ``lookups.driver`` is
    ``"host"``.

    ``close()``, or the end of a ``with`` block, stops the threads.
    """

    # Where the garbage collector sees them, since they may hold the engine.
    _functions: dict[str, Callable[..., Any]]

    _kept: dict[int, deque[Event]]
    _waiting: dict[int, Callable[[Event], None]]
    # Guards poll their shard for as long as they have connections.
    _polling: dict[int, Pump]

    def __new__(
        cls,
        config: Mapping[str, Any],
        clock: ManualClock | None = None,
        *,
        sessions: Sessions | None = None,
        profile: Profile | None = None,
        introspect: Introspect | None = None,
    ) -> Self:
        functions = plain({"sessions": sessions, "profile": profile, "introspect": introspect})
        return cls._make(config, clock, False, None, functions)

    @classmethod
    def _make(
        cls,
        config: object,
        clock: ManualClock | None,
        is_text: bool,
        folder: Path | None,
        functions: dict[str, Callable[..., Any]],
    ) -> Self:
        engine = _wsauth.Engine.__new__(cls, config, clock, is_text, folder)
        engine._forget()
        engine._functions = functions
        if functions:
            engine.answer_with_functions()
        _engines.add(engine)
        return engine

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        clock: ManualClock | None = None,
        *,
        sessions: Sessions | None = None,
        profile: Profile | None = None,
        introspect: Introspect | None = None,
    ) -> Self:
        """Makes an engine from a TOML file. Files it names are looked for beside it.

        Raises ConfigError.
        """
        functions = plain({"sessions": sessions, "profile": profile, "introspect": introspect})
        return cls._make(_read(path), clock, True, Path(path).absolute().parent, functions)

    @classmethod
    def from_toml(
        cls,
        text: str,
        clock: ManualClock | None = None,
        *,
        sessions: Sessions | None = None,
        profile: Profile | None = None,
        introspect: Introspect | None = None,
    ) -> Self:
        """Makes an engine from TOML text. Raises ConfigError."""
        functions = plain({"sessions": sessions, "profile": profile, "introspect": introspect})
        return cls._make(text, clock, True, None, functions)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def reload(self, config: Mapping[str, Any] | str | os.PathLike[str]) -> None:
        """Puts another configuration in force: a dict, or the path of a TOML file.

        Raises ConfigError; the old one then stays. Connections keep their grant, and what they may do is
        decided anew from now on.
        """
        if isinstance(config, Mapping):
            self.reload_config(config)
        else:
            self.reload_config(_read(config), True, Path(config).absolute().parent)

    def handshake(
        self,
        target: Text,
        headers: Headers,
        peer: Peer,
        method: Text = "GET",
        shard: int = 0,
    ) -> Connection:
        """Decides an upgrade request. Raises Refused, whose status, headers and body answer it.

        target: as in the request line. headers: all field lines as pairs, repeated fields repeatedly; or
        a mapping. peer: the address, the tuple that ``getpeername`` gives, or ``"unix"``; never from a header.

        When an answer from outside must be waited for, this blocks until it is there, and raises
        MisuseError in a thread that runs an event loop: use ``handshake_async`` there.
        """
        connection = self.start_handshake(target, headers, peer, method, shard)
        if connection.progress != "authenticating":
            return connection
        if _loop_runs():
            connection.closed()
            raise MisuseError("an answer must be waited for: use handshake_async in an event loop", "misuse_blocking")
        return self._block(connection, shard)

    async def handshake_async(
        self,
        target: Text,
        headers: Headers,
        peer: Peer,
        method: Text = "GET",
        shard: int = 0,
    ) -> Connection:
        """The same; an answer from outside is awaited. Without one it returns at once."""
        connection = self.start_handshake(target, headers, peer, method, shard)
        if connection.progress == "authenticating":
            await self.authenticated(connection, shard)
        return connection

    async def authenticated(self, connection: Connection, shard: int = 0) -> None:
        """Waits until a connection whose progress is ``authenticating`` is let in. Raises Refused.

        The connection is ``closed()`` when this raises anything at all.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Event] = loop.create_future()

        def settle(event: Event) -> None:
            # Another thread may poll the shard.
            loop.call_soon_threadsafe(_settle, outcome, event)

        self._waiting[connection.id] = settle
        pump = None
        if shard not in self._polling:
            pump = Pump(self._poll_and_keep, self, shard, lambda event: None)
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                event = await outcome
            if (refused := event.error()) is not None:
                raise refused
        except BaseException as error:
            connection.closed()
            if isinstance(error, TimeoutError):
                raise MisuseError(
                    "nobody answers the engine's lookups and its clock stands still", "misuse_blocking"
                ) from None
            raise
        finally:
            self._waiting.pop(connection.id, None)
            if pump is not None:
                pump.stop()

    def poll(self, shard: int = 0, max: int = 1024) -> list[Event]:
        """Takes what the server must do on one shard: about ``max`` events, or a few more."""
        if (kept := self._kept.get(shard)) is None:
            return self._poll_and_tell(shard, max)
        events = [kept.popleft() for _ in range(min(max, len(kept)))]
        if not kept:
            self._kept.pop(shard, None)
        return events + self._poll_and_tell(shard, max)

    def audit(self, max: int = 1000) -> list[dict[str, Any]]:
        """Takes up to ``max`` audit events, oldest first."""
        return [json.loads(line) for line in self.audit_lines(max)]

    def _poll_and_tell(self, shard: int, max: int) -> list[Event]:
        events = self.poll_events(shard, max)
        if self._waiting:
            for event in events:
                if event.kind in ("ready", "refused") and (settle := self._waiting.get(event.connection)):
                    settle(event)
        return events

    def _poll_and_keep(self, shard: int, max: int) -> list[Event]:
        # When it is full the oldest go. A close that is lost refuses still: its connection is over.
        kept = self._kept.setdefault(shard, deque(maxlen=MOST_KEPT))
        events = self._poll_and_tell(shard, max)
        # The outcome of a handshake that is awaited is told to the one who waits.
        kept.extend(
            event for event in events if event.kind not in ("ready", "refused") or event.connection not in self._waiting
        )
        if not kept:
            self._kept.pop(shard, None)
        return events

    def _block(self, connection: Connection, shard: int) -> Connection:
        outcome: deque[Event] = deque()
        self._waiting[connection.id] = outcome.append
        left = LONGEST_WAIT
        pause = 0.001
        try:
            while not outcome and left > 0:
                try:
                    self._poll_and_keep(shard, BATCH)
                except MisuseError as error:
                    # Another thread polls this shard; it tells us.
                    if error.reason != "misuse_busy":
                        raise
                if not outcome:
                    time.sleep(pause)
                    left -= pause
                    pause = min(pause * 2, 0.02)
            if not outcome:
                raise MisuseError("nobody answers the engine's lookups", "misuse_blocking")
            if (refused := outcome[0].error()) is not None:
                raise refused
        except BaseException:
            connection.closed()
            raise
        finally:
            self._waiting.pop(connection.id, None)
        return connection

    def _forget(self) -> None:
        self._kept = {}
        self._waiting = {}
        self._polling = {}


def _settle(outcome: "asyncio.Future[Event]", event: Event) -> None:
    if not outcome.done():
        outcome.set_result(event)


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _read(path: str | os.PathLike[str]) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "not a path"
        raise ConfigError(f"the configuration file cannot be read: {what}") from None
    if len(content) > MAX_FILE:
        raise ConfigError("the configuration file is longer than 1 MiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError("the configuration file is not UTF-8") from None


def _after_fork_in_child() -> None:
    _wsauth.after_fork_in_child()
    for engine in _engines:
        engine._forget()


def _at_exit() -> None:
    # A worker must not wait for an interpreter that has ended.
    _wsauth.call_nobody()
    for engine in list(_engines):
        engine.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
