#!/usr/bin/env bash
# Installs through apt what is missing for the demo (or, with `dev`, for the tests too); silent when nothing is.
set -euo pipefail

kind=${1:?usage: system_packages.sh demo|dev}
python=${PYTHON:-python3}
need=()

have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

have cc || need+=(gcc libc6-dev)
"$python" -c 'import ensurepip, venv' 2>/dev/null || need+=(python3-venv)
# The genicam wheel links against the shared Python library.
"$python" - <<'PY' || need+=("libpython$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')")
import ctypes, ctypes.util, sys, sysconfig
name = "libpython%d.%d.so.1.0" % sys.version_info[:2]
for candidate in (name, f"{sysconfig.get_config_var('LIBDIR')}/{name}"):
    try:
        ctypes.CDLL(candidate)
        sys.exit(0)
    except OSError:
        pass
sys.exit(1)
PY
if [ "$kind" = dev ]; then
    # Aravis with its camera simulator, and what its Python binding is built with.
    have pkg-config || need+=(pkg-config)
    for library in gobject-introspection-1.0:libgirepository1.0-dev cairo:libcairo2-dev; do
        pkg-config --exists "${library%%:*}" 2>/dev/null || need+=("${library#*:}")
    done
    [ -n "$(find /usr/lib -name Aravis-0.8.typelib -print -quit)" ] || need+=(gir1.2-aravis-0.8)
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' ||
        need+=(python3-dev)
    have mosquitto || need+=(mosquitto)
    have chromium || need+=(chromium)
    have chromedriver || need+=(chromium-driver)
fi

[ ${#need[@]} -eq 0 ] && exit 0
if ! have apt-get; then
    echo "missing system packages: ${need[*]}; install them with this system's package manager and try again" >&2
    exit 2
fi
echo "installing system packages: ${need[*]}"
export DEBIAN_FRONTEND=noninteractive
${SUDO:-} apt-get update -qq
${SUDO:-} apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
