"""`python -m railway.worker`: what the worker's container starts. SIGTERM ends it in order."""

from __future__ import annotations

import argparse
import logging
import os
import sys

from blocks.errors import StackError
from blocks.settings import Settings
from railway.worker.preflight import refuse_incomplete
from railway.worker.supervisor import Supervisor


def main(argv: list[str] | None = None) -> int:
    """Run worker and gateway; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m railway.worker", description=__doc__)
    parser.add_argument("--limit", type=int, help="flow runs at once; default as many as come")
    parser.add_argument("--gateway-host", help="address that the gateway listens on; default every one")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = Settings.load()
        refuse_incomplete(settings)
        supervisor = Supervisor(settings, environment=os.environ, limit=options.limit, gateway_host=options.gateway_host)
    except StackError as error:
        print(f"worker: {error}", file=sys.stderr)  # noqa: T201 - the container's log
        return 1
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
