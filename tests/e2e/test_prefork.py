"""Does one engine serve in four forked workers (R41)? Under gunicorn, with answers that must be fetched."""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from authority import Authority
from peers import ROOT, Provider

HERE = Path(__file__).resolve().parent
WORKERS = 4
USERS = 12
ROUNDS = 200
INTROSPECTION = "POST /token/introspection"

CONFIG = """
[[issuer]]
issuer     = "{issuer}"
audience   = ["{audience}"]
algorithms = ["RS256", "ES256", "EdDSA"]
keys       = {{ discovery_url = "{issuer}/.well-known/openid-configuration" }}
opaque     = true
tls        = {{ ca_file = "{authority}" }}

[issuer.introspection]
client_id     = "live"
client_secret = {{ text = "{secret}" }}

[handshake]
credentials     = ["authorization"]
trusted_proxies = []

[limits]
connections_per_address = 1000
connections_per_user    = 1000
messages_per_user       = {{ count = 1000000, per = "1s" }}

[messages]
"chat.send" = "chat:write"
"""


class Gunicorn:
    """A gunicorn that preloads the application, and what came of it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, report: Path) -> None:
        self._process = process
        self._port = port
        self._report = report

    def ask(self, token: str) -> dict[str, object]:
        url = f"http://127.0.0.1:{self._port}/live"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert isinstance(answer, dict)
        return answer

    def end(self) -> dict[str, object]:
        """Ends it as an operator does; what the master found out of itself."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0
        report = json.loads(self._report.read_text())
        assert isinstance(report, dict)
        return report


@contextmanager
def gunicorn(provider: Provider, authority: Authority, folder: Path) -> Iterator[Gunicorn]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        text = CONFIG.format(
            issuer=provider.issuer, audience=provider.audience, authority=authority.path, secret=provider.secret
        )
        report = folder / "report.json"
        environment = {
            **os.environ,
            "WSAUTH_TEST_CONFIG": text,
            "WSAUTH_TEST_TOKEN": provider.log_in("master", "opaque"),
            "WSAUTH_TEST_LAST_TOKEN": provider.log_in("master-again", "opaque"),
            "WSAUTH_TEST_REPORT": str(report),
        }
        command = [str(ROOT / ".venv/bin/python"), "-m", "gunicorn", "--preload", "--workers", str(WORKERS)]
        command += ["--bind", f"fd://{listener.fileno()}", "--config", "python:prefork_app", "--timeout", "60"]
        command += ["--log-level", "warning", "prefork_app:app"]
        process = subprocess.Popen(command, cwd=HERE, env=environment, pass_fds=[listener.fileno()])
        port = listener.getsockname()[1]
    # Nobody but gunicorn has the listener now: when it dies, connections fail.
    try:
        yield Gunicorn(process, port, report)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_all_workers_of_a_preloaded_engine_serve_and_none_takes_the_answer_of_another(
    provider: Provider, authority: Authority, tmp_path: Path
) -> None:
    users = [f"user-{number}" for number in range(USERS)]
    tokens = [(user, provider.log_in(user, kind)) for user in users for kind in ("opaque", "jwt/ES256")]
    asked: set[tuple[object, str]] = set()
    before = provider.counts().get(INTROSPECTION, 0)
    with gunicorn(provider, authority, tmp_path) as server, ThreadPoolExecutor(2 * WORKERS) as pool:
        for _ in range(ROUNDS):
            for (user, token), answer in zip(tokens, pool.map(server.ask, [token for _, token in tokens]), strict=True):
                worker = answer["worker"]
                assert answer == {"worker": worker, "subject": user, "decided": True, "own": "misuse_handle"}
                if token.count(".") == 0:
                    asked.add((worker, user))
            if len({worker for worker, _ in asked}) == WORKERS:
                break
        assert len({worker for worker, _ in asked}) == WORKERS
        # Each worker asked for itself, once for each token, and the master had asked once.
        assert provider.counts()[INTROSPECTION] == before + 1 + len(asked)
        assert server.ask("an-invented-token")["refused"] == "token_inactive"
        assert server.end() == {"own": True, "connections": 1, "subject": "master-again"}
