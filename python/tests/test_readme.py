"""The README's Python, as it stands there."""

import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import wsauth
from conftest import UPGRADE

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readme_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    text = README.read_text()
    toml, _ = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    server, client, _ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    printed = re.search(r"It prints\n\n```text\n(.*?)```", text, re.DOTALL)
    assert printed is not None
    # Another port than the README's, which may be taken here.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    (tmp_path / "wsauth.toml").write_text(toml)
    (tmp_path / "server.py").write_text(server.replace("8765", port))
    (tmp_path / "client.py").write_text(client.replace("8765", port))
    running = subprocess.Popen([sys.executable, "server.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == f"listening on {port}\n"
        output = subprocess.run(
            [sys.executable, "client.py"], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=True
        ).stdout
    finally:
        running.kill()
        running.wait()
    # Only the times differ from run to run.
    blank = re.compile(r"\d{10}")
    assert blank.sub("T", output) == blank.sub("T", printed[1])


def test_the_sources_of_the_readme_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    _, toml = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    page = (README.parent / "docs" / "sources.md").read_text()
    assert toml in page, "and stand in docs/sources.md as well"
    monkeypatch.setenv("INTROSPECTION_SECRET", "client-secret")
    rest = '[handshake]\ncredentials = ["authorization"]\norigins = ["https://app.example.com"]\ntrusted_proxies = []\n'
    with wsauth.Engine.from_toml(toml + rest) as engine, pytest.raises(wsauth.Refused) as refused:
        engine.handshake("/", [*UPGRADE, ("Origin", "https://app.example.com")], "192.0.2.1")
    assert refused.value.reason == "credential_missing"


SESSIONS = """
sessions = {}
messages = { "chat.send" = "chat:write" }

[handshake]
origins = ["https://app.example.com"]
credentials = ["cookie"]
trusted_proxies = []
cookie = { name = "sid", holds = "session" }
"""


def test_the_store_of_the_readme_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, store = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "sessions.toml").write_text(SESSIONS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store.py").write_text(store)
    with runpy.run_path("store.py")["engine"] as engine:

        def enter(session: str) -> wsauth.Connection:
            headers = [*UPGRADE, ("Origin", "https://app.example.com"), ("Cookie", f"sid={session}")]
            return engine.handshake("/", headers, "192.0.2.1")

        assert enter("3f9c2b7a51d84e06").message('{"type":"chat.send"}')
        with pytest.raises(wsauth.Refused):
            enter("3f9c2b7a51d84e07")
