"""The first act: a whole life of connections on a small real-estate platform."""

import asyncio
import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from stage import Row, Server, Surprise, client, closed, expect, refused, say, silence
from websockets.exceptions import ConnectionClosed

ISSUER = "https://id.homes.example"
AUDIENCE = "wss://live.homes.example"

READ = ["chat:write", "listing:42:read"]
AGENT = [*READ, "listing:42:write"]

EXPECTED = [
    Row("a good token", "accepted", 101),
    Row("no token", "credential_missing", 401),
    Row("a wrong origin", "origin_refused", 403),
    Row("an expired token", "token_expired", 401),
    Row("a tampered token", "signature_invalid", 401),
    Row("token as subprotocol", "accepted", 101),
    Row("chat about a listing", "delivered", 101),
    Row("a price update", "delivered", 101),
    Row("a viewer updates a price", "permission_missing", 101),
    Row("a refresh that loses a permission", "refreshed", 101),
    Row("its stream stops", "permission_missing", 101),
    Row("a refresh by another user", "identity_mismatch", 101),
    Row("a flood", "message_rate", 101, 4008),
    Row("a logout closes two sockets", "revoked", 101, 4006),
    Row("the token after its logout", "token_revoked", 401),
    Row("the eleventh connection", "address_connections", 429),
    Row("an idle connection", "inactive", 101, 4003),
    Row("expiry without refresh", "refresh_timeout", 101, 4005),
]


@dataclass
class Issuer:
    """An identity provider of our own: one Ed25519 key."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def jwks(self) -> str:
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.key.public_key()))
        return json.dumps({"keys": [{**public, "kid": "homes-1", "use": "sig", "alg": "EdDSA"}]})

    def token(self, subject: str, permissions: list[str], life: float = 10, **claims: Any) -> str:
        now = time.time()
        body = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": int(min(now, now + life)) - 1,
            "exp": now + life,
            "jti": f"{subject}-{time.monotonic_ns()}",
            "permissions": permissions,
            **claims,
        }
        return jwt.encode(body, self.key, algorithm="EdDSA", headers={"kid": "homes-1"})


async def handshakes(server: Server, issuer: Issuer) -> None:
    token = issuer.token("ann", AGENT)
    async with client(server, "127.0.1.1", token) as socket:
        await expect(socket, "auth_success")
        server.note(Row("a good token", await server.reason("127.0.1.1", "handshake_accepted"), 101))
    await refused(server, "no token", "127.0.1.2", None)
    await refused(server, "a wrong origin", "127.0.1.3", token, origin="https://evil.example")
    await refused(server, "an expired token", "127.0.1.4", issuer.token("ann", AGENT, life=-5))
    head, body, signature = token.split(".")
    await refused(server, "a tampered token", "127.0.1.5", f"{head}.{body}.{signature[:20]}AAAA{signature[24:]}")


async def browser_ways(server: Server, issuer: Issuer) -> None:
    token = issuer.token("ann", AGENT)
    item = "wsauth.bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    async with client(server, "127.0.1.6", None, subprotocols=["homes.v1", item]) as socket:
        await expect(socket, "auth_success")
        if socket.subprotocol != "homes.v1":
            raise Surprise(f"{server.name}: answered subprotocol {socket.subprotocol!r}")
        server.note(Row("token as subprotocol", await server.reason("127.0.1.6", "handshake_accepted"), 101))


async def listing(server: Server, issuer: Issuer) -> None:
    agent_token, client_token = issuer.token("ann", AGENT), issuer.token("carl", READ)
    async with (
        client(server, "127.0.1.8", agent_token) as agent,
        client(server, "127.0.1.9", client_token) as buyer,
    ):
        for socket in (agent, buyer):
            await say(socket, "listing.subscribe", listing_id="42")
            await expect(socket, "listing.subscribed")
        await say(agent, "chat.send", listing_id="42", text="It has a garden.")
        heard = [await expect(socket, "chat.message") for socket in (agent, buyer)]
        if any(message["from"] != "ann" or message["text"] != "It has a garden." for message in heard):
            raise Surprise(f"{server.name}: the chat message is another")
        server.note(Row("chat about a listing", "delivered", 101))
        await say(agent, "listing.update", listing_id="42", price=410_000)
        for socket in (agent, buyer):
            if (await expect(socket, "listing.changed"))["price"] != 410_000:
                raise Surprise(f"{server.name}: another price came")
        server.note(Row("a price update", "delivered", 101))
        await say(buyer, "listing.update", listing_id="42", price=1)
        if (await expect(buyer, "error"))["code"] != "permission_denied":
            raise Surprise(f"{server.name}: the viewer was told something else")
        reason = await server.reason("127.0.1.9", "message_refused")
        server.note(Row("a viewer updates a price", reason, 101))


async def refreshes(server: Server, issuer: Issuer) -> None:
    agent_token = issuer.token("ann", AGENT)
    async with (
        client(server, "127.0.1.10", agent_token) as agent,
        client(server, "127.0.1.11", issuer.token("dora", READ, life=6)) as buyer,
    ):
        await say(buyer, "listing.subscribe", listing_id="42")
        await expect(buyer, "listing.subscribed")
        await expect(buyer, "token_refresh_required")
        await say(buyer, "token_refresh", token=issuer.token("dora", ["chat:write"]))
        if (await expect(buyer, "token_refreshed"))["removed"] != ["listing:42:read"]:
            raise Surprise(f"{server.name}: the refresh removed something else")
        reason = await server.reason("127.0.1.11", "refreshed")
        server.note(Row("a refresh that loses a permission", "refreshed" if reason == "accepted" else reason, 101))
        await say(agent, "listing.update", listing_id="42", price=405_000)
        await silence(buyer, "listing.changed")
        server.note(Row("its stream stops", await server.reason("127.0.1.11", "delivery_refused"), 101))
        await say(buyer, "token_refresh", token=issuer.token("eve", AGENT))
        await expect(buyer, "token_refresh_failed")
        server.note(Row("a refresh by another user", await server.reason("127.0.1.11", "refresh_refused"), 101))


async def flood(server: Server, issuer: Issuer) -> None:
    async with client(server, "127.0.1.12", issuer.token("flo", READ)) as socket:

        async def shout() -> None:
            try:
                for number in range(200):
                    await say(socket, "chat.send", listing_id="7", text=str(number))
            except ConnectionClosed:
                pass

        shouting = asyncio.create_task(shout())
        await expect(socket, "rate_limited")
        code = await closed(socket)
        await shouting
        server.note(Row("a flood", await server.reason("127.0.1.12", "closed", "closing"), 101, code))


async def logout(server: Server, issuer: Issuer) -> None:
    token = issuer.token("lou", READ)
    async with client(server, "127.0.1.13", token) as phone, client(server, "127.0.1.13", token) as laptop:
        for socket in (phone, laptop):
            await expect(socket, "auth_success")
        await server.command(f"revoke {ISSUER} lou")
        codes = await asyncio.gather(closed(phone), closed(laptop))
        if codes[0] != codes[1]:
            raise Surprise(f"{server.name}: two close codes for one logout: {codes}")
        reason = await server.reason("127.0.1.13", "closed", "closing")
        server.note(Row("a logout closes two sockets", reason, 101, codes[0]))
    await refused(server, "the token after its logout", "127.0.1.14", token)


async def crowd(server: Server, issuer: Issuer) -> None:
    sockets = []
    try:
        for number in range(10):
            context = client(server, "127.0.1.15", issuer.token(f"user{number}", READ))
            sockets.append(context)
            await context.__aenter__()
        await refused(server, "the eleventh connection", "127.0.1.15", issuer.token("user10", READ))
    finally:
        for context in sockets:
            await context.__aexit__(None, None, None)


async def idle(server: Server, issuer: Issuer) -> None:
    async with client(server, "127.0.1.16", issuer.token("ida", READ)) as socket:
        code = await closed(socket)
        server.note(Row("an idle connection", await server.reason("127.0.1.16", "closed", "closing"), 101, code))


async def expiry(server: Server, issuer: Issuer) -> None:
    async with client(server, "127.0.1.17", issuer.token("max", READ, life=5)) as socket:
        await expect(socket, "auth_success")
        await expect(socket, "token_refresh_required")
        for _ in range(3):  # busy, so that only the token can end it
            await say(socket, "chat.send", listing_id="7", text="still here")
            await asyncio.sleep(0.6)
        code = await closed(socket)
        server.note(Row("expiry without refresh", await server.reason("127.0.1.17", "closed", "closing"), 101, code))


CHAPTERS = [handshakes, browser_ways, listing, refreshes, flood, logout, crowd, idle, expiry]
