"""Whatever a peer sends: nothing raises but a refusal, and nothing is allowed."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wsauth
from conftest import UPGRADE, World

settings.register_profile("here", max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("here")

# Lone surrogates included: json.loads makes them out of what a peer wrote.
any_text = st.text(st.characters(exclude_categories=())) | st.text('{}[]":,\\ud800type\x00', max_size=30)
any_data = any_text | st.binary()
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def connection() -> wsauth.Connection:
    world = World().start(limits={"messages_per_user": {"count": 1_000_000, "per": "1s", "burst": 1_000_000}})
    connection = world.connect(permissions=["chat:write"])
    connection_engines.append(world)
    return connection


connection_engines: list[World] = []


@given(data=any_data)
def test_any_message(connection: wsauth.Connection, data: str | bytes) -> None:
    assert not connection.message(data)
    with pytest.raises((wsauth.Refused, wsauth.Withheld)):
        connection.receive(data)


@given(value=any_json, type=any_text)
def test_any_json(connection: wsauth.Connection, value: Any, type: str) -> None:
    for text in (json.dumps(value), json.dumps({"type": type, "x": value}, ensure_ascii=False)):
        verdict = connection.message(text)
        assert not verdict or type in ("chat.send", "ping")


@given(type=any_text, value=any_json, token=any_data)
def test_any_argument(connection: wsauth.Connection, type: str, value: Any, token: str | bytes) -> None:
    assert not connection.authorize(type, listing_id=value)
    assert not connection.authorize_delivery("listing.changed", listing_id=value)
    assert not connection.authorize_delivery(type, **{"x": value})
    with pytest.raises(wsauth.Refused):
        World().start().connect().refresh(token)


@given(
    target=any_data,
    method=st.just("GET") | any_data,
    name=st.sampled_from(["Authorization", "Origin", "Cookie", "Sec-WebSocket-Protocol", "Connection"]) | any_data,
    value=any_data,
    prefix=st.sampled_from(["", "Bearer ", "Bearer a.b.", "wsauth.bearer."]),
)
def test_any_request(target: str | bytes, method: str | bytes, name: str | bytes, value: Any, prefix: str) -> None:
    world = World().start(handshake={"origins": ["https://app.example.com"]})
    value = prefix + value if isinstance(value, str) else prefix.encode() + value
    headers = [*UPGRADE, (name, value)]
    with pytest.raises(wsauth.Refused) as error:
        world.engine.handshake(target, headers, "192.0.2.1", method)
    assert error.value.status in (400, 401, 403, 404, 429)
    world.engine.explain(target, headers, "192.0.2.1", method)
    for line in world.engine.audit_lines():
        assert line.isascii()


@given(target=any_text.map(lambda text: "/" + text), value=any_text)
def test_a_good_token_stays_good_only_in_a_good_request(target: str, value: str) -> None:
    """No text turns into another one on its way: what is let in is ASCII."""
    world = World().start(handshake={"origins": ["https://app.example.com"], "paths": ["/live"]})
    headers = [*world.headers(), ("Origin", value)]
    try:
        world.engine.handshake(target, headers, "192.0.2.1")
    except wsauth.Refused:
        return
    assert target.split("?", maxsplit=1)[0] == "/live"
    assert value.strip() == "https://app.example.com"


@given(config=st.dictionaries(any_text, any_json, max_size=3))
def test_any_configuration(config: dict[str, Any]) -> None:
    with pytest.raises(wsauth.WsauthError):
        wsauth.Engine(config)
    with pytest.raises(wsauth.WsauthError):
        wsauth.Engine.from_toml(str(config))
