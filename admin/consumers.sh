#!/usr/bin/env bash
# Installs into a scratch folder and builds a program of each kind against it. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
passed=0 failed=0
# Not CFLAGS: cargo would build its C code with them.
export strict="-std=c99 -D_DEFAULT_SOURCE -Wall -Wextra -Wpedantic -Werror"
export strict_cpp="-std=c++17 -Wall -Wextra -Wpedantic -Werror"
for tool in cc c++ cmake pkg-config readelf nm; do
    if ! command -v $tool >/dev/null; then
        echo "consumers: $tool is missing: apt-get install gcc g++ cmake pkg-config binutils" >&2
        echo "0 passed, 1 failed"
        exit 1
    fi
done

try() { # title, command...
    local title=$1
    shift
    if "$@" >"$out/log" 2>&1; then
        passed=$((passed + 1))
        echo "[install] $title"
    else
        failed=$((failed + 1))
        echo "[install] FAILED: $title"
        tail -15 "$out/log"
    fi
}

end() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ] || exit 1
}

sh() { bash -euo pipefail -c "$1"; }

export prefix="$out/usr" tree="$out/usr/lib" include="$out/usr/include" stage="$out/stage" root out
unset DESTDIR LIBDIR INCLUDEDIR

try "make install PREFIX=" make -s install PREFIX="$prefix"
[ "$failed" -eq 0 ] || end
try "files are there" sh 'cd "$prefix" && ls include/wsauth.h include/wsauth.hpp lib/libwsauth.{a,so,so.0.1,so.0.1.0} \
    lib/pkgconfig/wsauth.pc lib/cmake/wsauth/wsauthConfig{,Version}.cmake'
try "nothing else is there" sh '[ "$(find "$prefix" -not -type d | wc -l)" = 9 ]'
try "links lead to libwsauth.so.0.1.0" sh '[ "$(readlink "$tree/libwsauth.so")" = libwsauth.so.0.1 ] &&
    [ "$(readlink "$tree/libwsauth.so.0.1")" = libwsauth.so.0.1.0 ]'
try "SONAME is libwsauth.so.0.1" sh 'readelf -d "$tree/libwsauth.so" | grep SONAME | grep -F "[libwsauth.so.0.1]"'
try "no search path inside" sh '! readelf -d "$tree/libwsauth.so" | grep -E "RPATH|RUNPATH"'
try "shared symbols are include/symbols.txt" sh \
    'diff <(nm -D --defined-only "$tree/libwsauth.so" | awk "{ print \$3 }" | LC_ALL=C sort) include/symbols.txt'
try "static symbols are include/symbols.txt" sh \
    'diff <(nm -g --defined-only "$tree/libwsauth.a" | awk "NF == 3 { print \$3 }" | LC_ALL=C sort -u) include/symbols.txt'
try "nothing names the build folder" sh '! grep -rF "$root" "$include" "$tree/pkgconfig" "$tree/cmake"'

export PKG_CONFIG_PATH="$tree/pkgconfig" LD_LIBRARY_PATH="$tree"
export mine='$(pkg-config --cflags wsauth)'
try "C, pkg-config, shared" sh "cc \$strict $mine tests/install/consumer.c -o \"\$out/c\" \$(pkg-config --libs wsauth) && \"\$out/c\""
try "it needs libwsauth.so.0.1" sh 'readelf -d "$out/c" | grep NEEDED | grep -F "[libwsauth.so.0.1]"'
try "C, pkg-config --static" sh "cc \$strict $mine tests/install/consumer.c -o \"\$out/s\" \
    \$(pkg-config --static --libs wsauth | sed 's/-lwsauth/-l:libwsauth.a/') && env -u LD_LIBRARY_PATH \"\$out/s\""
try "it needs no libwsauth.so" sh '! readelf -d "$out/s" | grep NEEDED | grep -F libwsauth'
try "C++, wsauth.hpp, pkg-config" sh "c++ \$strict_cpp $mine tests/install/consumer.cpp -o \"\$out/p\" \
    \$(pkg-config --libs wsauth) && \"\$out/p\""
try "pkg-config tells the version" sh '[ "$(pkg-config --modversion wsauth)" = 0.1.0 ]'

# Each C block of the page by itself.
try "docs/c.md compiles" sh 'mkdir "$out/docs" && awk -v dir="$out/docs" "
    /^\`\`\`c\$/ { file = dir \"/\" ++n \".c\"; next } /^\`\`\`/ { file = \"\" } file { print > file }" docs/c.md &&
    ls "$out/docs/1.c" && for block in "$out"/docs/*.c; do cc $strict $(pkg-config --cflags wsauth) -c "$block" -o "$block.o"; done'

unset LD_LIBRARY_PATH
try "CMake, find_package" sh 'cmake -S tests/install -B "$out/build" -DCMAKE_PREFIX_PATH="$prefix" && cmake --build "$out/build"'
for target in shared static cpp; do
    try "CMake, $target" "$out/build/$target"
done
try "CMake refuses another minor version" sh 'sed "s/wsauth 0.1 /wsauth 0.2 /" tests/install/CMakeLists.txt >"$out/CMakeLists.txt" &&
    mkdir -p "$out/other" && cp tests/install/consumer.* "$out/other" && mv "$out/CMakeLists.txt" "$out/other" &&
    ! cmake -S "$out/other" -B "$out/other/build" -DCMAKE_PREFIX_PATH="$prefix" >"$out/other/log" 2>&1 &&
    grep -F "wsauthConfig.cmake, version: 0.1.0" "$out/other/log"'
try "CMake, after the tree moved" sh 'cp -a "$prefix" "$out/moved" && mv "$prefix" "$prefix.away" &&
    cmake -S tests/install -B "$out/build2" -DCMAKE_PREFIX_PATH="$out/moved" && cmake --build "$out/build2" &&
    "$out/build2/shared"; code=$?; mv "$prefix.away" "$prefix"; exit $code'

# A build script asks pkg-config: another path would have everything built again.
try "make install DESTDIR= LIBDIR=" env -u PKG_CONFIG_PATH make -s install DESTDIR="$stage" PREFIX=/usr LIBDIR=/usr/lib/x86_64-linux-gnu
try "wsauth.pc does not know DESTDIR" sh '! grep -rF "$stage" "$stage/usr" --include=*.pc --include=*.cmake'
export PKG_CONFIG_PATH="$stage/usr/lib/x86_64-linux-gnu/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$stage"
try "C against the stage" sh "cc \$strict $mine tests/install/consumer.c -o \"\$out/d\" \$(pkg-config --libs wsauth) &&
    LD_LIBRARY_PATH=\"\$stage/usr/lib/x86_64-linux-gnu\" \"\$out/d\""
unset PKG_CONFIG_SYSROOT_DIR
try "CMake against the stage" sh 'cmake -S tests/install -B "$out/build3" -DCMAKE_PREFIX_PATH="$stage/usr" \
    -DCMAKE_LIBRARY_ARCHITECTURE=x86_64-linux-gnu && cmake --build "$out/build3" && "$out/build3/static"'
try "make uninstall DESTDIR=" make -s uninstall DESTDIR="$stage" PREFIX=/usr LIBDIR=/usr/lib/x86_64-linux-gnu
try "nothing is left" sh '[ -z "$(find "$stage" -not -type d)" ]'
if pkg-config --exists libwebsockets; then
    export PKG_CONFIG_PATH="$tree/pkgconfig"
    try "the libwebsockets example builds" sh 'cp -r examples/c-libwebsockets "$out/lws" && make -s -C "$out/lws" CFLAGS="-Werror" &&
        ! ldd "$out/lws/server" | grep -F "not found" | grep -v wsauth'
else
    failed=$((failed + 1))
    echo "[install] FAILED: libwebsockets is missing: apt-get install libwebsockets-dev"
fi

end
