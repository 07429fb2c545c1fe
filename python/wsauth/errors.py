"""The exceptions. One class per reaction: branch on ``reason`` for more."""

__all__ = ["ConfigError", "MisuseError", "Refused", "Withheld", "WsauthError"]


class WsauthError(Exception):
    """Everything this package raises."""


class Refused(WsauthError):
    """It is not allowed. Everything but ``reason`` and ``str()`` may be shown to the peer.

    reason: the stable name, for the operator and for branching; see ``wsauth.REFUSALS``.
    status, headers, body: the HTTP response that refuses an upgrade.
    close_code, public: the close frame's code and reason.
    action: what the client should do next: ``refresh``, ``relogin``, ``retry``, ``retry_after`` or
    ``never``.
    retry_after: seconds until another try can work, where that is known.
    """

    def __init__(
        self,
        reason: str,
        text: str,
        status: int,
        headers: list[tuple[str, str]],
        body: str,
        close_code: int,
        action: str,
        retry_after: float | None,
        public: str,
    ) -> None:
        super().__init__(reason, text, status, headers, body, close_code, action, retry_after, public)
        self.reason = reason
        self.text = text
        self.status = status
        self.headers = headers
        self.body = body
        self.close_code = close_code
        self.action = action
        self.retry_after = retry_after
        self.public = public

    def __str__(self) -> str:
        return f"{self.reason}: {self.text}"


class Withheld(WsauthError):
    """``Connection.receive`` has nothing for the application, and all is well.

    kind: ``consumed``, a control message that wsauth answers itself; or ``hold``, a message that came
    before the connection is authenticated: offer it again after the event ``ready``.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class ConfigError(WsauthError):
    """The configuration is refused. ``str()`` is one line that says what is wrong and where.

    key: the dotted path of the value, such as ``issuer[0].algorithms``.
    line: the line, counted from 1, when it came from text.
    nearest: the known name nearest to an unknown one.
    """

    def __init__(self, message: str, key: str = "", line: int | None = None, nearest: str | None = None) -> None:
        super().__init__(message, key, line, nearest)
        self.message = message
        self.key = key
        self.line = line
        self.nearest = nearest

    def __str__(self) -> str:
        return self.message


class MisuseError(WsauthError):
    """The calling program is wrong; nothing was decided. ``reason`` is the stable name."""

    def __init__(self, message: str, reason: str = "misuse_argument") -> None:
        super().__init__(message, reason)
        self.message = message
        self.reason = reason

    def __str__(self) -> str:
        return self.message
