"""Which refusals exist? From the one table, in Rust."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from wsauth import _wsauth


class RefusalRow(NamedTuple):
    """One reason and what it is to the peer, the operator and the client."""

    number: int
    name: str
    public: str
    status: int
    close_code: int
    action: str
    text: str
    public_text: str


REFUSALS: Mapping[str, RefusalRow] = MappingProxyType(
    {row.name: row for row in (RefusalRow(*values) for values in _wsauth.refusal_rows())}
)
