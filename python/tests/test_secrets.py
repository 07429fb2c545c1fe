"""No token, secret or session id stands in anything the package prints, logs or hands to the operator."""

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

import wsauth
from conftest import AUDIENCE, ISSUER, START, UPGRADE, World, config

SECRET = "canary-secret-canary-secret-canary-secret"
OPAQUE = "canary-opaque-canary-opaque-canary"
SESSION = "canary-session-canary-session-canary"


def issuer(**more: Any) -> dict[str, Any]:
    keys = {"secrets": [{"text": SECRET}]}
    return {"issuer": ISSUER, "audience": [AUDIENCE], "algorithms": ["HS256"], "keys": keys, **more}


def outputs(world: World) -> list[str]:
    """All that an operator can ask for."""
    events = world.engine.poll()
    return [
        repr(world.engine),
        world.engine.metrics(),
        *world.engine.audit_lines(),
        *(text for event in events for text in (repr(event), event.text or "", str(event.error()))),
    ]


def canaries(token: str) -> list[str]:
    return [SECRET, OPAQUE, SESSION, token, *token.split(".")[1:]]


def require_clean(texts: list[str], token: str) -> None:
    assert [(canary, text) for text in texts for canary in canaries(token) if canary in text] == []


def test_a_life_with_a_token(make: Callable[..., World]) -> None:
    world = make(issuer=[issuer(opaque=True)], handshake={"require_origin": False})
    body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": int(START), "exp": START + 60}
    good, other = (jwt.encode({**body, "sub": name}, SECRET, algorithm="HS256") for name in ("ann", "eve"))
    texts: list[str] = []
    for token in (good, good[:-4] + "AAAA", good + ".x", "x" * 20_000, OPAQUE):
        headers = [*UPGRADE, ("Authorization", f"Bearer {token}")]
        texts += [repr(step) + step.detail for step in world.engine.explain("/", headers, "192.0.2.1")]
        try:
            connection = world.engine.start_handshake("/", headers, "192.0.2.1")
        except wsauth.Refused as refused:
            texts += [str(refused), repr(refused), refused.body, repr(refused.headers)]
            continue
        identity = connection.identity
        texts += [repr(connection), repr(identity), repr(identity.claims if identity else None)]
        for sent in (token, other):
            texts.append(repr(connection.message(json.dumps({"type": "token_refresh", "token": sent}))))
            try:
                texts.append(repr(connection.refresh(sent)))
            except wsauth.Refused as refused:
                texts.append(repr(refused))
        texts += [repr(lookup) for lookup in world.engine.lookups()]
        texts += outputs(world)
    world.clock.advance(61)
    texts += outputs(world)
    require_clean(texts, good)
    require_clean(texts, other)


def test_a_session(make: Callable[..., World]) -> None:
    world = make(
        issuer=[issuer()],
        sessions={},
        handshake={
            "credentials": ["cookie"],
            "cookie": {"name": "sid", "holds": "session"},
            "origins": ["https://app.example.com"],
        },
    )
    headers = [*UPGRADE, ("Origin", "https://app.example.com"), ("Cookie", f"sid={SESSION}")]
    texts = [repr(step) + step.detail for step in world.engine.explain("/", headers, "192.0.2.1")]
    texts.append(repr(world.engine.start_handshake("/", headers, "192.0.2.1")))
    lookups = world.engine.lookups()
    assert lookups[0].credential == SESSION.encode(), "the driver needs it"
    texts += [repr(lookup) for lookup in lookups]
    world.engine.answer(lookups[0].id, inactive=True)
    require_clean(texts + outputs(world), "-")


@pytest.mark.parametrize(
    "mistake",
    [
        {"secrets": [{"text": SECRET, "kidd": "1"}]},
        {"secrets": [{"text": SECRET[:31]}]},
        {"secret": SECRET, "secrets": [{"text": SECRET}]},
        {"secrets": [{"base64url": SECRET + "="}]},
        {"secrets": [SECRET]},
        {"public_key": SECRET},
        {"jwks": SECRET},
    ],
)
def test_a_refused_configuration(mistake: dict[str, Any]) -> None:
    with pytest.raises(wsauth.ConfigError) as error:
        wsauth.Engine(config(issuer=[{**issuer(), "keys": mistake}]))
    assert SECRET[:31] not in str(error.value) + repr(error.value)
