#!/usr/bin/env python3
"""Has tests/vectors/attacks.jsonl decided by a C program, and compares each reason with tests/vectors/reasons.json.

It only writes the vectors as lines (see vectors.c); every decision is made in C.
"""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
KINDS = ("jwt", "origin", "handshake", "message", "client_ip", "refresh", "introspection", "introspection_jwt")
SECRET = "a secret of thirty-two bytes...."
ISSUER = "https://id.example.com"
AUDIENCE = "wss://live.example.com"
FIELDS = [
    ("Host", "ws.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


def toml(value) -> str:
    """A JSON value as an inline TOML value."""
    if value is None:
        return '""'
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def word(value: str | bytes) -> str:
    return (value.encode() if isinstance(value, str) else value).hex() or "-"


def raw(value) -> bytes:
    """Text, or {"b64": ...} for what is no text."""
    if isinstance(value, str):
        return value.encode()
    return base64.urlsafe_b64decode(value["b64"].replace("+", "-").replace("/", "_") + "==")


def line(verb: str, *values: str | bytes) -> str:
    return " ".join([verb, *map(word, values)])


def configured(config: dict, now_ms: int) -> str:
    text = "".join(f"{key} = {toml(value)}\n" for key, value in config.items())
    return f"config {now_ms} {word(text)}"


def plain(**more) -> dict:
    issuer = {
        "issuer": ISSUER,
        "audience": [AUDIENCE],
        "algorithms": ["HS256"],
        "keys": {"secrets": [{"text": SECRET}]},
        "max_lifetime": "5000d",
    }
    handshake = {"credentials": ["authorization"], "trusted_proxies": [], "require_origin": False}
    return {"issuer": [issuer], "handshake": handshake, "messages": {"ping": "public"}} | more


def verifier(told: dict) -> dict:
    """What the verifier of a vector is told, as our configuration."""
    handshake = {"credentials": ["authorization"], "trusted_proxies": [], "require_origin": False}
    if isinstance(told.get("required_scope"), str):
        handshake["required_permissions"] = [told["required_scope"]]
    if told.get("max_token_bytes") is not None:
        handshake["max_token_bytes"] = told["max_token_bytes"]
    issuers = [issuer(told, one) for one in told.get("issuers") or [told]]
    return {"issuer": issuers, "handshake": handshake, "messages": {"ping": "public"}}


def issuer(told: dict, one: dict) -> dict:
    def pick(key: str):
        return told.get(key) if one.get(key) is None else one[key]

    keys = {}
    if pick("jwks") is not None:
        keys["jwks"] = json.dumps(pick("jwks"))
        if told.get("jwks_trust") == "local":
            keys["allow_secrets"] = True
    if isinstance(pick("public_key_pem"), str):
        keys["public_key"] = pick("public_key_pem")
    if isinstance(pick("hmac_secret_b64u"), str):
        keys["secrets"] = [{"base64url": pick("hmac_secret_b64u")}]
    made = {
        "issuer": pick("issuer"),
        "audience": pick("audience"),
        "algorithms": pick("algorithms"),
        "keys": keys,
        "leeway": told.get("leeway"),
        "expiry_leeway": told.get("leeway"),
        "permissions_claims": ["scope"],
    }
    for theirs, ours in (
        ("require_typ", "typ"),
        ("scope_claims", "permissions_claims"),
        ("max_lifetime", "max_lifetime"),
    ):
        if told.get(theirs) is not None:
            made[ours] = told[theirs]
    if told.get("require_jti") is True:
        made["required_claims"] = ["jti"]
    return made


def request(*more: tuple[str | bytes, str | bytes], peer: str = "203.0.113.7") -> list[str]:
    headers = [line("header", name, value) for name, value in [*FIELDS, *more]]
    return [line("request", "GET", "/ws", peer), *headers, "handshake"]


def bearer(token: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {token}"


def jwt(vector: dict) -> list[str]:
    told = vector["config"]
    name = word(told.get("issuer") or "")
    lines = [configured(verifier(told), told["now"] * 1000)]
    lines += [f"revoke 2 {name} {word(jti)} 0" for jti in told.get("revoked_jti") or []]
    lines += [f"revoke 4 {name} {word(sub)} {before}" for sub, before in (told.get("revoke_before") or {}).items()]
    return lines + request(bearer(vector["token"]))


def origin(vector: dict) -> list[str]:
    told = vector["config"]
    handshake = {
        "credentials": ["first_message"],
        "origins": told["allowed_origins"],
        "require_origin": told["require_origin"],
        "trusted_proxies": [],
    }
    return [configured(plain(handshake=handshake), 1), *request(*(("Origin", text) for text in vector["origins"]))]


def handshake(vector: dict) -> list[str]:
    told = vector["config"]
    config = verifier(told["verify"])
    made = config["handshake"]
    made["origins"] = told["allowed_origins"]
    made["require_origin"] = told["require_origin"]
    made["credentials"] = []
    for source in told["sources"]:
        kind, _, name = source.partition(":")
        made["credentials"].append(kind)
        if kind == "query":
            made["query_parameter"] = name
        if kind == "cookie":
            made["cookie"] = {"name": name, "holds": "token"}
        if kind == "subprotocol":
            made["subprotocol_prefixes"] = [name]
    if told.get("max_headers") is not None:
        made["max_fields"] = told["max_headers"]
    asked = vector["request"]
    return [
        configured(config, told["verify"]["now"] * 1000),
        line("request", raw(asked["method"]), raw(asked["target"]), asked["peer"]),
        *(line("header", raw(name), raw(value)) for name, value in asked["headers"]),
        "handshake",
    ]


def message(vector: dict) -> list[str]:
    told = vector["config"]
    config = plain(messages=told["message_scopes"], message={"max_bytes": told["max_message_bytes"]})
    config["issuer"][0]["permissions_claims"] = ["permissions"]
    principal = vector["principal"]
    claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": 1_800_000_600}
    claims |= {"sub": principal["sub"], "permissions": principal["scopes"]}
    return [
        configured(config, 1_800_000_000_000),
        *request(bearer(signed(claims))),
        line("message", base64.b64decode(vector["message_b64"])),
    ]


def signed(claims: dict) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    text = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return text + "." + part(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())


def client_ip(vector: dict) -> list[str]:
    told = vector["config"]
    made = {
        "credentials": ["first_message"],
        "trusted_proxies": told["trusted_proxies"],
        "blocked": told["blocked"],
        "require_origin": False,
    }
    headers = ((raw(name), raw(value)) for name, value in vector["headers"])
    return [configured(plain(handshake=made), 1), *request(*headers, peer=vector["peer"])]


def refresh(vector: dict) -> list[str]:
    """The principal comes in by an opaque token, whose issuer vouches for it; the vector's token refreshes it."""
    told = vector["config"]
    config = verifier(told)
    config["issuer"][0]["opaque"] = True
    principal = vector["principal"]
    names = [principal["sub"], *(principal.get(key) or "" for key in ("sid", "client_id", "tenant"))]
    facts = " ".join(word(text) for text in [*names, *principal["scopes"]])
    return [
        configured(config, told["now"] * 1000),
        *request(bearer("opaque-0123456789abcdef")),
        f"vouch {principal['exp'] * 1000} {principal.get('iat') or 0} {facts}",
        line("refresh", vector["token"]),
    ]


def introspection(vector: dict) -> list[str]:
    response = vector["response"]
    types = [raw(value) for name, value in response["headers"] if name.lower() == "content-type"]
    content_type = types[0] if len(types) == 1 else b""
    return asked(vector["config"], response["status"], content_type, base64.b64decode(response["body_b64"]))


def introspection_jwt(vector: dict) -> list[str]:
    return asked(vector["config"], 200, b"application/token-introspection+jwt", vector["token"].encode())


def asked(told: dict, status: int, content_type: bytes, body: bytes) -> list[str]:
    """An opaque token, and the answer of its issuer's endpoint about it."""
    signed = told.get("jwks") is not None
    config = verifier(told)
    made = config["issuer"][0]
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
    return [
        configured(config, told["now"] * 1000),
        *request(bearer("opaque-0123456789abcdef")),
        f"respond {status} {word(content_type)} {word(body)}",
    ]


def main() -> int:
    vectors = [json.loads(text) for text in (VECTORS / "attacks.jsonl").read_text().splitlines()]
    vectors = [vector for vector in vectors if vector["kind"] in KINDS]
    lines = []
    for vector in vectors:
        lines += [f"begin {vector['id']}", *globals()[vector["kind"]](vector), "end"]
    told = subprocess.run(sys.argv[1:], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=120)
    decided = dict(text.split() for text in told.stdout.splitlines())
    expected = json.loads((VECTORS / "reasons.json").read_text())
    wrong = [name for name in expected if decided.get(name) != expected[name]]
    for name in wrong:
        print(f"{name}: {decided.get(name)} in C, {expected[name]} in Rust")
    if told.returncode != 0 or decided.keys() - expected.keys():
        print(f"the program ended with {told.returncode} {told.stderr}")
        wrong.append("")
    print(f"vectors: {len(expected) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
