#!/usr/bin/env bash
# Make .venv hold exactly what requirements.lock lists. Without arguments: only if it does not already. Safe to interrupt
# and to repeat. Nothing outside the repository is written: pip's and uv's caches are in .venv/cache.
#
#   PYTHON=python3.12 shared/scripts/venv.sh          a Python of your choice, 3.11 to 3.13; default: python3
#
# uv installs in seconds what takes pip a minute. It is itself listed in requirements.lock: pip installs only that entry,
# by its hash, and uv the rest.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly venv=.venv cache="$PWD/.venv/cache" lock=requirements.lock
readonly python=${PYTHON:-python3}

fail() {
    echo "$*" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "$python is not installed; install it (apt-get install python3 python3-venv), or name another: PYTHON=python3.12 make ..."
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$python does not run; name another: PYTHON=python3.12 make ..."
case $version in
    3.11 | 3.12 | 3.13) ;;
    *) fail "$python is Python $version, but this project needs 3.11, 3.12 or 3.13; install one and name it: PYTHON=python3.12 make ..." ;;
esac

stamp="$version $PWD $(sha256sum <"$lock")"
is_current() { [[ -x $venv/bin/uv && -f $venv/stamp && $(<"$venv/stamp") == "$stamp" ]]; }
is_current && exit 0

mkdir -p "$cache"
exec 9>"$cache/venv.lock"
flock 9 # a second `make` at the same time waits here
is_current && exit 0
rm -f "$venv/stamp"

# A virtual environment knows its own path and is tied to one minor version of Python.
works() { [[ -d $venv/lib/python$version ]] && grep -qsF "$PWD/$venv" "$venv/bin/activate" && "$venv/bin/python" -m "$1" --version >/dev/null 2>&1; }

export PIP_CACHE_DIR="$cache/pip" PIP_DISABLE_PIP_VERSION_CHECK=1 UV_CACHE_DIR="$cache/uv"
if ! works uv; then
    if ! works pip; then
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "python3 -m venv is not available for $python; install it: apt-get install python3-venv (or python$version-venv)"
        echo "Creating $venv with Python $version"
        rm -rf "$venv"/{bin,include,lib,lib64,pyvenv.cfg,share} # not --clear: the cache may stay
        "$python" -m venv "$venv"
    fi
    # The lock's entry for uv alone, with its hashes: from `uv==` up to the next line that starts an entry.
    awk '/^[a-z0-9]/ { ours = /^uv==/ } ours' "$lock" >"$cache/uv.lock"
    "$venv/bin/python" -m pip install --quiet --require-hashes --no-deps --only-binary :all: -r "$cache/uv.lock"
fi

source shared/scripts/indexes.sh

echo "Installing what $lock lists into $venv"
# Compiled once here: without .pyc files Prefect takes twice as long to import, in every process of the stack.
UV_COMPILE_BYTECODE=1 "$venv/bin/uv" --quiet pip sync --no-build --python "$venv/bin/python" --require-hashes "$lock"
echo "$stamp" >"$venv/stamp.new"
mv "$venv/stamp.new" "$venv/stamp"
