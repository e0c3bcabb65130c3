"""A holder of the stack's lock in a process of its own, for tests that kill or stop it.

Reads what it needs as JSON from the first line of stdin, then obeys one word a line: `acquire`, `check`, `release`. Answers
each with one line: the token or `ok`, or the name of the error. `rounds N` takes and gives back the lock N times and answers
with the moments (monotonic clock, which all processes share) between which it was held.
"""

from __future__ import annotations

import json
import sys
import time

from prefect.settings import PREFECT_LOGGING_LEVEL, temporary_settings
from pydantic import SecretStr

from blocks.errors import StackError
from blocks.object_store import BackupStore, s3_bucket
from flows.lease import Lease, acquire, exclusive


def main() -> None:
    """Obey until stdin ends."""
    given = json.loads(sys.stdin.readline())
    bucket = s3_bucket(given["url"], given["access"], SecretStr(given["secret"]), given["bucket"], "us-east-1")
    store = BackupStore(bucket=bucket, stack=given["stack"])
    held: list[Lease] = []
    for line in sys.stdin:
        word, _, argument = line.strip().partition(" ")
        try:
            answer = _obey(store, held, given, word, argument)
        except StackError as error:
            answer = type(error).__name__
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()


def _obey(store: BackupStore, held: list[Lease], given: dict[str, str], word: str, argument: str) -> str:
    seconds = int(given["seconds"])
    if word == "acquire":
        held.append(acquire(store, flow="backup", holder="a process", seconds=seconds, wait=60))
        return str(held[0].token)
    if word == "rounds":
        times = []
        for _ in range(int(argument)):
            with exclusive(store, flow="backup", holder="a process", seconds=seconds, wait=60):
                times.append((time.monotonic(), time.monotonic()))
        return json.dumps(times)
    if word == "check":
        held[0].check()
    else:
        held[0].release()
    return "ok"


if __name__ == "__main__":
    with temporary_settings({PREFECT_LOGGING_LEVEL: "ERROR"}):
        main()
