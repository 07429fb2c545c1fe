"""Whole lives of connections, with time moved by hand."""

import json
import select
from collections.abc import Callable

import pytest

import wsauth
from conftest import UPGRADE, World


def texts(events: list[wsauth.Event]) -> list[str]:
    return [json.loads(event.text or "{}").get("type") for event in events if event.kind == "send"]


def test_from_admission_to_expiry(world: World) -> None:
    connection = world.connect(life=600)
    assert texts(world.events(connection)) == ["auth_success"]
    asked = False
    for _ in range(600):
        asked = asked or "token_refresh_required" in texts(world.events(connection))
        assert connection.message('{"type":"ping"}') or asked
        world.clock.advance(1)
    verdict = connection.message('{"type":"ping"}')
    assert (verdict.kind, verdict.reason) == ("close", "refresh_timeout")
    event = world.events(connection)[-1]
    assert (event.kind, event.code, event.reason) == ("close", 4005, "refresh_timeout")
    assert event.public is not None
    error = event.error()
    assert error is not None
    assert error.close_code == 4005
    assert connection.closed()
    assert world.engine.connections == 0


def test_no_message_at_the_expiry_and_the_last_one_before(world: World) -> None:
    connection = world.connect(life=600)
    world.clock.advance(599.999)
    world.clock.step_wall(-300)
    assert connection.message('{"type":"ping"}')
    world.clock.advance(0.001)
    assert not connection.message('{"type":"ping"}')
    assert not connection.authorize_delivery("listing.changed", listing_id="42")


def test_a_wall_clock_stepped_forward_ends_it(world: World) -> None:
    connection = world.connect(life=600)
    world.clock.step_wall(600)
    assert not connection.message('{"type":"ping"}')


def test_a_refresh_on_the_line_gives_another_life(world: World) -> None:
    connection = world.connect(life=600)
    for _ in range(5):
        world.clock.advance(500)
        text = json.dumps({"type": "token_refresh", "token": world.token(life=600)})
        assert connection.message(text).kind == "consumed"
        assert "token_refreshed" in texts(world.events(connection))
        assert connection.message('{"type":"ping"}')


def test_idle_and_pong(make: Callable[..., World]) -> None:
    world = make(connection={"idle": "60s"})
    silent, ponging = world.connect(), world.connect()
    for _ in range(7):
        world.clock.advance(10)
        ponging.touch()
        world.engine.poll()
    assert silent.message('{"type":"ping"}').reason == "inactive"
    assert not silent.touch()
    assert ponging.message('{"type":"ping"}')


def test_the_descriptor_and_the_deadline_tell_when_to_poll(world: World) -> None:
    engine = world.engine
    engine.poll()

    def is_readable() -> bool:
        return bool(select.select([engine.fileno()], [], [], 0)[0])

    engine.fileno()
    engine.poll()
    assert not is_readable()
    connection = world.connect(life=600)
    assert is_readable()
    assert [event.connection for event in engine.poll()] == [connection.id]
    assert not is_readable()
    polls = 0
    while not (events := engine.poll()):
        polls += 1
        assert polls < 50
        wait = engine.next_deadline()
        assert wait is not None
        world.clock.advance(wait)
    assert texts(events) == ["token_refresh_required"]
    assert engine.revoke(connection=connection).closed == 1
    assert is_readable()


def test_permissions_changed_is_told(world: World) -> None:
    connection = world.connect()
    world.engine.poll()
    connection.set_permissions(["chat:write"])
    (event,) = [event for event in world.events(connection) if event.kind == "permissions_changed"]
    assert (event.added, event.removed) == ((), ("listing:42:read",))


def test_first_message(make: Callable[..., World]) -> None:
    world = make(handshake={"credentials": ["first_message"], "origins": ["https://app.example.com"]})
    headers = [*UPGRADE, ("Origin", "https://app.example.com")]
    connection = world.engine.handshake("/", headers, "192.0.2.1")
    assert connection.progress == "awaiting_auth"
    assert connection.identity is None
    assert connection.message(json.dumps({"type": "auth", "token": world.token()})).kind == "consumed"
    assert connection.identity is not None
    assert connection.message('{"type":"chat.send"}')
    late = world.engine.handshake("/", headers, "192.0.2.1")
    world.clock.advance(11)
    world.engine.poll()
    assert late.message(json.dumps({"type": "auth", "token": world.token()})).reason == "authentication_timeout"
    other = world.engine.handshake("/", headers, "192.0.2.1")
    assert other.message('{"type":"chat.send"}').kind == "close"


@pytest.mark.parametrize("seconds", [0.5, 59.0])
def test_a_spent_budget_says_how_long(make: Callable[..., World], seconds: float) -> None:
    world = make(limits={"messages_per_user": {"count": 1, "per": "1m", "burst": 1}})
    connection = world.connect()
    assert connection.message('{"type":"ping"}')
    world.clock.advance(seconds)
    verdict = connection.message('{"type":"ping"}')
    assert verdict.reason == "message_rate"
    assert verdict.retry_after is not None
    assert verdict.retry_after == pytest.approx(60 - seconds, abs=0.01)
    world.clock.advance(verdict.retry_after)
    assert connection.message('{"type":"ping"}')
