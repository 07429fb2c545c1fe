#!/usr/bin/env bash
# Model-checks the connection record: every interleaving of its readers and writers, within loom's bounds.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom" cargo test -q -p wsauth --release --lib --target-dir target/loom loom
