#!/usr/bin/env bash
# The C++ tests against a staged installation. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/.."
stage=$PWD/target/stage
PREFIX=$stage admin/install.sh || exit 1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
PKG_CONFIG_PATH=$stage/lib/pkgconfig LD_LIBRARY_PATH=$stage/lib tests/cpp/run.sh >"$log" 2>&1
grep -v '^ok: ' "$log"
printf '%s passed, %s failed\n' "$(grep -c '^ok: ' "$log")" "$(grep -c '^FAILED: ' "$log")"
! grep -q '^FAILED: ' "$log"
