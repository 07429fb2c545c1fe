#!/usr/bin/env bash
# Builds the Python module into .venv. Arguments go to maturin, such as --release.
set -euo pipefail
cd "$(dirname "$0")/.."
admin/venv.sh
# maturin tells much that matters only when it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! VIRTUAL_ENV="$PWD/.venv" .venv/bin/maturin develop -m python/Cargo.toml "$@" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
