"""The attack vectors through the Python face: each ends with the same reason as in Rust."""

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest

import wsauth

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors"
REASONS: dict[str, str] = json.loads((VECTORS / "reasons.json").read_text())
LINES = [json.loads(line) for line in (VECTORS / "attacks.jsonl").read_text().splitlines()]
SECRET = b"a secret of thirty-two bytes...."
NOW = 1_800_000_000
UPGRADE = [
    ("Host", "ws.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]

Table = dict[str, Any]


def issuer(told: Table, one: Table) -> Table:
    pick = {**told, **one}
    keys: Table = {}
    if "jwks" in pick:
        keys["jwks"] = pick["jwks"]
        if told.get("jwks_trust") == "local":
            keys["allow_secrets"] = True
    if "public_key_pem" in pick:
        keys["public_key"] = pick["public_key_pem"]
    if "hmac_secret_b64u" in pick:
        keys["secrets"] = [{"base64url": pick["hmac_secret_b64u"]}]
    made: Table = {
        "issuer": pick["issuer"],
        "audience": pick["audience"],
        "algorithms": pick["algorithms"],
        "keys": keys,
        "leeway": told["leeway"],
        "expiry_leeway": told["leeway"],
        "permissions_claims": told.get("scope_claims", ["scope"]),
    }
    for theirs, ours in (("require_typ", "typ"), ("max_lifetime", "max_lifetime")):
        if theirs in told:
            made[ours] = told[theirs]
    if told.get("require_jti"):
        made["required_claims"] = ["jti"]
    return made


def verifier(told: Table) -> Table:
    handshake: Table = {"credentials": ["authorization"], "trusted_proxies": [], "require_origin": False}
    if "required_scope" in told:
        handshake["required_permissions"] = [told["required_scope"]]
    if "max_token_bytes" in told:
        handshake["max_token_bytes"] = told["max_token_bytes"]
    issuers = [issuer(told, one) for one in told.get("issuers", [told])]
    return {"issuer": issuers, "handshake": handshake, "messages": {"ping": "public"}}


def own(**sections: Any) -> Table:
    base: Table = {
        "issuer": [
            {
                "issuer": "https://id.example.com",
                "audience": ["wss://live.example.com"],
                "algorithms": ["HS256"],
                "keys": {"secrets": [{"text": SECRET.decode()}]},
            }
        ],
        "handshake": {"credentials": ["authorization"], "trusted_proxies": [], "require_origin": False},
        "messages": {"ping": "public"},
    }
    return base | sections


def start(config: Table, now: float = NOW) -> wsauth.Engine:
    return wsauth.Engine(config, clock=wsauth.ManualClock(now))


def outcome(engine: wsauth.Engine, headers: list[Any], target: Any = "/ws", **options: Any) -> str:
    peer = options.pop("peer", "203.0.113.7")
    try:
        engine.handshake(target, headers, peer, **options)
    except wsauth.Refused as refused:
        return refused.reason
    return "accepted"


def run_jwt(vector: Table) -> str:
    told = vector["config"]
    try:
        engine = start(verifier(told), told["now"])
    except wsauth.ConfigError:
        return "config_invalid"
    for token_id in told.get("revoked_jti", []):
        engine.revoke(token_id=token_id, issuer=told["issuer"])
    for subject, before in told.get("revoke_before", {}).items():
        engine.revoke(subject=subject, issuer=told["issuer"], issued_before=before)
    return outcome(engine, [*UPGRADE, ("Authorization", f"Bearer {vector['token']}")])


def run_origin(vector: Table) -> str:
    told = vector["config"]
    handshake = {
        "credentials": ["first_message"],
        "origins": told["allowed_origins"],
        "require_origin": told["require_origin"],
        "trusted_proxies": [],
    }
    headers = [*UPGRADE, *(("Origin", origin.encode()) for origin in vector["origins"])]
    return outcome(start(own(handshake=handshake)), headers)


def run_handshake(vector: Table) -> str:
    told, request = vector["config"], vector["request"]
    config = verifier(told["verify"])
    handshake = config["handshake"]
    handshake |= {"origins": told["allowed_origins"], "require_origin": told["require_origin"], "credentials": []}
    for source in told["sources"]:
        kind, _, name = source.partition(":")
        handshake["credentials"].append(kind)
        if kind == "query":
            handshake["query_parameter"] = name
        elif kind == "cookie":
            handshake["cookie"] = {"name": name, "holds": "token"}
        elif kind == "subprotocol":
            handshake["subprotocol_prefixes"] = [name]
    if "max_headers" in told:
        handshake["max_fields"] = told["max_headers"]
    engine = start(config, told["verify"]["now"])
    headers = [(name, raw(value)) for name, value in request["headers"]]
    return outcome(engine, headers, raw(request["target"]), method=request["method"], peer=request["peer"])


def run_message(vector: Table) -> str:
    told, principal = vector["config"], vector["principal"]
    config = own(messages=told["message_scopes"], message={"max_bytes": told["max_message_bytes"]})
    config["issuer"][0]["permissions_claims"] = ["permissions"]
    body = {
        "iss": "https://id.example.com",
        "aud": "wss://live.example.com",
        "sub": principal["sub"],
        "permissions": principal["scopes"],
        "exp": NOW + 600,
    }
    token = jwt.encode(body, SECRET, algorithm="HS256")
    engine = start(config)
    connection = engine.handshake("/ws", [*UPGRADE, ("Authorization", f"Bearer {token}")], "203.0.113.7")
    verdict = connection.message(base64.b64decode(vector["message_b64"]).decode())
    return "accepted" if verdict else verdict.reason or verdict.kind


def run_client_ip(vector: Table) -> str:
    told = vector["config"]
    handshake = {
        "credentials": ["first_message"],
        "trusted_proxies": told["trusted_proxies"],
        "blocked": told["blocked"],
        "require_origin": False,
    }
    headers = [*UPGRADE, *((name, raw(value)) for name, value in vector["headers"])]
    return outcome(start(own(handshake=handshake)), headers, peer=vector["peer"])


def run_refresh(vector: Table) -> str:
    told, principal = vector["config"], vector["principal"]
    config = verifier(told)
    config["issuer"][0]["opaque"] = True
    engine = start(config, told["now"])
    headers = [*UPGRADE, ("Authorization", "Bearer opaque-0123456789abcdef")]
    connection = engine.start_handshake("/ws", headers, "203.0.113.7")
    for lookup in engine.lookups():
        vouched = wsauth.Vouched(
            principal["sub"],
            principal["exp"],
            permissions=principal["scopes"],
            issued_at=principal["iat"],
            session_id=principal.get("sid"),
            client_id=principal.get("client_id"),
            tenant=principal.get("tenant"),
        )
        engine.answer(lookup.id, vouched)
    try:
        connection.refresh(vector["token"])
    except wsauth.Refused as refused:
        return refused.reason
    return "accepted"


def run_introspection(vector: Table) -> str:
    response = vector["response"]
    headers = [(name, raw(value)) for name, value in response["headers"]]
    return introspect(vector["config"], (response["status"], headers, base64.b64decode(response["body_b64"])))


def run_introspection_jwt(vector: Table) -> str:
    headers = {"Content-Type": "application/token-introspection+jwt"}
    return introspect(vector["config"], (200, headers, vector["token"].encode()))


def introspect(told: Table, response: tuple[int, Any, bytes]) -> str:
    """An opaque token, and the answer of its issuer's endpoint about it."""
    signed = "jwks" in told
    config = verifier({"algorithms": [], **told})
    (made,) = config["issuer"]
    # What a token must say of its type; an answer has a type of its own.
    made.pop("typ", None)
    if not signed:
        del made["keys"], made["algorithms"]
    made["opaque"] = True
    made["introspection"] = {
        "url": "https://idp.example.com/introspect",
        "client_id": "ws",
        "client_secret": {"text": "secret"},
        "signed": signed,
    }
    config["lookups"] = {"driver": "host"}
    engine = start(config, told["now"])
    headers = [*UPGRADE, ("Authorization", "Bearer opaque-0123456789abcdef")]
    connection = engine.start_handshake("/ws", headers, "203.0.113.7")
    (lookup,) = engine.lookups()
    assert (lookup.kind, lookup.url) == ("introspection", "https://idp.example.com/introspect")
    engine.answer(lookup.id, response=response)
    (event,) = (event for event in engine.poll() if event.kind in ("ready", "refused"))
    assert event.connection == connection.id
    return event.reason or "accepted"


def raw(value: Any) -> bytes:
    """Text, or `{"b64": …}` for what is no text."""
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()


RUN = {
    "jwt": run_jwt,
    "origin": run_origin,
    "handshake": run_handshake,
    "message": run_message,
    "client_ip": run_client_ip,
    "refresh": run_refresh,
    "introspection": run_introspection,
    "introspection_jwt": run_introspection_jwt,
}
CASES = [vector for vector in LINES if vector["kind"] in RUN]


@pytest.mark.parametrize("vector", CASES, ids=lambda vector: vector["id"])
def test_the_same_reason_as_in_rust(vector: Table) -> None:
    reason = RUN[vector["kind"]](vector)
    assert (reason == "accepted") == (vector["expected"] == "accept"), vector["why"]
    assert reason == REASONS[vector["id"]]


def test_no_vector_is_left_out() -> None:
    assert {vector["id"] for vector in CASES} == set(REASONS)
