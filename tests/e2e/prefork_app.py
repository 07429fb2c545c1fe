"""What gunicorn serves in test_prefork: an engine made, and used, before the workers are forked.

Loaded once, by the master (``--preload``). Each request is a handshake in the blocking form.
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import wsauth

engine = wsauth.Engine.from_toml(os.environ["WSAUTH_TEST_CONFIG"])


PEER = "192.0.2.1"
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
MASTER = os.getpid()


def handshake(token: str) -> wsauth.Connection:
    return engine.handshake("/live", {"Host": "live.example.com", "Authorization": f"Bearer {token}", **UPGRADE}, PEER)


# The master has threads, sockets and a connection of its own when it forks.
own = handshake(os.environ["WSAUTH_TEST_TOKEN"])


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """Says whom the token of the request stands for, and who says so."""
    answer: dict[str, object] = {"worker": os.getpid()}
    try:
        with handshake(environ["HTTP_AUTHORIZATION"].removeprefix("Bearer ")) as connection:
            assert connection.identity is not None
            answer["subject"] = connection.identity.subject
            answer["decided"] = bool(connection.message('{"type":"chat.send"}'))
        # The master's connection is none of ours.
        answer["own"] = own.message('{"type":"chat.send"}').reason
    except wsauth.Refused as refused:
        answer["refused"] = refused.reason
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def on_exit(_: object) -> None:
    """gunicorn calls this in the master when all workers are gone: is it undisturbed?"""
    assert os.getpid() == MASTER
    report: dict[str, object] = {"own": bool(own.message('{"type":"chat.send"}')), "connections": engine.connections}
    with handshake(os.environ["WSAUTH_TEST_LAST_TOKEN"]) as connection:
        assert connection.identity is not None
        report["subject"] = connection.identity.subject
    with open(os.environ["WSAUTH_TEST_REPORT"], "w") as file:
        json.dump(report, file)
