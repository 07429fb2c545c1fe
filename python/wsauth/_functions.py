"""Which functions may answer the engine's questions, and who hears of it when one fails?"""

import functools
import inspect
import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from wsauth._wsauth import Vouched

Sessions = Callable[[str], Vouched | None]
Profile = Callable[[str, str], Mapping[str, Any] | None]
Introspect = Callable[[str, str], Vouched | None]

# Frames of one traceback, and errors of one chain, that are told.
MOST_FRAMES = 30
MOST_ERRORS = 5

log = logging.getLogger("wsauth")


def plain(given: Mapping[str, Callable[..., Any] | None]) -> dict[str, Callable[..., Any]]:
    """Those that were given. Raises TypeError for what is no function that a thread can call."""
    functions = {name: function for name, function in given.items() if function is not None}
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name}: a function expected, not {type(function).__name__}")
        if _is_async(function):
            raise TypeError(f"{name}: a plain function expected: it runs on a worker's thread, where nobody awaits it")
    return functions


def tell_raised(name: str, error: BaseException) -> None:
    """Logs where a function raised, and what.

    Not the error's own text: ``KeyError(session_id)`` is the usual one.
    """
    log.error("%s raised, so its question is answered as unavailable\n%s", name, "".join(_trace(error)).rstrip())


def tell_wrong(name: str, found: type) -> None:
    """Logs that a function returned something of no use."""
    wanted = "a mapping of JSON values" if name == "profile" else "a Vouched"
    what = f"{found.__module__}.{found.__qualname__}"
    log.error("%s returned %s, not %s or None, so its question is answered as unavailable", name, what, wanted)


def _trace(error: BaseException) -> list[str]:
    lines: list[str] = []
    told: BaseException | None = error
    for _ in range(MOST_ERRORS):
        if told is None:
            break
        if lines:
            lines.append("which came of\n")
        lines += traceback.format_tb(told.__traceback__, -MOST_FRAMES)
        lines.append(f"{type(told).__module__}.{type(told).__qualname__}\n")
        told = told.__cause__ if told.__suppress_context__ else told.__context__
    return lines


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    # An object whose __call__ is a coroutine function is no better.
    call = getattr(type(function), "__call__", None)  # noqa: B004
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(is_kind(candidate) for is_kind in kinds for candidate in (function, call))
