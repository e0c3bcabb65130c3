"""`minio server PATH`: SeaweedFS with MinIO's variables.

As the original: MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, which may not be shorter than 3 and 8 characters, and are minioadmin
where nobody says; it makes no bucket by itself. There is no console.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from shared.engines.files import write_private
from shared.engines.object_store import Identity, S3Engine
from shared.sandbox.railway_runtime.images.engines import serve
from shared.sandbox.railway_runtime.images.inside import Inside, die
from shared.sandbox.railway_runtime.images.options import option, without

_PORT = 9000
_ACTIONS = ("Admin", "Read", "Write", "List", "Tagging")


def main(arguments: list[str]) -> int:
    """Run the server; returns the exit status."""
    folders = without(arguments, "--address", "--console-address")
    if len(folders) != 2 or folders[0] != "server":
        die("USAGE: minio server DIR [--address :9000] [--console-address :9001]")
    user = os.environ.get("MINIO_ROOT_USER") or "minioadmin"
    password = os.environ.get("MINIO_ROOT_PASSWORD") or "minioadmin"
    if len(user) < 3 or len(password) < 8:
        die(
            "FATAL Unable to validate credentials inherited from the shell environment: MINIO_ROOT_USER needs 3 characters, "
            "MINIO_ROOT_PASSWORD 8"
        )
    inside = Inside.read()
    directory = Path(folders[1]).resolve()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    port = (option(arguments, "--address") or "").rpartition(":")[2]
    # The engine has an administrator of its own, whose key nobody is told; where the names are the same, the key is, too.
    key = password if user == "admin" else secrets.token_urlsafe(24)
    write_private(directory / "secret-key", key + "\n")
    others = [] if user == "admin" else [Identity(user, user, password, _ACTIONS)]
    return serve(S3Engine(directory, port=inside.port(int(port or _PORT)), identities=others))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
