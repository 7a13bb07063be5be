#!/bin/sh
# MedVeil and all it needs as wheels, for machines without a way out.
#   with internet:    ./wheelhouse.sh collect SOURCE    SOURCE: MedVeil's source folder or its wheel
#   without:          ./wheelhouse.sh install PREFIX    PREFIX: a folder for a new virtual environment
# Collect with the Python version and on the kind of machine it is for: wheels differ. In between, carry this script and
# the folder wheelhouse, and compare the printed checksum of SHA256SUMS over another channel.
# PYTHON chooses the Python (python3); PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gets torch without CUDA.
set -eu
PYTHON=${PYTHON:-python3}
cd_here() { cd "$(dirname "$0")"; }

case "${1:-}:${2:-}" in
collect:?*)
    source=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
    cd_here
    mkdir -p wheelhouse
    case "$source" in
    *.whl) cp "$source" wheelhouse/ ;;
    *) "$PYTHON" -m pip wheel --no-deps --wheel-dir wheelhouse "$source" ;;
    esac
    # The tested versions, where the source says which.
    if [ -f "$source/constraints.txt" ]; then
        set -- --constraint "$source/constraints.txt"
    else
        set --
    fi
    # Wheels only: a source package would run code of its own while it is built.
    "$PYTHON" -m pip download --only-binary :all: --dest wheelhouse "$@" wheelhouse/medveil-*.whl
    (cd wheelhouse && rm -f SHA256SUMS && sha256sum ./*.whl >../SHA256SUMS.new && mv ../SHA256SUMS.new SHA256SUMS)
    sha256sum wheelhouse/SHA256SUMS
    ;;
install:?*)
    prefix=$(mkdir -p "$2" && cd "$2" && pwd)
    cd_here
    (cd wheelhouse && sha256sum --check --quiet --strict SHA256SUMS)
    "$PYTHON" -m venv "$prefix"
    "$prefix/bin/pip" install --no-index --find-links wheelhouse medveil
    "$prefix/bin/@COMMAND@" --version
    ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
