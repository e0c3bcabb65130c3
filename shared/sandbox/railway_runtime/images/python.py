"""`python`: the interpreter of the project's environment, which finds the project as in the worker's image.

`python -m railway.worker` gets an address to listen on: a container is alone in its network, a program of this machine is not.
"""

from __future__ import annotations

import os
import sys

from shared.sandbox.railway_runtime.images.inside import HOST, become


def main(arguments: list[str]) -> None:
    """Become the interpreter."""
    if arguments[:2] == ["-m", "railway.worker"] and "--gateway-host" not in arguments:
        arguments = [*arguments, "--gateway-host", HOST]
    become(sys.executable, arguments, os.environ)


if __name__ == "__main__":
    main(sys.argv[1:])
