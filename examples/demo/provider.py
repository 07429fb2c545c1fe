"""The second act: a provider on the network. Its keys rotate; its opaque tokens are introspected and revoked."""

import asyncio
import base64
import json
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from stage import Row, Server, Surprise, client, closed, expect, refused, say

AUDIENCE = "wss://live.homes.example"
PERMISSIONS = "chat:write listing:42:read"
CLIENT = "Basic " + base64.b64encode(b"homes:a+secret+of+the+demo").decode()

# A key set is fetched again after 30 s; the next key is announced before that and used after it.
ROTATION = 40.0

EXPECTED = [
    Row("a token of the provider", "accepted", 101),
    Row("an opaque token", "accepted", 101),
    Row("what it may say", "delivered", 101),
    Row("it is revoked at the provider", "revoked", 101, 4006),
    Row("the token after its revocation", "token_inactive", 401),
    Row("a token signed with the next key", "accepted", 101),
]


@dataclass
class Provider:
    """An OpenID provider in this process: discovery, key set, introspection (RFC 7662)."""

    keys: list[Ed25519PrivateKey] = field(default_factory=lambda: [Ed25519PrivateKey.generate()])
    opaque: dict[str, dict[str, Any]] = field(default_factory=dict)
    fetches: int = 0
    announced: int | None = None

    def __enter__(self) -> Self:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer(provider.document(self.path))

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                if self.path != "/introspect" or self.headers["Authorization"] != CLIENT:
                    self.answer(None)
                    return
                token = urllib.parse.parse_qs(form)["token"][0]
                self.answer(provider.opaque.get(token, {"active": False}))

            def answer(self, document: dict[str, Any] | None) -> None:
                body = json.dumps(document).encode()
                self.send_response(404 if document is None else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def document(self, path: str) -> dict[str, Any] | None:
        if path == "/.well-known/openid-configuration":
            return {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "introspection_endpoint": f"{self.url}/introspect",
            }
        if path != "/jwks":
            return None
        self.fetches += 1
        return {"keys": [self.jwk(number) for number in range(len(self.keys))]}

    def jwk(self, number: int) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.keys[number].public_key()))
        return {**public, "kid": f"key-{number}", "use": "sig", "alg": "EdDSA"}

    async def announce_next_key(self, servers: int) -> None:
        """Publishes the next key once every server has the first one."""
        while self.fetches < servers:
            await asyncio.sleep(0.05)
        self.announced = self.fetches
        self.keys.append(Ed25519PrivateKey.generate())

    def token(self, subject: str, number: int) -> str:
        body = {**self.claims(subject), "iss": self.url}
        return jwt.encode(body, self.keys[number], algorithm="EdDSA", headers={"kid": f"key-{number}"})

    def opaque_token(self, subject: str) -> str:
        token = f"opaque-{subject}-{time.monotonic_ns()}"
        self.opaque[token] = {"active": True, "token_type": "Bearer", **self.claims(subject)}
        return token

    def claims(self, subject: str) -> dict[str, Any]:
        now = int(time.time())
        return {"sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + 600, "scope": PERMISSIONS}

    def revoke(self, token: str) -> None:
        self.opaque[token] = {"active": False}


async def vouch(server: Server, provider: Provider) -> None:
    async with client(server, "127.0.2.1", provider.token("ann", 0)) as socket:
        await expect(socket, "auth_success")
        server.note(Row("a token of the provider", await server.reason("127.0.2.1", "handshake_accepted"), 101))


async def revocation(server: Server, provider: Provider) -> None:
    token = provider.opaque_token(f"olga-{server.name}")
    async with client(server, "127.0.2.2", token) as socket:
        await expect(socket, "auth_success")
        server.note(Row("an opaque token", await server.reason("127.0.2.2", "handshake_accepted"), 101))
        await say(socket, "listing.subscribe", listing_id="42")
        await expect(socket, "listing.subscribed")
        await say(socket, "chat.send", listing_id="42", text="Is it still for sale?")
        if (await expect(socket, "chat.message"))["text"] != "Is it still for sale?":
            raise Surprise(f"{server.name}: the chat message is another")
        server.note(Row("what it may say", "delivered", 101))
        provider.revoke(token)
        code = await closed(socket)
        reason = await server.reason("127.0.2.2", "closed", "closing")
        server.note(Row("it is revoked at the provider", reason, 101, code))
    await refused(server, "the token after its revocation", "127.0.2.3", token)


async def rotation(server: Server, provider: Provider) -> None:
    until = time.monotonic() + ROTATION
    # Every server fetches the set once more: then all know the next key.
    while provider.announced is None or provider.fetches < 2 * provider.announced:
        if time.monotonic() > until:
            raise Surprise(f"{server.name}: the key set was not fetched again")
        await asyncio.sleep(0.1)
    async with client(server, "127.0.2.4", provider.token("ann", 1)) as socket:
        await expect(socket, "auth_success")
        reason = await server.reason("127.0.2.4", "handshake_accepted")
        server.note(Row("a token signed with the next key", reason, 101))


CHAPTERS = [vouch, revocation, rotation]
