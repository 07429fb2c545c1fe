"""A clock that stands still, an issuer of our own, and engines made of both."""

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest

import wsauth

SECRET = b"0123456789abcdef0123456789abcdef"
ISSUER = "https://id.example.com"
AUDIENCE = "wss://live.example.com"
START = 1_800_000_000.0

UPGRADE = [
    ("Host", "live.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


def config(**sections: Any) -> dict[str, Any]:
    """The configuration of the tests; sections replace or add keys."""
    base: dict[str, Any] = {
        "issuer": [{"issuer": ISSUER, "audience": [AUDIENCE], "algorithms": ["HS256"], "keys": {"secret": SECRET}}],
        "handshake": {"credentials": ["authorization"], "trusted_proxies": []},
        "messages": {
            "chat.send": "chat:write",
            "listing.subscribe": "listing:{listing_id}:read",
            "ping": "public",
        },
        "deliveries": {"listing.changed": "listing:{listing_id}:read"},
    }
    for name, section in sections.items():
        base[name] = {**base[name], **section} if isinstance(base.get(name), dict) else section
    return base


def token(now: float, subject: str = "ann", life: float = 3600, **claims: Any) -> str:
    body = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "iat": int(now),
        "exp": int(now + life),
        "permissions": ["chat:write", "listing:42:read"],
        **claims,
    }
    return jwt.encode(body, SECRET, algorithm="HS256")


@dataclass
class World:
    clock: wsauth.ManualClock = field(default_factory=lambda: wsauth.ManualClock(START))
    engine: wsauth.Engine = field(init=False)

    def start(self, **sections: Any) -> "World":
        self.engine = wsauth.Engine(config(**sections), clock=self.clock)
        return self

    def token(self, subject: str = "ann", **options: Any) -> str:
        return token(self.clock.wall, subject, **options)

    def headers(self, subject: str = "ann", **options: Any) -> list[tuple[str, str]]:
        return [*UPGRADE, ("Authorization", f"Bearer {self.token(subject, **options)}")]

    def connect(self, subject: str = "ann", peer: str = "192.0.2.1", **options: Any) -> wsauth.Connection:
        return self.engine.handshake("/", self.headers(subject, **options), peer)

    def events(self, connection: wsauth.Connection) -> list[wsauth.Event]:
        return [event for event in self.engine.poll() if event.connection == connection.id]


def in_child(check: Callable[[], None]) -> None:
    """Runs a check in a forked child, and fails when it fails there."""
    child = os.fork()
    if child == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def world() -> World:
    return World().start()


@pytest.fixture
def make() -> Callable[..., World]:
    return lambda **sections: World().start(**sections)
