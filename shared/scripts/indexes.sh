# Sourced by the scripts that install with uv; they set $venv (with pip in it, or not) and $python.
# uv does not read pip's settings. Where only pip was told about a package index or a certificate, pass that on.
setting() { "$venv/bin/python" -m pip config get "$1" 2>/dev/null || "$python" -m pip config get "$1" 2>/dev/null || true; }
if [[ -z ${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-} ]]; then
    index=${PIP_INDEX_URL:-$(setting global.index-url)}
    [[ -z $index ]] || export UV_DEFAULT_INDEX="$index"
fi
if [[ -z ${SSL_CERT_FILE:-} ]]; then
    certificates=${PIP_CERT:-$(setting global.cert)}
    [[ -z $certificates ]] || export SSL_CERT_FILE="$certificates"
fi
