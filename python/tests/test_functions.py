"""Functions of the server that answer the engine's questions on its worker threads."""

import asyncio
import functools
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import pytest

import wsauth
from conftest import AUDIENCE, ISSUER, UPGRADE, config, in_child, token

WAIT = 20.0
PING = '{"type":"ping"}'


def cookie(session: str) -> list[tuple[str, str]]:
    return [*UPGRADE, ("Origin", "https://app.example.com"), ("Cookie", f"sid={session}")]


def bearer(token: str) -> list[tuple[str, str]]:
    return [*UPGRADE, ("Authorization", f"Bearer {token}")]


def settings(**more: Any) -> dict[str, Any]:
    base = {
        "issuer": [{"issuer": ISSUER, "audience": [AUDIENCE], "opaque": True}],
        "sessions": {},
        "handshake": {
            "credentials": ["cookie", "authorization"],
            "cookie": {"name": "sid", "holds": "session"},
            "origins": ["https://app.example.com"],
            "require_origin": False,
        },
        "limits": {"connections_per_address": 1000, "connections_per_user": 1000},
        "connection": {"max_unauthenticated_per_address": 1000},
    }
    return config(**(base | more))


def vouched(subject: str) -> wsauth.Vouched:
    return wsauth.Vouched(subject, time.time() + 600, permissions=["chat:write"])


def known(session_id: str) -> wsauth.Vouched | None:
    """Session `<subject>-0123456789` is that subject's; others are nobody's."""
    assert isinstance(session_id, str)
    subject, _, rest = session_id.partition("-")
    return vouched(subject) if rest == "0123456789" else None


class Gate:
    """A function that does not return before it is told to."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, session_id: str) -> wsauth.Vouched | None:
        if session_id.startswith("slow"):
            self.entered.set()
            assert self.opened.wait(WAIT)
        return known(session_id)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(wsauth.Refused) as refused:
        call()
    return refused.value.reason


def test_a_session_is_vouched_for_or_not() -> None:
    with wsauth.Engine(settings(), sessions=known) as engine:
        connection = engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1")
        assert connection.identity is not None
        assert connection.identity.subject == "ann"
        assert connection.message('{"type":"chat.send"}')
        assert reason(lambda: engine.handshake("/", cookie("ann-x123456789"), "192.0.2.1")) == "session_unknown"


def test_a_token_is_vouched_for_or_not() -> None:
    asked: list[tuple[str, str]] = []

    def introspect(issuer: str, token: str) -> wsauth.Vouched | None:
        asked.append((issuer, token))
        return vouched("ann") if token == "good-0123456789" else None

    with wsauth.Engine(settings(), introspect=introspect) as engine:
        assert engine.handshake("/", bearer("good-0123456789"), "192.0.2.1").message(PING)
        assert reason(lambda: engine.handshake("/", bearer("bad-0123456789"), "192.0.2.1")) == "token_inactive"
    assert asked == [(ISSUER, "good-0123456789"), (ISSUER, "bad-0123456789")]


def test_what_a_profile_adds_and_whom_it_refuses(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[tuple[str, str]] = []

    def profile(issuer: str, subject: str) -> Any:
        asked.append((issuer, subject))
        return {
            "ann": {"permissions": ["listing:7:read", "chat:admin"], "plan": "pro", "other": 1},
            "bob": MappingProxyType({}),
            "eve": None,
            "odd": ["listing:7:read"],
        }[subject]

    added = {"permissions": ["listing:*:read"], "attributes": ["plan"]}
    with wsauth.Engine(config(profile=added), profile=profile) as engine:

        def enter(subject: str) -> wsauth.Connection:
            return engine.handshake("/", bearer(token(time.time(), subject, permissions=["chat:write"])), "192.0.2.1")

        ann, bob = enter("ann"), enter("bob")
        assert ann.permissions == ("chat:write", "listing:7:read")
        assert ann.identity is not None
        assert (ann.identity.claims["plan"], "other" in ann.identity.claims) == ("pro", False)
        assert bob.permissions == ("chat:write",)
        eve = reason(lambda: enter("eve"))
        for subject in ("odd", "nobody"):
            assert reason(lambda subject=subject: enter(subject)) == "source_unavailable"  # type: ignore[misc]
        assert eve not in ("source_unavailable", "authentication_unavailable")
    assert asked == [(ISSUER, subject) for subject in ("ann", "bob", "eve", "odd", "nobody")]
    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith("profile returned builtins.list, not a mapping of JSON values or None")
    assert "builtins.KeyError" in told[1]
    assert "nobody" not in told[1]


def test_files_and_toml_take_functions_too(tmp_path: Any) -> None:
    toml = f"""
        issuer = [{{ issuer = "{ISSUER}", audience = ["{AUDIENCE}"], opaque = true }}]
        sessions = {{}}
        handshake = {{ origins = ["https://app.example.com"], credentials = ["cookie"], trusted_proxies = [],
                      cookie = {{ name = "sid", holds = "session" }} }}
        messages = {{ "ping" = "public" }}
    """
    path = tmp_path / "wsauth.toml"
    path.write_text(toml)
    for engine in (wsauth.Engine.from_toml(toml, sessions=known), wsauth.Engine.from_file(path, sessions=known)):
        with engine:
            assert engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1").message(PING)


def test_many_are_awaited_at_once_by_at_most_the_configured_workers() -> None:
    running: set[int] = set()
    most = 0
    lock = threading.Lock()

    def sessions(session_id: str) -> wsauth.Vouched | None:
        nonlocal most
        with lock:
            running.add(threading.get_ident())
            most = max(most, len(running))
        time.sleep(0.005)
        with lock:
            running.discard(threading.get_ident())
        return known(session_id)

    async def main(engine: wsauth.Engine) -> None:
        names = [f"u{n}" for n in range(60)]
        waiting = [engine.handshake_async("/", cookie(f"{name}-0123456789"), "192.0.2.1") for name in names]
        connections = await asyncio.gather(*waiting)
        assert [c.identity.subject for c in connections if c.identity] == names
        with pytest.raises(wsauth.Refused) as refused:
            await engine.handshake_async("/", cookie("nobody"), "192.0.2.1")
        assert refused.value.reason == "session_unknown"

    with wsauth.Engine(settings(lookups={"workers": 3}), sessions=sessions) as engine:
        asyncio.run(main(engine))
    assert 1 <= most <= 3


def test_a_function_that_hangs_holds_up_nobody_else(gate: Gate) -> None:
    with wsauth.Engine(settings(), sessions=gate) as engine:
        live = engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1")

        async def main() -> None:
            slow = asyncio.create_task(engine.handshake_async("/", cookie("slow-0123456789"), "192.0.2.2"))
            await asyncio.to_thread(gate.entered.wait, WAIT)
            assert live.message('{"type":"chat.send"}')
            other = await engine.handshake_async("/", cookie("bob-0123456789"), "192.0.2.3")
            assert other.message(PING)
            assert not slow.done()
            gate.opened.set()
            assert (await slow).message(PING)

        asyncio.run(main())


def test_a_cancelled_wait_gives_its_place_back_while_the_function_runs_on(gate: Gate) -> None:
    with wsauth.Engine(settings(), sessions=gate) as engine:

        async def main() -> None:
            slow = asyncio.create_task(engine.handshake_async("/", cookie("slow-0123456789"), "192.0.2.2"))
            await asyncio.to_thread(gate.entered.wait, WAIT)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            assert engine.connections == 0
            gate.opened.set()
            other = await engine.handshake_async("/", cookie("ann-0123456789"), "192.0.2.3")
            assert other.message(PING)
            assert engine.connections == 1

        asyncio.run(main())


def test_nobody_waits_longer_than_the_deadline_for_a_function(gate: Gate) -> None:
    handshake = settings()["handshake"] | {"lookup_deadline": "1s"}
    with wsauth.Engine(settings(handshake=handshake), sessions=gate) as engine:
        refused = reason(lambda: engine.handshake("/", cookie("slow-0123456789"), "192.0.2.1"))
        assert refused == "authentication_unavailable"
        gate.opened.set()
        assert engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1").message(PING)


SESSION = "canary-session-canary"


def raises_key_error(session_id: str) -> wsauth.Vouched | None:
    raise KeyError(session_id)


def raises_a_chain(session_id: str) -> wsauth.Vouched | None:
    try:
        raises_key_error(session_id)
    except KeyError as error:
        raise ValueError(f"no {session_id}") from error
    return None


def exits(session_id: str) -> wsauth.Vouched | None:
    raise SystemExit(session_id)


def recurses(session_id: str) -> wsauth.Vouched | None:
    return recurses(session_id)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (raises_key_error, ["in raises_key_error", "raise KeyError(session_id)", "builtins.KeyError"]),
        (raises_a_chain, ["in raises_a_chain", "builtins.ValueError", "which came of", "builtins.KeyError"]),
        (exits, ["builtins.SystemExit"]),
        (recurses, ["builtins.RecursionError"]),
        (lambda _: "ann", ["sessions returned builtins.str, not a Vouched or None"]),
        (lambda _: True, ["sessions returned builtins.bool"]),
        (lambda session_id: {"subject": session_id}, ["sessions returned builtins.dict"]),
        (lambda: None, ["builtins.TypeError"]),
    ],
)
def test_a_function_that_fails_says_neither_yes_nor_no(
    function: Any, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with wsauth.Engine(settings(), sessions=function) as engine:
        refused = reason(lambda: engine.handshake("/", cookie(SESSION), "192.0.2.1"))
        assert refused == "source_unavailable"
        assert reason(lambda: engine.handshake("/", cookie(SESSION + "2"), "192.0.2.1")) == "source_unavailable"
    assert [record.name for record in caplog.records] == ["wsauth"] * 2
    record = caplog.records[0]
    assert record.levelno == logging.ERROR
    assert record.exc_info is None
    text = record.getMessage()
    assert [part for part in told if part not in text] == []
    # The id is nowhere, and nothing is long.
    assert "canary" not in text + repr(record.args)
    assert len(text) < 10_000


def test_a_logger_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("broken")

    broken = Broken()
    logging.getLogger("wsauth").addFilter(broken)
    try:
        with wsauth.Engine(settings(), sessions=raises_key_error) as engine:
            refused = reason(lambda: engine.handshake("/", cookie(SESSION), "192.0.2.1"))
            assert refused == "source_unavailable"
    finally:
        logging.getLogger("wsauth").removeFilter(broken)


async def asynchronous(session_id: str) -> wsauth.Vouched | None:
    return known(session_id)


class AsynchronousCall:
    async def __call__(self, session_id: str) -> wsauth.Vouched | None:
        return known(session_id)


@pytest.mark.parametrize(
    "function", [asynchronous, functools.partial(asynchronous, "x"), AsynchronousCall(), 7, "known"]
)
def test_what_no_thread_can_call_is_a_type_error(function: Any) -> None:
    for name in ("sessions", "profile", "introspect"):
        with pytest.raises(TypeError, match=f"^{name}: a (plain )?function expected"):
            wsauth.Engine(settings(), **{name: function})


def test_functions_beside_a_host_driver_are_misuse() -> None:
    with pytest.raises(wsauth.MisuseError, match=r"lookups\.driver"):
        wsauth.Engine(settings(lookups={"driver": "host"}), sessions=known)


def test_a_question_without_its_function_waits_for_the_program() -> None:
    with wsauth.Engine(settings(), sessions=known) as engine:
        connection = engine.start_handshake("/", bearer("token-0123456789"), "192.0.2.1")
        assert engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1").message(PING)
        (lookup,) = engine.lookups()
        assert (lookup.kind, lookup.issuer) == ("introspection", ISSUER)
        engine.answer(lookup.id, vouched("bob"))
        assert connection.message(PING)


def test_a_function_may_call_the_engine() -> None:
    engines: list[wsauth.Engine] = []

    def sessions(session_id: str) -> wsauth.Vouched | None:
        (engine,) = engines
        engine.poll()
        assert engine.connections >= 1
        assert "wsauth_" in engine.metrics()
        # And even start another handshake that needs a function.
        if session_id.startswith("outer"):
            assert engine.handshake("/", cookie("inner-0123456789"), "192.0.2.9").message(PING)
            engine.revoke(subject="inner", issuer="session")
        return known(session_id)

    with wsauth.Engine(settings(), sessions=sessions) as engine:
        engines.append(engine)
        assert engine.handshake("/", cookie("outer-0123456789"), "192.0.2.1").message(PING)


def test_an_engine_that_its_function_holds_is_collected_and_its_threads_end() -> None:
    class Store:
        engine: wsauth.Engine | None = None

        def sessions(self, session_id: str) -> wsauth.Vouched | None:
            return known(session_id)

    store = Store()
    store.engine = wsauth.Engine(settings(), sessions=store.sessions)
    connection = store.engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1")
    assert workers() > 0
    gone = weakref.ref(store.engine)
    del store
    gc.collect()
    assert gone() is None
    assert workers() == 0
    assert connection.message(PING), "what was decided stays decided"


def workers() -> int:
    """Threads of this process that ask."""
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as comm:
                names.append(comm.read())
        except OSError:
            continue
    return sum(name.startswith("wsauth-lookup") for name in names)


def test_threads_start_with_the_first_question_and_end_with_close() -> None:
    engine = wsauth.Engine(settings(), sessions=known)
    assert workers() == 0
    live = engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1")
    assert workers() > 0
    engine.close()
    assert workers() == 0
    engine.close()
    assert live.message('{"type":"chat.send"}'), "live connections live on"
    assert reason(lambda: engine.handshake("/", cookie("bob-0123456789"), "192.0.2.1")) == "source_unavailable"
    assert workers() == 0


def test_close_waits_for_what_runs_while_other_threads_go_on(gate: Gate) -> None:
    engine = wsauth.Engine(settings(), sessions=gate)
    connection = engine.start_handshake("/", cookie("slow-0123456789"), "192.0.2.1")
    assert gate.entered.wait(WAIT)
    closing = threading.Thread(target=engine.close)
    closing.start()
    gate.opened.set()
    closing.join(WAIT)
    assert not closing.is_alive()
    assert connection.message(PING), "the function's answer was taken"


def test_a_function_may_close_its_engine() -> None:
    engines: list[wsauth.Engine] = []

    def sessions(session_id: str) -> wsauth.Vouched | None:
        engines[0].close()
        return known(session_id)

    engines.append(wsauth.Engine(settings(), sessions=sessions))
    assert engines[0].handshake("/", cookie("ann-0123456789"), "192.0.2.1").message(PING)
    assert reason(lambda: engines[0].handshake("/", cookie("bob-0123456789"), "192.0.2.1")) == "source_unavailable"


def test_a_child_asks_with_threads_of_its_own(gate: Gate) -> None:
    with wsauth.Engine(settings(), sessions=gate) as engine:
        live = engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1")
        slow = engine.start_handshake("/", cookie("slow-0123456789"), "192.0.2.2")
        assert gate.entered.wait(WAIT)

        def child() -> None:
            assert workers() == 0
            assert engine.handshake("/", cookie("bob-0123456789"), "192.0.2.1").message(PING)
            assert workers() > 0
            engine.close()
            assert workers() == 0

        in_child(child)
        assert live.message(PING)
        gate.opened.set()
        while slow.message(PING).kind == "hold":
            time.sleep(0.001)
        assert slow.message(PING)


def test_what_was_closed_before_a_fork_is_closed_in_the_child() -> None:
    engine = wsauth.Engine(settings(), sessions=known)
    engine.close()

    def child() -> None:
        refused = reason(lambda: engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1"))
        assert refused == "source_unavailable"
        assert workers() == 0

    in_child(child)


ENDINGS = {
    "a function that runs": """
        thread = threading.Thread(target=lambda: engine.start_handshake("/", cookie("slow-0123456789"), "192.0.2.1"))
        thread.start()
        thread.join()
        entered.wait(20)
    """,
    "idle workers": """
        engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1")
    """,
    "questions in a later exit hook": """
        # It runs after the hook of wsauth, which was imported later.
        late.append(lambda: engine.start_handshake("/", cookie("bob-0123456789"), "192.0.2.1"))
        late.append(lambda: late.append(wsauth.Engine(settings(), sessions=sessions)))
        late.append(lambda: late[-1].start_handshake("/", cookie("slow-0123456789"), "192.0.2.1"))
    """,
    "an engine in a cycle": """
        engine.itself = engine
        engine.handshake("/", cookie("ann-0123456789"), "192.0.2.1")
        del engine
    """,
}

PROGRAM = """
import atexit, sys, threading, time
late = []
atexit.register(lambda: [call() for call in late[:3]])
sys.path.insert(0, {tests!r})
import wsauth
from test_functions import cookie, known, settings

entered = threading.Event()

def sessions(session_id):
    if session_id.startswith("slow"):
        entered.set()
        time.sleep(0.3)
        print("came back", flush=True)
    return known(session_id)

engine = wsauth.Engine(settings(), sessions=sessions)
{ending}
print("the end", flush=True)
"""


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_the_interpreter_ends_in_peace_with(ending: str) -> None:
    lines = "\n".join(line[8:] for line in ENDINGS[ending].splitlines())
    program = PROGRAM.format(tests=os.path.dirname(__file__), ending=lines)
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "the end" in ended.stdout
        assert ("came back" in ended.stdout) == (ending == "a function that runs")
