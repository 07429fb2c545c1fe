#!/usr/bin/env bash
# Builds the Python module into .venv. Arguments go to maturin, such as --release.
set -euo pipefail
cd "$(dirname "$0")/.."
admin/venv.sh
# maturin tells much that matters only when it fails; what is being compiled is progress to look at.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
build() { VIRTUAL_ENV="$PWD/.venv" .venv/bin/maturin develop -m python/Cargo.toml "$@" 2>&1; }
if ! build "$@" | tee "$log" | { grep --line-buffered -E '^ *(Compiling|Finished) ' || true; }; then
    cat "$log" >&2
    exit 1
fi
