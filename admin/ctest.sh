#!/usr/bin/env bash
# The C tests: as C99 and C++17, plain, with sanitizers and under valgrind. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/.."
out=target/c
mkdir -p "$out"
passed=0 failed=0

note() { # title, exit code, whether it says its own counts
    local title=$1 code=$2 log=$3
    local counts
    counts=$(grep -E '^[a-z]+: [0-9]+ passed, [0-9]+ failed$' "$log" | tail -1)
    if [ -n "$counts" ]; then
        local good bad
        good=$(sed -E 's/.*: ([0-9]+) passed.*/\1/' <<<"$counts")
        bad=$(sed -E 's/.* ([0-9]+) failed/\1/' <<<"$counts")
        passed=$((passed + good)) failed=$((failed + bad))
        if [ "$code" -ne 0 ] && [ "$bad" -eq 0 ]; then failed=$((failed + 1)); fi
    elif [ "$code" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
    if [ "$code" -eq 0 ]; then
        printf '[c] %-34s %s\n' "$title" "${counts#*: }"
    else
        printf '[c] %-34s FAILED (%s)\n' "$title" "$code"
        tail -40 "$log"
    fi
}

run() { # title, command...
    local title=$1 log
    shift
    log="$out/log.txt"
    timeout "${LIMIT:-300}" "$@" >"$log" 2>&1
    note "$title" $? "$log"
}

# The library as a release has it, and one that can be made to panic.
rm -rf "$out/lib" "$out/lib-panic" && mkdir -p "$out/lib" "$out/lib-panic"
for kind in lib-panic lib; do
    features=""
    [ $kind = lib-panic ] && features="--features test-panic"
    # shellcheck disable=SC2086
    cargo build -q -p wsauth-ffi $features || exit 1
    cp target/debug/libwsauth_ffi.so "$out/$kind/libwsauth.so.0.1"
    ln -sf libwsauth.so.0.1 "$out/$kind/libwsauth.so"
done

run "header is what the source says" admin/header.sh --check
nm -D --defined-only "$out/lib/libwsauth.so" | awk '{ print $3 }' | LC_ALL=C sort >"$out/symbols.txt"
run "symbols are include/symbols.txt" diff -u include/symbols.txt "$out/symbols.txt"
run "fewer than 45 functions" test "$(wc -l <include/symbols.txt)" -lt 45
run "SONAME" bash -c "readelf -d $out/lib/libwsauth.so | grep -q 'SONAME.*\[libwsauth.so.0.1\]'"
run "stays when unloaded" bash -c "readelf -d $out/lib/libwsauth.so | grep -q NODELETE"

# Every result of the header as {number, "name"}, for abi.c.
sed -nE 's/^#define WSAUTH_([A-Z_]+) (0|1[0-9]{4})$/\1 \2/p' include/wsauth.h |
    awk '$1 != "ACTION_NONE" && $1 != "PROPAGATED_OFF" && $1 !~ /^VERSION_/ { print "{WSAUTH_" $1 ", \"" tolower($1) "\"}," }' >"$out/reasons.inc"

warnings="-Wall -Wextra -Wpedantic -Werror"
include="-Iinclude -I$out"
link() { echo "-L$out/$1 -Wl,-rpath,$PWD/$out/$1 -lwsauth -lpthread"; }
build() { # compiler+flags, source, output, library folder
    local log="$out/log.txt"
    # shellcheck disable=SC2086
    if ! $1 $warnings $include -o "$out/$3" "tests/c/$2" $(link "$4") >"$log" 2>&1; then
        note "compile $3" 1 "$log"
        return 1
    fi
}

c99="gcc -std=c99 -D_POSIX_C_SOURCE=200809L -g -O1"
cxx="g++ -x c++ -std=c++17 -D_POSIX_C_SOURCE=200809L -g -O1"
for test in abi example lifecycle misuse threads fork; do
    library=lib
    [ $test = misuse ] && library=lib-panic
    build "$c99" $test.c $test-c $library && run "$test (C99)" "$out/$test-c"
    build "$cxx" $test.c $test-cxx $library && run "$test (C++17)" "$out/$test-cxx"
    # gcc 12's ASan holds no lock of its own over a fork: forking beside a busy thread hangs a child in malloc, without
    # a line of ours in it. Plain and valgrind runs fork under load.
    rounds=()
    [ $test = fork ] && rounds=(0)
    build "$c99 -fsanitize=address,undefined -fno-sanitize-recover=all" $test.c $test-asan $library &&
        ASAN_OPTIONS=detect_leaks=0 run "$test (ASan, UBSan)" "$out/$test-asan" "${rounds[@]}"
    leaks="--leak-check=full --errors-for-leak-kinds=definite"
    # A child forgets what it copied from its parent, on purpose.
    [ $test = fork ] && leaks="--leak-check=no"
    if [ $test != threads ]; then
        # shellcheck disable=SC2086
        run "$test (valgrind)" valgrind -q --error-exitcode=1 $leaks --child-silent-after-fork=yes "$out/$test-c" 3
    fi
done
# The library is not instrumented - stable Rust cannot - so its own atomics are invisible: TSan sees the calling side.
echo "called_from_lib:libwsauth.so.0.1" >"$out/tsan.txt"
build "$c99 -fsanitize=thread" threads.c threads-tsan lib &&
    TSAN_OPTIONS="suppressions=$PWD/$out/tsan.txt" run "threads (TSan)" "$out/threads-tsan"
build "$c99" vectors.c wsauth-vectors lib && run "vectors, decided in C" python3 tests/c/vectors.py "$out/wsauth-vectors"

# Built before, so that the test's time is its own.
cargo build -q --release -p wsauth-ffi --lib --example differential || exit 1
LIMIT=900 run "C and Rust side by side, 10^6 calls" admin/differential.sh

printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
