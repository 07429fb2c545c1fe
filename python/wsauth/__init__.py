"""The life-long auth of a WebSocket: who may connect, what each message may do, and when it must end."""

from wsauth._engine import Engine
from wsauth._refusals import REFUSALS, RefusalRow
from wsauth._wsauth import (
    Connection,
    Event,
    Identity,
    Lookup,
    ManualClock,
    Refreshed,
    Revoked,
    Step,
    Verdict,
    Vouched,
    __version__,
)
from wsauth.errors import ConfigError, MisuseError, Refused, Withheld, WsauthError

__all__ = [
    "REFUSALS",
    "ConfigError",
    "Connection",
    "Engine",
    "Event",
    "Identity",
    "Lookup",
    "ManualClock",
    "MisuseError",
    "Refreshed",
    "RefusalRow",
    "Refused",
    "Revoked",
    "Step",
    "Verdict",
    "Vouched",
    "Withheld",
    "WsauthError",
    "__version__",
]
