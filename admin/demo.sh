#!/usr/bin/env bash
# Builds the servers and tells them the story. Exits 1 when they decide otherwise than expected or than each other.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n[%s] %s\n' "$(date +%H:%M:%S)" "$1"; }
step "building the Rust server (some minutes the first time, most of them for the cryptography)"
CARGO_TERM_PROGRESS_WHEN=auto CARGO_TERM_PROGRESS_WIDTH=80 cargo build --release -p wsauth-example-tungstenite
step "building the Python module"
admin/python.sh --release
step "building the C and C++ servers"
mapfile -t more < <(admin/cservers.sh)
wait $!
step "the story, told to all at once"
.venv/bin/python examples/demo/story.py \
    "tungstenite=target/release/wsauth-example-tungstenite" \
    "websockets=.venv/bin/python examples/python-websockets/server.py" \
    "${more[@]}"
