"""`python -m railway.worker.healthcheck`: whether the gateway of this container answers; the image's HEALTHCHECK.

Railway asks the gateway itself, by HTTP. This is for whoever runs the image with Docker.
"""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT = 4.0
"""Seconds."""


def main() -> int:
    """Ask /livez; returns the exit status: 0 where it answers 200, else 1 with one line."""
    port = os.environ.get("PORT") or "8080"
    connection = http.client.HTTPConnection("localhost", int(port), timeout=TIMEOUT)
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"gateway: no answer on port {port} ({type(error).__name__})", file=sys.stderr)  # noqa: T201 - Docker keeps it
        return 1
    finally:
        connection.close()
    if status != http.client.OK:
        print(f"gateway: /livez answered {status}, expected 200", file=sys.stderr)  # noqa: T201 - as above
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
