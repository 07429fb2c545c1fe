#!/usr/bin/env bash
# Compiles and runs the C++ tests. usage: run.sh FLAGS...   (how to find wsauth.h, wsauth.hpp and the library; without
# any, pkg-config is asked). Prints a line a test and ends with 1 when one fails.
set -uo pipefail
cd "$(dirname "$0")"
if [ $# -gt 0 ]; then flags=("$@"); else read -ra flags <<< "$(pkg-config --cflags --libs wsauth)"; fi
compiler=${CXX:-g++}
strict=(-Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wswitch-enum)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

for variant in "-std=c++17 -g" "-std=c++17 -O2 -fno-exceptions" "-std=c++20 -O1" \
    "-std=c++17 -g -fsanitize=address,undefined -fno-sanitize-recover=all"; do
    # shellcheck disable=SC2086 # the variants are lists of options
    if "$compiler" $variant "${strict[@]}" hpp.cpp "${flags[@]}" -pthread -o "$folder/hpp" && "$folder/hpp"; then
        echo "ok: hpp.cpp $variant"
    else
        echo "FAILED: hpp.cpp $variant"
        failed=1
    fi
done

# None must compile and each must not, with a message about what was forgotten.
for mistake in $(seq 0 13); do
    "$compiler" -std=c++17 "${strict[@]}" -fsyntax-only "-DMISTAKE=$mistake" forgotten.cpp "${flags[@]}" \
        2> "$folder/said"
    compiled=$?
    if [ $((mistake == 0)) -eq $((compiled == 0)) ] && ! grep -q "No such file" "$folder/said"; then
        echo "ok: forgotten.cpp mistake $mistake"
    else
        echo "FAILED: forgotten.cpp mistake $mistake"
        cat "$folder/said"
        failed=1
    fi
done
exit $failed
