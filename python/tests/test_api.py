"""The interface: what comes in, what comes out, what is raised."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wsauth
from conftest import AUDIENCE, ISSUER, SECRET, START, UPGRADE, World, config, token


def test_everything_exported_is_there_and_everything_there_is_exported() -> None:
    for name in wsauth.__all__:
        assert getattr(wsauth, name) is not None
    public = {name for name in vars(wsauth) if not name.startswith("_")}
    modules = {"errors", "adapters"}
    assert public - modules == {name for name in wsauth.__all__ if not name.startswith("_")}
    assert wsauth.__version__.count(".") == 2


def test_the_table_of_refusals_is_whole() -> None:
    rows = wsauth.REFUSALS
    assert len(rows) >= 80
    assert all(name == row.name for name, row in rows.items())
    assert len({row.number for row in rows.values()}) == len(rows)
    assert rows["token_expired"].status == 401
    assert {row.action for row in rows.values()} <= {"refresh", "relogin", "retry", "retry_after", "never", "none"}
    with pytest.raises(TypeError):
        rows["mine"] = rows["token_expired"]  # type: ignore[index]


def test_a_handshake_and_who_it_was(world: World) -> None:
    connection = world.connect(jti="t-1", sid="s-1", tenant="acme", extra={"deep": [1, None, 2.5, True]})
    identity = connection.identity
    assert identity is not None
    assert (identity.issuer, identity.subject, identity.source) == (ISSUER, "ann", "authorization")
    assert (identity.token_id, identity.session_id, identity.tenant) == ("t-1", "s-1", "acme")
    assert identity.permissions == connection.permissions == ("chat:write", "listing:42:read")
    assert (identity.issued_at, identity.expires_at) == (int(START), START + 3600)
    assert identity.claims["extra"] == {"deep": [1, None, 2.5, True]}
    identity.claims.clear()
    assert identity.claims["sub"] == "ann"
    assert "acme" not in repr(identity)
    assert connection.progress == "live"
    assert connection.subprotocol is None
    assert world.engine.connections == 1


@pytest.mark.parametrize(
    "peer", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0", ("192.0.2.1", 4711), ("2001:db8::1", 4711, 0, 0)]
)
def test_peers(world: World, peer: Any) -> None:
    assert world.engine.handshake("/", world.headers(), peer).identity


@pytest.mark.parametrize("peer", [None, "", "nonsense", (), (None, 1), ("unix",), 7, b"192.0.2.1"])
def test_no_usable_peer_is_misuse(world: World, peer: Any) -> None:
    with pytest.raises(wsauth.MisuseError) as error:
        world.engine.handshake("/", world.headers(), peer)
    assert error.value.reason == "misuse_peer"


def test_a_unix_peer_is_refused_unless_configured(world: World) -> None:
    with pytest.raises(wsauth.WsauthError):
        world.engine.handshake("/", world.headers(), "unix")


@pytest.mark.parametrize("form", ["pairs", "bytes", "mapping", "lists"])
def test_headers_in_every_form(world: World, form: str) -> None:
    pairs = world.headers()
    forms: dict[str, Any] = {
        "pairs": pairs,
        "bytes": tuple((name.encode(), value.encode()) for name, value in pairs),
        "mapping": dict(pairs),
        "lists": {name: [value] for name, value in pairs},
    }
    assert world.engine.handshake(b"/", forms[form], "192.0.2.1", method=b"GET").identity


def test_a_repeated_field_stays_repeated(world: World) -> None:
    headers = dict(world.headers())
    with pytest.raises(wsauth.Refused) as error:
        world.engine.handshake("/", {**headers, "Authorization": [headers["Authorization"]] * 2}, "192.0.2.1")
    assert error.value.reason == "credential_ambiguous"


@pytest.mark.parametrize("headers", [None, 7, "abc", [("a",)], [("a", "b", "c")], [(1, "b")], [("a", None)]])
def test_headers_of_another_type_are_misuse(world: World, headers: Any) -> None:
    with pytest.raises(wsauth.MisuseError):
        world.engine.handshake("/", headers, "192.0.2.1")


def test_a_refusal_explains_itself(world: World) -> None:
    with pytest.raises(wsauth.Refused) as error:
        world.engine.handshake("/", UPGRADE, "192.0.2.1")
    refused = error.value
    assert isinstance(refused, wsauth.WsauthError)
    assert (refused.reason, refused.status, refused.close_code) == ("credential_missing", 401, 4001)
    assert ("WWW-Authenticate", "Bearer") in refused.headers
    body = json.loads(refused.body)
    assert body["code"] == refused.public == "auth_failed"
    assert refused.action == wsauth.REFUSALS["credential_missing"].action
    assert refused.reason not in refused.body
    assert str(refused).startswith("credential_missing: ")


def test_limits_say_when_to_come_back(make: Callable[..., World]) -> None:
    world = make(limits={"connections_per_address": 1})
    first = world.connect()
    with pytest.raises(wsauth.Refused) as error:
        world.connect()
    assert error.value.status == 429
    assert error.value.retry_after is not None
    assert ("Retry-After", "1") in error.value.headers
    first.closed()
    assert world.connect().identity


@pytest.mark.parametrize(
    "error",
    [
        wsauth.Refused("a", "b", 401, [("c", "d")], "e", 4001, "relogin", 1.5, "f"),
        wsauth.Withheld("hold"),
        wsauth.ConfigError("what", "key", 3, "nearest"),
        wsauth.MisuseError("what", "misuse_peer"),
        wsauth.WsauthError("what"),
    ],
)
def test_errors_pickle_and_copy(error: wsauth.WsauthError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301
        assert type(again) is type(error)
        assert vars(again) == vars(error)
        assert str(again) == str(error)


def test_an_error_raised_from_rust_pickles(world: World) -> None:
    with pytest.raises(wsauth.Refused) as error:
        world.engine.handshake("/", UPGRADE, "192.0.2.1")
    assert vars(pickle.loads(pickle.dumps(error.value))) == vars(error.value)  # noqa: S301


def test_verdicts(world: World) -> None:
    connection = world.connect()
    allowed = connection.message('{"type":"chat.send"}')
    assert allowed
    assert allowed is connection.message('{"type":"ping"}') is connection.authorize("ping")
    assert (allowed.kind, allowed.reason, allowed.close_code, allowed.retry_after) == ("deliver", None, None, None)
    refused = connection.message('{"type":"listing.subscribe","listing_id":"7"}')
    assert not refused
    assert (refused.kind, refused.reason, refused.public) == ("refused", "permission_missing", "permission_denied")
    consumed = connection.message(json.dumps({"type": "token_refresh", "token": world.token(life=7200)}))
    assert not consumed
    assert consumed.kind == "consumed"


def test_receive_returns_the_message_or_raises(world: World) -> None:
    connection = world.connect()
    text = '{"type":"chat.send"}'
    assert connection.receive(text) is text
    with pytest.raises(wsauth.Refused) as refused:
        connection.receive('{"type":"nothing"}')
    assert refused.value.reason == "message_type_unknown"
    with pytest.raises(wsauth.Withheld) as withheld:
        connection.receive(json.dumps({"type": "token_refresh", "token": world.token(life=7200)}))
    assert withheld.value.kind == "consumed"
    world.engine.revoke(connection=connection)
    with pytest.raises(wsauth.Refused) as refused:
        connection.receive(text)
    assert (refused.value.reason, refused.value.close_code) == ("revoked", 4006)
    connection.closed()
    with pytest.raises(wsauth.MisuseError):
        connection.receive(text)


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview])
def test_binary_messages(make: Callable[..., World], form: Callable[[bytes], bytes]) -> None:
    world = make(message={"binary": "chat.send"})
    connection = world.connect()
    assert connection.message(form(b"\x00\xff"))
    assert World().start().connect().message(form(b"x")).reason == "message_binary"


@pytest.mark.parametrize("data", [None, 7, ["x"], {}, 1.5])
def test_a_message_of_another_type_is_misuse(world: World, data: Any) -> None:
    with pytest.raises(wsauth.MisuseError):
        world.connect().message(data)


def test_fields_of_authorize(world: World) -> None:
    connection = world.connect()
    assert connection.authorize("listing.subscribe", listing_id="42")
    assert connection.authorize("listing.subscribe", listing_id=42)
    unfit: list[Any] = [43, "7", "", None, True, 42.0, ["42"], "4:2", "*", "\ud800", 10**30, b"42"]
    for value in unfit:
        assert not connection.authorize_delivery("listing.changed", listing_id=value), value
    assert not connection.authorize("listing.subscribe")
    assert not connection.authorize("\ud800")


def test_deliveries(world: World) -> None:
    ann, bob = world.connect(), world.connect("bob", permissions=["chat:write"])
    assert ann.authorize_delivery("listing.changed", listing_id="42")
    verdict = bob.authorize_delivery("listing.changed", listing_id="42")
    assert (verdict.kind, verdict.reason) == ("refused", "permission_missing")
    gone = world.connect()
    gone.closed()
    allowed = world.engine.authorize_deliveries([bob, ann, gone, ann], "listing.changed", listing_id=42)
    assert [connection is ann for connection in allowed] == [True, True]
    with pytest.raises(wsauth.Refused):
        world.engine.authorize_deliveries([ann], "unknown")
    with pytest.raises(wsauth.MisuseError):
        World().start().engine.authorize_deliveries([ann], "listing.changed", listing_id=42)


def test_refresh_and_permissions(world: World) -> None:
    connection = world.connect()
    world.engine.poll()
    world.clock.advance(10)
    done = connection.refresh(world.token(permissions=["chat:write", "new:right"]))
    assert (done.outcome, done.added, done.removed) == ("committed", ("new:right",), ("listing:42:read",))
    with pytest.raises(wsauth.Refused) as error:
        connection.refresh(world.token("eve", life=9000))
    assert error.value.reason == "identity_mismatch"
    assert connection.permissions == ("chat:write", "new:right")
    assert connection.set_permissions(["chat:write"]).removed == ("new:right",)
    assert world.engine.set_subject_permissions(ISSUER, "ann", ["a:b"]) == 1
    assert not connection.message('{"type":"chat.send"}')
    world.clock.advance(10)
    assert world.engine.refresh_subject(world.token(life=9000)) == 1
    assert connection.message('{"type":"chat.send"}')
    kinds = {event.kind for event in world.events(connection)}
    assert "send" in kinds


def test_revocations(world: World) -> None:
    def connect(**claims: Any) -> wsauth.Connection:
        return world.connect(peer=f"192.0.2.{world.engine.connections + 1}", **claims)

    ways: list[dict[str, Any]] = [
        {"token_id": "t", "issuer": ISSUER},
        {"session_id": "s", "issuer": ISSUER},
        {"subject": "ann", "issuer": ISSUER},
        {"whole_issuer": True, "issuer": ISSUER},
    ]
    for way in ways:
        world.clock.advance(2)
        connection = connect(jti="t", sid="s")
        done = world.engine.revoke(**way)
        assert (done.closed, done.propagated) == (1, "off"), way
        assert connection.message('{"type":"ping"}').reason == "revoked"
        with pytest.raises(wsauth.Refused):
            connect(jti="t", sid="s")
        connection.closed()
        world = World().start()
    one, two = connect(), connect()
    assert world.engine.revoke(connection=one).closed == 1
    assert world.engine.revoke(connection=two.id).closed == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"subject": "ann"},
        {"issuer": ISSUER},
        {"issuer": ISSUER, "subject": "a", "token_id": "b"},
        {"issuer": ISSUER, "token_id": "b", "issued_before": 1},
        {"connection": "x"},
        {"connection": 1, "issuer": ISSUER},
        {"issuer": ISSUER, "subject": "\ud800"},
    ],
)
def test_an_unclear_revocation_is_misuse(world: World, arguments: dict[str, Any]) -> None:
    connection = world.connect()
    with pytest.raises(wsauth.MisuseError):
        world.engine.revoke(**arguments)
    assert connection.message('{"type":"ping"}')


def test_audit_metrics_and_explain(world: World) -> None:
    connection = world.connect()
    connection.message('{"type":"nothing"}')
    kinds = [event["event"] for event in world.engine.audit()]
    assert kinds[:2] == ["handshake_accepted", "message_refused"]
    assert world.engine.audit() == []
    assert "wsauth_" in world.engine.metrics()
    steps = world.engine.explain("/", UPGRADE, "192.0.2.1")
    assert steps[-1].outcome == "refused"
    assert (steps[-1].reason, steps[-1].close_code) == ("credential_missing", 4001)
    steps = world.engine.explain("/", world.headers(), "192.0.2.1")
    assert {step.outcome for step in steps} == {"passed"}
    assert world.engine.connections == 1


def test_closed_is_said_once_and_by_whoever_forgets(world: World) -> None:
    connection = world.connect()
    assert connection.closed()
    assert not connection.closed()
    assert connection.identity is None
    assert connection.message('{"type":"ping"}').reason == "misuse_handle"
    with world.connect() as other:
        assert world.engine.connections == 1
    assert not other.closed()
    forgotten = world.connect()
    del forgotten
    assert world.engine.connections == 0


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"limits": None}, "limits"),
        ({"limits": {"connections_per_address": 2**70}}, "limits.connections_per_address"),
        ({"messages": {"a": "\ud800"}}, "messages.a"),
        ({"handshake": {"credentials": {1: 2}}}, "handshake.credentials"),
        ({"handshake": {"credentials": object()}}, "handshake.credentials"),
        ({"handshake": {"orgins": []}}, "handshake.orgins"),
    ],
)
def test_a_bad_configuration_names_its_key(change: dict[str, Any], key: str) -> None:
    with pytest.raises(wsauth.ConfigError) as error:
        wsauth.Engine(config(**change))
    assert error.value.key == key
    assert error.value.line is None


def test_a_dict_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["limits"] = endless
    with pytest.raises(wsauth.ConfigError):
        wsauth.Engine(config(limits=endless))


@pytest.mark.parametrize("given", [None, "text", 7, [], b""])
def test_a_configuration_of_another_type_is_misuse(given: Any) -> None:
    with pytest.raises(wsauth.WsauthError):
        wsauth.Engine(given)


TOML = f"""
[[issuer]]
issuer = "{ISSUER}"
audience = ["{AUDIENCE}"]
algorithms = ["HS256"]
keys = {{ secret = {{ file = "secret.bin" }} }}
[handshake]
credentials = ["authorization"]
trusted_proxies = []
[messages]
"ping" = "public"
"""


def test_toml_names_line_and_nearest() -> None:
    with pytest.raises(wsauth.ConfigError) as error:
        wsauth.Engine.from_toml(
            TOML.replace('file = "secret.bin"', f'text = "{SECRET.decode()}"').replace(
                "[handshake]", "[handshake]\norgins = []"
            )
        )
    assert (error.value.line, error.value.nearest) == (8, "origins")
    assert "did you mean" in str(error.value)


def test_files_stand_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(SECRET)
    path = tmp_path / "wsauth.toml"
    path.write_text(TOML)
    clock = wsauth.ManualClock(START)
    engine = wsauth.Engine.from_file(path, clock=clock)
    headers = [*UPGRADE, ("Authorization", f"Bearer {token(START)}")]
    connection = engine.handshake("/", headers, "192.0.2.1")
    assert connection.message('{"type":"ping"}')
    path.write_text(TOML.replace('"ping"', '"pong"'))
    engine.reload(path)
    assert not connection.message('{"type":"ping"}')
    path.write_text("nonsense")
    with pytest.raises(wsauth.ConfigError):
        engine.reload(str(path))
    assert connection.message('{"type":"pong"}')
    engine.reload(config())
    assert connection.message('{"type":"ping"}')


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    long = tmp_path / "long"
    long.write_bytes(b"#" * (1 << 20) + b"#")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff")
    for path in (tmp_path, tmp_path / "absent", long, binary, "a\0b"):
        with pytest.raises(wsauth.ConfigError):
            wsauth.Engine.from_file(path)


def test_lone_surrogates_in_toml_are_misuse() -> None:
    with pytest.raises(wsauth.WsauthError):
        wsauth.Engine.from_toml("\ud800")


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e300])
def test_impossible_times_are_misuse(seconds: float) -> None:
    with pytest.raises(wsauth.MisuseError):
        wsauth.ManualClock(seconds)
    with pytest.raises(wsauth.MisuseError):
        wsauth.ManualClock(0).advance(seconds)


def test_shards(make: Callable[..., World]) -> None:
    world = make(connection={"shards": 2})
    connection = world.engine.handshake("/", world.headers(), "192.0.2.1", shard=1)
    assert world.engine.poll(0) == []
    assert [event.kind for event in world.engine.poll(1)] == ["send"]
    assert world.engine.fileno(0) != world.engine.fileno(1)
    with pytest.raises(wsauth.MisuseError):
        world.engine.poll(2)
    with pytest.raises(wsauth.MisuseError):
        world.engine.fileno(2)
    with pytest.raises(OverflowError):
        world.engine.poll(256)
    connection.closed()


def test_types_cannot_be_made_or_changed_from_outside(world: World) -> None:
    connection = world.connect()
    for kind in (wsauth.Connection, wsauth.Verdict, wsauth.Identity, wsauth.Event):
        with pytest.raises(TypeError):
            kind()
    verdict = connection.message("x")
    with pytest.raises(AttributeError):
        verdict.kind = "deliver"  # type: ignore[misc]
    with pytest.raises(TypeError):
        type("Mine", (wsauth.Verdict,), {"__bool__": lambda self: True})
