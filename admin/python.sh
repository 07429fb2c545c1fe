#!/usr/bin/env bash
# Builds the Python module into .venv. Arguments go to maturin, such as --release.
set -euo pipefail
cd "$(dirname "$0")/.."
admin/venv.sh
VIRTUAL_ENV="$PWD/.venv" .venv/bin/maturin develop -q -m python/Cargo.toml "$@"
