"""A program that stands for a step of the container; run by `test_steps.py`: `<role> <file>`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path


def main(role: str, trace: str) -> int:
    """Leave a line in a file, and succeed, fail with a secret in the last words, say something, or hang with a child."""
    with Path(trace).open("a", encoding="utf-8") as file:
        file.write(f"{role}\n")
    if role == "fails" and not Path(trace).with_name("fails-mended").exists():
        print(f"\x1b[31m│ it did not work with {os.environ['GATEWAY_TOKEN']} │\x1b[0m\n╰────╯", file=sys.stderr)  # noqa: T201
        return 1
    if role in ("talks", "quiet"):
        print(f"first\ndeleted two things of {os.environ['GATEWAY_TOKEN']}")  # noqa: T201
    if role == "hangs":
        subprocess.Popen([sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"])
        time.sleep(600)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
