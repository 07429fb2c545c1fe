#!/usr/bin/env bash
# Formatting, lints, licences and types. Nothing is changed.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '[check] %s\n' "$1"; }
step "cargo fmt"
cargo fmt --all --check
step "cargo clippy"
cargo clippy -q --workspace --all-targets -- -D warnings
step "rustdoc"
RUSTDOCFLAGS="-D warnings" cargo doc -q --workspace --no-deps
deny=$(command -v cargo-deny || true)
if [ -z "$deny" ]; then
    deny=target/tools/bin/cargo-deny
    if [ ! -x "$deny" ]; then
        step "building cargo-deny (some minutes, once)"
        cargo install -q cargo-deny --version 0.20.2 --locked --root target/tools
    fi
fi
step "cargo deny: licences, bans, sources"
"$deny" --log-level error check licenses bans sources
# The advisory database is fetched from its repository; a machine without a way there says so and goes on.
# deny.toml bans the versions with known advisories whatever the network says.
step "cargo deny: advisories"
if timeout 60 "$deny" --log-level error fetch db >/dev/null 2>&1; then
    "$deny" --log-level error check advisories
else
    echo "[check] NOT CHECKED: the advisory database cannot be reached from here"
fi
admin/python.sh
step "ruff"
.venv/bin/ruff check -q python examples admin tests/e2e
.venv/bin/ruff format -q --check python examples admin tests/e2e
step "mypy --strict"
.venv/bin/mypy --strict -p wsauth
.venv/bin/mypy --strict examples/demo/story.py examples/python-websockets/server.py admin/test.py
(cd tests/e2e && ../../.venv/bin/mypy --strict .)
echo "[check] all good"
