"""What stands between the engine and a provider? A proxy that delays, cuts, garbles, throttles or says nothing.

One request a connection: the proxy asks for ``Connection: close``, so that byte N of a response is byte N of a
connection. It counts the requests, and keeps the last response that came through whole.
"""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

# A request of the tests has some 500 bytes.
MOST_REQUEST = 1 << 20
CHUNK = 1 << 16


@dataclass(frozen=True)
class Fault:
    """What is done to a response. Positions count from the first byte of its status line, or of its body."""

    # Seconds before its first byte.
    delay: float = 0.0
    # Only so many bytes pass; then the connection is cut.
    cut_after: int | None = None
    # The bits of this byte of the body that are flipped.
    garble_body_at: int | None = None
    garble_bits: int = 0x01
    # Bytes a second; None is all at once.
    throttle: float | None = None
    # The request is read, and nothing is ever said.
    silent: bool = False


@dataclass
class Proxy:
    """Listens on a free port of loopback as long as its ``with`` lasts, and passes what comes on to ``target``.

    tls: with this context it ends TLS; the target is always asked in the clear.
    """

    target: int
    tls: ssl.SSLContext | None = None
    fault: Fault = field(default_factory=Fault)
    port: int = 0
    requests: int = 0
    last_response: bytes = b""

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "Proxy":
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def up(self) -> None:
        """Listens, on the port it had before if there was one."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._stopping.clear()
        self._start(self._accept, listener)

    def down(self) -> None:
        """Stops listening and cuts every connection. Whoever connects now is refused."""
        if self._listener is not None:
            # Closing alone does not wake a thread that waits in accept().
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self._stopping.set()
        self.cut()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def cut(self) -> None:
        """Cuts every connection there is."""
        with self._changed:
            for client in self._open:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def wait_for_requests(self, count: int, seconds: float = 30.0) -> None:
        """Returns once ``count`` requests have come. Blocks; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.requests >= count, seconds):
                raise TimeoutError(f"{self.requests} requests came instead of {count}")

    def _start(self, run: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._changed:
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                self._open.add(client)
            self._start(self._serve, client)

    def _serve(self, raw: socket.socket) -> None:
        client = raw
        try:
            if self.tls is not None:
                client = self.tls.wrap_socket(raw, server_side=True)
                with self._changed:
                    self._open.discard(raw)
                    self._open.add(client)
            request = _read_request(client)
            with self._changed:
                self.requests += 1
                fault = self.fault
                self._changed.notify_all()
            if fault.silent:
                client.recv(1)
                return
            self._answer(client, request, fault)
        except OSError:
            # The engine left, or never trusted us.
            pass
        finally:
            with self._changed:
                self._open.discard(raw)
                self._open.discard(client)
            client.close()

    def _answer(self, client: socket.socket, request: bytes, fault: Fault) -> None:
        response = self._ask(request)
        if fault.delay:
            self._stopping.wait(fault.delay)
        body = response.index(b"\r\n\r\n") + 4
        sent = bytearray(response)
        if fault.garble_body_at is not None:
            sent[body + fault.garble_body_at] ^= fault.garble_bits
        if fault.cut_after is not None:
            del sent[fault.cut_after :]
        if fault.throttle is None:
            client.sendall(sent)
        else:
            for byte in sent:
                client.sendall(bytes([byte]))
                time.sleep(1 / fault.throttle)
        if fault.cut_after is not None:
            # A reset now could overtake the bytes that were let through; an end cannot.
            client.shutdown(socket.SHUT_WR)
        with self._changed:
            self.last_response = response

    def _ask(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.target), timeout=30) as server:
            server.sendall(request)
            response = bytearray()
            while chunk := server.recv(CHUNK):
                response += chunk
        return bytes(response)


def _read_request(client: socket.socket) -> bytes:
    """Reads one request, and has its connection closed after the response."""
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        _read_more(client, data)
    lines = [line for line in bytes(data[:end]).split(b"\r\n") if line.split(b":")[0].lower() != b"connection"]
    length = next((int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")), 0)
    while len(data) < end + 4 + length:
        _read_more(client, data)
    return b"\r\n".join([*lines, b"Connection: close", b"", b""]) + bytes(data[end + 4 :])


def _read_more(client: socket.socket, data: bytearray) -> None:
    chunk = client.recv(CHUNK)
    if not chunk or len(data) > MOST_REQUEST:
        raise ConnectionError("no whole request")
    data += chunk
