#!/usr/bin/env bash
# Makes one random sequence of calls on the C ABI and on the Rust engine and compares every result: SEED (1), STEPS
# (1,000,000). The last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${1:-1} steps=${2:-1000000}
out=target/c/differential
mkdir -p "$out"
cargo build -q --release -p wsauth-ffi --lib --example differential
cp target/release/libwsauth_ffi.so "$out/libwsauth.so.0.1"
ln -sf libwsauth.so.0.1 "$out/libwsauth.so"
# shellcheck disable=SC2086
gcc -std=c99 -D_POSIX_C_SOURCE=200809L -O2 -g -Wall -Wextra -Wpedantic -Werror ${CFLAGS:-} -Iinclude \
    -o "$out/differential" tests/c/differential.c -L"$out" -Wl,-rpath,"$PWD/$out" -lwsauth
exec target/release/examples/differential "$seed" "$steps" "$out/differential"
