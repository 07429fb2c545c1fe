#!/usr/bin/env bash
# Makes include/wsauth.h from ffi/src and the contract page; with --check only compares.
set -euo pipefail
cd "$(dirname "$0")/.."
VERSION=0.29.4
cbindgen=$(command -v cbindgen || echo target/tools/bin/cbindgen)
if [ "$("$cbindgen" --version 2>/dev/null)" != "cbindgen $VERSION" ]; then cbindgen=target/tools/bin/cbindgen; fi
if [ ! -x "$cbindgen" ] || [ "$("$cbindgen" --version)" != "cbindgen $VERSION" ]; then
    echo "[header] building cbindgen $VERSION (some minutes, once)"
    cargo install -q cbindgen --version "$VERSION" --locked --root target/tools
fi
made=$(mktemp)
trap 'rm -f "$made" "$made.raw"' EXIT
"$cbindgen" --quiet --config ffi/cbindgen.toml --crate wsauth-ffi --output "$made.raw" ffi
python3 ffi/header.py "$made.raw" > "$made"
if [ "${1:-}" = --check ]; then
    if ! diff -u include/wsauth.h "$made"; then
        echo "[header] include/wsauth.h is not what ffi/src says: run admin/header.sh"
        exit 1
    fi
else
    mkdir -p include
    cp "$made" include/wsauth.h
    chmod 644 include/wsauth.h
fi
