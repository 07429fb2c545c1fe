#!/usr/bin/env bash
# Installs the C library and its headers, or only builds or removes them: install.sh [--build | --uninstall]
# PREFIX (/usr/local), LIBDIR (PREFIX/lib), INCLUDEDIR (PREFIX/include) and DESTDIR as everywhere; CARGO_TARGET_DIR is
# where it was or is built. Without cargo, as under sudo, it takes what an earlier run built.
set -euo pipefail
cd "$(dirname "$0")/.."

PREFIX=${PREFIX:-/usr/local}
LIBDIR=${LIBDIR:-$PREFIX/lib}
INCLUDEDIR=${INCLUDEDIR:-$PREFIX/include}
DESTDIR=${DESTDIR:-}
for folder in "$PREFIX" "$LIBDIR" "$INCLUDEDIR"; do
    case $folder in
    /*) ;;
    *)
        echo "install: $folder is not an absolute path" >&2
        exit 2
        ;;
    esac
done

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
built=${CARGO_TARGET_DIR:-target}/release
soname=libwsauth.so.${version%.*} # ffi/build.rs says the same; compared below
real=libwsauth.so.$version
cmake=$LIBDIR/cmake/wsauth

remove() {
    rm -f "$DESTDIR$INCLUDEDIR"/wsauth.{h,hpp} "$DESTDIR$LIBDIR/pkgconfig/wsauth.pc" \
        "$DESTDIR$LIBDIR"/{libwsauth.a,libwsauth.so,"$soname","$real"} \
        "$DESTDIR$cmake"/wsauthConfig{,Version}.cmake
    if [ -d "$DESTDIR$cmake" ]; then rmdir --ignore-fail-on-non-empty "$DESTDIR$cmake"; fi
}

build() {
    mkdir -p "$built"
    cargo rustc -q --release -p wsauth-ffi --lib -- --print "native-static-libs=$(realpath "$built")/wsauth-native-libs"
}

# Only what include/symbols.txt lists is visible in the static library: two Rust libraries in one program would
# otherwise bring the same symbols of Rust's own.
make_static() { # destination
    local work
    work=$(mktemp -d)
    ld -r --whole-archive "$built/libwsauth_ffi.a" -o "$work/wsauth.o"
    # Rust leaves LLVM bitcode beside the machine code, for its own linker.
    objcopy --keep-global-symbols=include/symbols.txt --strip-debug -R .llvmbc -R .llvmcmd "$work/wsauth.o"
    rm -f "$1"
    ar crsD "$1" "$work/wsauth.o"
    rm -r "$work"
    chmod 644 "$1"
}

relative() { # path, for pkg-config: by ${prefix} where it lies there
    case $1 in
    "$PREFIX"/*) echo "\${prefix}${1#"$PREFIX"}" ;;
    *) echo "$1" ;;
    esac
}

write_pkgconfig() {
    cat <<PC
prefix=$PREFIX
libdir=$(relative "$LIBDIR")
includedir=$(relative "$INCLUDEDIR")

Name: wsauth
Description: Authenticates a WebSocket, and everything in its life after the handshake
URL: https://github.com/wsauth/wsauth
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lwsauth
Libs.private: $natives
PC
}

# Paths are found from where this file lies, so that the tree may be moved.
write_cmake() {
    cat <<CMAKE
# wsauth::wsauth is the shared library, wsauth::wsauth_static the static one.
get_filename_component(_wsauth_libdir "\${CMAKE_CURRENT_LIST_DIR}/../.." ABSOLUTE)
get_filename_component(_wsauth_includedir "\${_wsauth_libdir}/$(realpath -ms --relative-to="$LIBDIR" "$INCLUDEDIR")" ABSOLUTE)
if(NOT TARGET wsauth::wsauth)
    add_library(wsauth::wsauth SHARED IMPORTED)
    set_target_properties(wsauth::wsauth PROPERTIES
        IMPORTED_LOCATION "\${_wsauth_libdir}/$real"
        IMPORTED_SONAME "$soname"
        INTERFACE_INCLUDE_DIRECTORIES "\${_wsauth_includedir}")
    add_library(wsauth::wsauth_static STATIC IMPORTED)
    set_target_properties(wsauth::wsauth_static PROPERTIES
        IMPORTED_LOCATION "\${_wsauth_libdir}/libwsauth.a"
        IMPORTED_LINK_INTERFACE_LANGUAGES C
        INTERFACE_LINK_LIBRARIES "$(tr ' ' ';' <<<"$natives")"
        INTERFACE_INCLUDE_DIRECTORIES "\${_wsauth_includedir}")
endif()
unset(_wsauth_libdir)
unset(_wsauth_includedir)
CMAKE
}

# Until 1.0 another minor version is another ABI.
write_cmake_version() {
    cat <<CMAKE
set(PACKAGE_VERSION "$version")
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION AND
   (NOT PACKAGE_FIND_VERSION_COUNT GREATER 1 OR
    "\${PACKAGE_FIND_VERSION_MAJOR}.\${PACKAGE_FIND_VERSION_MINOR}" STREQUAL "${version%.*}"))
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(NOT CMAKE_SIZEOF_VOID_P STREQUAL "" AND NOT CMAKE_SIZEOF_VOID_P STREQUAL "$bytes")
    set(PACKAGE_VERSION_UNSUITABLE TRUE)
endif()
CMAKE
}

put() { # destination; content from standard input
    install -d "$(dirname "$1")"
    rm -f "$1"
    cat >"$1"
    chmod 644 "$1"
}

case ${1:-} in
--uninstall)
    remove
    exit 0
    ;;
--build)
    build
    exit 0
    ;;
"") ;;
*)
    echo "usage: install.sh [--build | --uninstall]" >&2
    exit 2
    ;;
esac

if command -v cargo >/dev/null; then
    build
elif [ ! -e "$built/wsauth-native-libs" ]; then
    echo "install: nothing is built in $built and there is no cargo here: run make lib first" >&2
    exit 1
fi
natives=$(tr -s '[:space:]' ' ' <"$built/wsauth-native-libs" | sed 's/^native-static-libs: //; s/ $//')
bytes=$(($(getconf LONG_BIT) / 8))
if ! readelf -d "$built/libwsauth_ffi.so" | grep SONAME | grep -qF "[$soname]"; then
    echo "install: the SONAME of ffi/build.rs is not $soname" >&2
    exit 1
fi

remove
install -d "$DESTDIR$INCLUDEDIR" "$DESTDIR$LIBDIR"
install -m 644 include/wsauth.h "$DESTDIR$INCLUDEDIR/"
if [ -e include/wsauth.hpp ]; then install -m 644 include/wsauth.hpp "$DESTDIR$INCLUDEDIR/"; fi
install -m 755 "$built/libwsauth_ffi.so" "$DESTDIR$LIBDIR/$real"
strip --strip-unneeded "$DESTDIR$LIBDIR/$real"
ln -sf "$real" "$DESTDIR$LIBDIR/$soname"
ln -sf "$soname" "$DESTDIR$LIBDIR/libwsauth.so"
make_static "$DESTDIR$LIBDIR/libwsauth.a"
write_pkgconfig | put "$DESTDIR$LIBDIR/pkgconfig/wsauth.pc"
write_cmake | put "$DESTDIR$cmake/wsauthConfig.cmake"
write_cmake_version | put "$DESTDIR$cmake/wsauthConfigVersion.cmake"
if [ -z "$DESTDIR" ] && [ "$(id -u)" = 0 ] && [ "$LIBDIR" = /usr/local/lib ]; then ldconfig; fi
echo "installed wsauth $version under $DESTDIR$PREFIX"
