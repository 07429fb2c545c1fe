#!/usr/bin/env bash
# Makes .venv with everything the Python face is built and tested with.
set -euo pipefail
cd "$(dirname "$0")/.."
[ .venv/.ready -nt python/requirements-dev.txt ] && exit 0
if ! python3 -m venv .venv 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing python3-venv"
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
        python3 -m venv .venv
    else
        echo "python3 -m venv does not work here; on Debian: sudo apt-get install python3-venv" >&2
        exit 1
    fi
fi
echo "installing the Python tools into .venv"
.venv/bin/pip install -q --disable-pip-version-check -r python/requirements-dev.txt
touch .venv/.ready
