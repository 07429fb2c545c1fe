#!/usr/bin/env bash
# Installs Debian's packages that the C and C++ tests need, where they are missing and we may.
set -euo pipefail
missing=()
have() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q "install ok installed"; }
for package in gcc g++ make pkg-config cmake valgrind binutils libwebsockets-dev libboost-dev; do
    have "$package" || missing+=("$package")
done
# pkgconf stands for pkg-config on newer systems.
if have pkgconf; then missing=("${missing[@]/pkg-config/}"); fi
read -ra missing <<<"${missing[*]:-}"
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
else
    echo "the C and C++ tests need: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
