#!/usr/bin/env bash
# Installs the OpenID providers of the end-to-end tests into tests/peers/node_modules, as their lock file says.
# Node.js comes from .venv: the providers need 22.12 or later, and Debian 12 has 18.
set -euo pipefail
cd "$(dirname "$0")/.."
admin/venv.sh
bin=$PWD/.venv/bin
cd tests/peers
lock=$({ sha256sum package.json package-lock.json; "$bin/node" --version; } | sha256sum | cut -d' ' -f1)
[ "$(cat node_modules/.installed 2>/dev/null)" = "$lock" ] && exit 0
echo "installing the OpenID providers of the tests into tests/peers/node_modules"
PATH="$bin:$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
echo "$lock" > node_modules/.installed
