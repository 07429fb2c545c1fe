"""Guards servers of the ``websockets`` package, version 17, asyncio.

    async with wsauth.adapters.websockets.serve(engine, handler, "127.0.0.1", 8765) as server:
        await server.serve_forever()

or, with all of ``websockets.serve`` at hand: ``serve(handler, ..., **Guard(engine).options())``. There the handler
is also started for connections that are accepted only to be closed (``refuse="close"``); they yield and send nothing.

The handler gets a ``GuardedConnection``. ``recv`` and ``async for`` yield only messages that are allowed;
control messages are answered and never seen. Keep reading: a refresh is heard only while the handler reads.
``deliver`` sends what the peer may receive. ``send`` stays what it is: use it for answers to a message that was
let through.

websockets reads header lines of at most 8 KiB; longer tokens need the environment variable
``WEBSOCKETS_MAX_LINE_LENGTH``. Its debug log prints Authorization headers and tokens, so it is off for guarded
connections.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from socket import AF_UNIX
from typing import Any, ClassVar, Literal, NamedTuple, Self, overload

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as _serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Event as ProtocolEvent
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Data, Subprotocol

from wsauth import Connection, Engine, Event, MisuseError, Refused
from wsauth._pump import Pump

__all__ = ["Guard", "GuardedConnection", "serve"]

logger = logging.getLogger("wsauth")

# Texts kept for a connection while its upgrade is not answered or a fragmented message is being sent.
MOST_WAITING = 64

# How long messages that came before the end may still be read, in seconds.
LINGER = 5.0


class _Delivery(NamedTuple):
    type: str
    fields: dict[str, object]
    data: bytes
    is_text: bool


class Guard:
    """One engine guarding the connections of one event loop.

    refuse: ``"http"`` answers a refused upgrade with its status; ``"close"`` accepts it and closes with its code,
    which scripts in browsers can read.
    max_pending: most bytes that may wait for a slow peer; then it is disconnected.
    close_timeout: seconds a peer has to answer our close frame; then it is disconnected.
    touch_on_pong: whether the answer to a ping keeps an idle connection alive.
    on_permissions_changed: called with the connection, the permissions gained and those lost.
    shard: the engine's shard that this loop polls; each loop needs its own.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        refuse: Literal["http", "close"] = "http",
        max_pending: int = 1 << 20,
        close_timeout: float = 2.0,
        touch_on_pong: bool = True,
        on_permissions_changed: (Callable[["GuardedConnection", tuple[str, ...], tuple[str, ...]], None] | None) = None,
        shard: int = 0,
    ) -> None:
        if refuse not in ("http", "close"):
            raise MisuseError('refuse: "http" or "close" expected')
        self.engine = engine
        self.max_pending = max_pending
        self.close_timeout = close_timeout
        self.touch_on_pong = touch_on_pong
        self.create_connection: type[GuardedConnection] = type(
            "GuardedConnection", (GuardedConnection,), {"guard": self}
        )
        self._refuse = refuse
        self._on_permissions_changed = on_permissions_changed
        self._shard = shard
        self._sockets: dict[int, GuardedConnection] = {}
        self._pump: Pump | None = None

    def options(self) -> dict[str, Any]:
        """The arguments for ``websockets.serve``. All three are needed."""
        return {
            "process_request": self.process_request,
            "select_subprotocol": self.select_subprotocol,
            "create_connection": self.create_connection,
        }

    async def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Decides the upgrade."""
        if not isinstance(connection, self.create_connection):
            raise MisuseError("serve() needs create_connection=guard.create_connection too")
        if (peer := _peer(connection)) is None:
            # The socket is gone already: nothing to decide, and nobody to tell.
            return connection.respond(500, "internal server error\n")
        try:
            auth = self.engine.start_handshake(
                request.path, request.headers.raw_items(), peer, request.method, self._shard
            )
        except Refused as refusal:
            return self._refused(connection, refusal)
        connection._admit(auth)
        if auth.progress == "authenticating":
            try:
                await self.engine.authenticated(auth, self._shard)
            except Refused as refusal:
                return self._refused(connection, refusal)
        return None

    def select_subprotocol(self, connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        """Answers with the subprotocol the engine chose; never with one that carries a token."""
        if not isinstance(connection, self.create_connection):
            return None
        if connection._auth is not None:
            chosen = connection._auth.subprotocol
            return None if chosen is None else Subprotocol(chosen)
        # Accepted only to be closed: browsers insist on an answer to their offer.
        served, prefixes = self.engine.subprotocols
        real = [item for item in offered if not item.lower().startswith(tuple(map(str.lower, prefixes)))]
        wanted = [Subprotocol(item) for item in served if item in real] if served else real
        return wanted[0] if wanted else None

    def publish(
        self,
        connections: Iterable["GuardedConnection"],
        delivery_type: str,
        fields: dict[str, object],
        data: str | bytes,
    ) -> int:
        """Sends to those who may receive it now, and waits for none. Returns how many that were.

        A peer that has not taken ``max_pending`` bytes by then is disconnected instead.
        """
        live = {
            connection.auth.id: connection
            for connection in connections
            if connection._open and connection.state is State.OPEN
        }
        auths = [connection.auth for connection in live.values()]
        allowed = self.engine.authorize_deliveries(auths, delivery_type, **fields)
        delivery = _delivery(delivery_type, fields, data)
        return sum(live[auth.id]._deliver(delivery) for auth in allowed)

    def _refused(self, connection: "GuardedConnection", refusal: Refused) -> Response | None:
        if self._refuse == "close":
            connection._end(refusal.close_code, refusal.public, refusal.reason)
            return None
        response = connection.respond(refusal.status, refusal.body)
        del response.headers["Content-Type"]
        for name, value in refusal.headers:
            response.headers[name] = value
        return response

    def _add(self, connection: "GuardedConnection") -> None:
        self._sockets[connection.auth.id] = connection
        polling = self.engine._polling.get(self._shard)
        if polling is None:
            # A pump of ours that nobody knows is the parent's, from before a fork.
            self._pump = Pump(self._poll, self.engine, self._shard, self._take)
            self.engine._polling[self._shard] = self._pump
        elif polling is not self._pump:
            raise MisuseError("another guard or loop polls this shard: give each its own", "misuse_busy")

    def _remove(self, connection: "GuardedConnection") -> None:
        self._sockets.pop(connection.auth.id, None)
        if not self._sockets and self._pump is not None:
            self._pump.stop()
            self._pump = None
            self.engine._polling.pop(self._shard, None)

    def _poll(self, shard: int, most: int) -> list[Event]:
        try:
            return self.engine.poll(shard, most)
        except MisuseError as error:
            # The application polls the same shard from another thread; the descriptor stays readable.
            if error.reason != "misuse_busy":
                raise
            return []

    def _take(self, event: Event) -> None:
        connection = self._sockets.get(event.connection)
        if connection is None:
            return
        try:
            connection._take(event)
        except Exception:
            # One connection's failure must not cost the others their events.
            logger.exception("an event could not be served; its connection is dropped")
            connection.transport.abort()


class GuardedConnection(ServerConnection):
    """A connection whose every message and delivery wsauth decides about."""

    guard: ClassVar[Guard]

    def __init__(self, protocol: ServerProtocol, server: Server, **options: Any) -> None:
        super().__init__(protocol, server, **options)
        self.debug = protocol.debug = False
        self._auth: Connection | None = None
        self._open = False
        self._lost = False
        self._ending: tuple[int, str] | None = None
        self._end_reason: str | None = None
        self._waiting: deque[str | _Delivery] = deque()
        self._held: Data | None = None
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def auth(self) -> Connection:
        """The connection as wsauth knows it: ``identity``, ``permissions``, ``refresh`` and more."""
        if self._auth is None:
            raise MisuseError("this connection was not admitted", "misuse_handle")
        return self._auth

    @property
    def end_reason(self) -> str | None:
        """Why wsauth ended this connection, if it did: a name in ``wsauth.REFUSALS``."""
        return self._end_reason

    @overload
    async def recv(self, decode: Literal[True]) -> str: ...

    @overload
    async def recv(self, decode: Literal[False]) -> bytes: ...

    @overload
    async def recv(self, decode: bool | None = None) -> Data: ...

    async def recv(self, decode: bool | None = None) -> Data:
        """The next message that is allowed. Raises ConnectionClosed as in websockets. Cancelling is safe."""
        while True:
            if self._held is None:
                try:
                    # Text and binary are judged differently, so the form is kept until then.
                    self._held = await super().recv()
                except ConnectionClosed:
                    self._say_closed()
                    raise
            if self._auth is None:
                # Accepted only to be closed: nothing it says is heard.
                self._held = None
                continue
            verdict = self._auth.message(self._held)
            if verdict.kind == "hold":
                self._changed.clear()
                await self._changed.wait()
                continue
            data, self._held = self._held, None
            if verdict:
                break
        if decode is True and isinstance(data, bytes):
            return data.decode()
        if decode is False and isinstance(data, str):
            return data.encode()
        return data

    @overload
    def recv_streaming(self, decode: Literal[True]) -> AsyncIterator[str]: ...

    @overload
    def recv_streaming(self, decode: Literal[False]) -> AsyncIterator[bytes]: ...

    @overload
    def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]: ...

    async def recv_streaming(self, decode: bool | None = None) -> AsyncIterator[Data]:
        """The next message that is allowed, in one piece: half a message cannot be judged."""
        yield await self.recv(decode)

    async def __aiter__(self) -> AsyncIterator[Data]:
        """Messages that are allowed, until the connection ends. Its end by wsauth is no error here."""
        try:
            while True:
                yield await self.recv()
        except ConnectionClosedOK:
            return
        except ConnectionClosed:
            if self._ending is None:
                raise

    async def deliver(self, delivery_type: str, fields: dict[str, object], data: str | bytes) -> bool:
        """Sends to this peer if it may receive this now. False when it may not, or is not there any more.

        Does not wait for a slow peer: one that has not taken ``max_pending`` bytes is disconnected.
        """
        while self.send_in_progress is not None:
            await asyncio.shield(self.send_in_progress)
        return self._deliver(_delivery(delivery_type, fields, data), ask=True)

    # What websockets calls.

    async def __aenter__(self) -> Self:
        # The upgrade was answered, and the handler has not begun.
        self._opened()
        return self

    def process_event(self, event: ProtocolEvent) -> None:
        if (
            self._auth is not None
            and isinstance(event, Frame)
            and event.opcode is Opcode.PONG
            and self.guard.touch_on_pong
            and bytes(event.data) in self.pending_pings
        ):
            self._auth.touch()
        super().process_event(event)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost = True
        self._changed.set()
        if self._timer is not None:
            self._timer.cancel()
        if len(self.recv_messages.frames) == 0 and self._held is None:
            self._say_closed()
        else:
            # The peer spoke and left. What it said may still be read, for a while.
            self._timer = self.loop.call_later(LINGER, self._say_closed)

    # What the guard calls.

    def _admit(self, auth: Connection) -> None:
        self._auth = auth
        self.guard._add(self)
        if self._lost:
            self._say_closed()

    def _take(self, event: Event) -> None:
        self._changed.set()
        if event.kind == "send" and event.text is not None:
            self._send_soon(event.text)
        elif event.kind in ("close", "refused") and event.code is not None:
            self._end(event.code, event.public or "", event.reason)
        elif event.kind == "permissions_changed" and self.guard._on_permissions_changed is not None:
            self.guard._on_permissions_changed(self, event.added, event.removed)

    def _opened(self) -> None:
        self._open = True
        if self._auth is None and self._ending is None:
            logger.error("a connection was opened without process_request; serve() needs it")
            self._ending = (1011, "misuse")
        self._flush()
        if self._ending is not None:
            self._close_now(*self._ending)

    def _end(self, code: int, public: str, reason: str | None) -> None:
        if self._ending is None:
            self._ending = (code, public)
            self._end_reason = reason
            if self._open:
                self._close_now(code, public)

    def _close_now(self, code: int, public: str) -> None:
        if self.protocol.state is State.OPEN:
            # A close frame may stand between the fragments of a message.
            self.protocol.send_close(code, public)
            self._write_out()
        if not self._lost and self._timer is None:
            self._timer = self.loop.call_later(self.guard.close_timeout, self.transport.abort)

    def _send_soon(self, item: str | _Delivery) -> None:
        self._waiting.append(item)
        if len(self._waiting) > MOST_WAITING:
            self.transport.abort()
        else:
            self._flush()

    def _flush(self) -> None:
        """Sends what waits, unless the upgrade is not answered or a message is half sent."""
        while self._open and self._waiting:
            if self.send_in_progress is not None:
                self.send_in_progress.add_done_callback(lambda _: self._flush())
                return
            item = self._waiting.popleft()
            if isinstance(item, str):
                self._write(item.encode(), True)
            else:
                self._deliver(item, ask=True)

    def _deliver(self, delivery: _Delivery, ask: bool = False) -> bool:
        if not self._open or self._auth is None:
            return False
        if self.send_in_progress is not None:
            # It is asked about again when its turn comes.
            self._send_soon(delivery)
            return True
        if ask and not self._auth.authorize_delivery(delivery.type, **delivery.fields):
            return False
        return self._write(delivery.data, delivery.is_text)

    def _write(self, data: bytes, is_text: bool) -> bool:
        if self.protocol.state is not State.OPEN:
            return False
        if self.transport.get_write_buffer_size() > self.guard.max_pending:
            self.transport.abort()
            return False
        if is_text:
            self.protocol.send_text(data)
        else:
            self.protocol.send_binary(data)
        self._write_out()
        return True

    def _write_out(self) -> None:
        try:
            self.send_data()
        except Exception as error:
            self.set_connection_exc(error)
            self.transport.abort()

    def _say_closed(self) -> None:
        if self._auth is not None:
            self._auth.closed()
            self.guard._remove(self)
            # Whoever holds a message back need not wait any longer.
            self._changed.set()


def serve(
    engine: Engine | Guard,
    handler: Callable[[GuardedConnection], Awaitable[None]],
    host: str | None = None,
    port: int | None = None,
    **options: Any,
) -> Server:
    """``websockets.serve`` with every connection guarded. Takes its options, but not those the guard needs itself.

    Pass a ``Guard`` in place of the engine to tune it.
    """
    guard = engine if isinstance(engine, Guard) else Guard(engine)
    mine = guard.options()
    if taken := sorted(mine.keys() & options.keys()):
        raise MisuseError(f"serve() sets {', '.join(taken)} itself")

    async def guarded(connection: ServerConnection) -> None:
        if isinstance(connection, GuardedConnection) and connection._auth is not None and connection._ending is None:
            await handler(connection)
        else:
            # Accepted only to be closed, or ended before it began: the handler never hears of it.
            await connection.wait_closed()

    guard.engine.prefetch()
    return _serve(guarded, host, port, **mine, **options)


def _peer(connection: ServerConnection) -> str | tuple[Any, ...] | None:
    socket = connection.transport.get_extra_info("socket")
    if socket is not None and socket.family == AF_UNIX:
        return "unix"
    address = connection.remote_address
    return address if isinstance(address, tuple) else None


def _delivery(delivery_type: str, fields: dict[str, object], data: str | bytes) -> _Delivery:
    if isinstance(data, str):
        return _Delivery(delivery_type, fields, data.encode(), True)
    return _Delivery(delivery_type, fields, data, False)
