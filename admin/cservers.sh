#!/usr/bin/env bash
# Builds the C and C++ example servers against a staged installation. Prints NAME=COMMAND for each that was built;
# what is missing is told on standard error, and fails with WSAUTH_REQUIRE=all.
set -euo pipefail
cd "$(dirname "$0")/.."
stage=$PWD/target/stage
missing() {
    echo "not here: $1; on Debian: apt-get install $2" >&2
    [ "${WSAUTH_REQUIRE:-}" != all ] || exit 1
}
has() { echo "#include <$1>" | "${2:-cc}" -x "${3:-c}" -E - >/dev/null 2>&1; }
if ! command -v pkg-config >/dev/null; then
    missing "pkg-config, for the C and C++ servers" pkg-config
    exit 0
fi
PREFIX=$stage admin/install.sh >&2
export PKG_CONFIG_PATH=$stage/lib/pkgconfig
if has libwebsockets.h; then
    make -s -C examples/c-libwebsockets server LDFLAGS="-Wl,-rpath,$stage/lib" >&2
    echo "libwebsockets=$PWD/examples/c-libwebsockets/server"
else
    missing "libwebsockets, for the C server" libwebsockets-dev
fi
if has boost/beast.hpp c++ c++; then
    mkdir -p target/examples
    # shellcheck disable=SC2046
    c++ -std=c++17 -O2 examples/cpp-beast/server.cpp -o target/examples/beast \
        $(pkg-config --cflags --libs wsauth) "-Wl,-rpath,$stage/lib" -pthread >&2
    echo "beast=$PWD/target/examples/beast"
else
    missing "Boost.Beast, for the C++ server" libboost-dev
fi
