#!/usr/bin/env bash
# Make .venv/litellm hold exactly what shared/sandbox/litellm.lock lists, if it does not already: the LiteLLM gateway of the sandbox,
# whose dependencies do not go together with Prefect's. 90 s and 600 MB the first time; safe to interrupt and to repeat.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly venv=.venv target=.venv/litellm cache="$PWD/.venv/cache" lock=shared/sandbox/litellm.lock
readonly python=$venv/bin/python

[[ -x $venv/bin/uv ]] || {
    echo "$venv is not there yet: run make venv first" >&2
    exit 1
}
stamp="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') $PWD $(sha256sum <"$lock")"
is_current() { [[ -x $target/bin/python && -f $target/stamp && $(<"$target/stamp") == "$stamp" ]]; }
is_current && exit 0

mkdir -p "$cache"
exec 9>"$cache/litellm.lock"
flock 9 # a second sandbox at the same time waits here
is_current && exit 0
rm -f "$target/stamp"

export UV_CACHE_DIR="$cache/uv"
source shared/scripts/indexes.sh
echo "Installing what $lock lists into $target"
"$venv/bin/uv" --quiet venv --allow-existing --python "$python" "$target"
# Compiled once here: without .pyc files the first start of the gateway takes a minute.
UV_COMPILE_BYTECODE=1 "$venv/bin/uv" --quiet pip sync --no-build --python "$target/bin/python" --require-hashes "$lock"
echo "$stamp" >"$target/stamp.new"
mv "$target/stamp.new" "$target/stamp"
