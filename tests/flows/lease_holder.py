"""A holder of the stack's lock in a process of its own, for tests that kill or stop it.

Obeys one word a line: `acquire`, `check`, `release`. Answers each with one line: the token or `ok`, or the name of the error.
`rounds N` takes and gives back the lock N times and answers with the moments (monotonic clock, which all processes share)
between which it was held.
"""

from __future__ import annotations

import json
import os
import time
from typing import TextIO

from blocks.errors import StackError
from blocks.object_store import BackupStore
from flows.lease import Lease, acquire, exclusive
from tests.forks import Forked
from tests.stores import seen_through

__all__ = ["Holder"]


class Holder:
    """The process.

    Args:
        store: whose lock it will be asked to hold. seconds: that the lock lives unrenewed.
    """

    def __init__(self, store: BackupStore, seconds: int) -> None:
        orders, order = os.pipe()
        answer, answers = os.pipe()

        def work() -> None:
            with os.fdopen(orders) as incoming, os.fdopen(answers, "w", buffering=1) as outgoing:
                _obey_all(incoming, outgoing, seen_through(store), seconds)

        self.process = Forked(work)
        os.close(orders)
        os.close(answers)
        self._orders, self._answers = os.fdopen(order, "w", buffering=1), os.fdopen(answer)

    def tell(self, line: str) -> None:
        """Give an order without waiting for the answer."""
        self._orders.write(line + "\n")

    def answer(self) -> str:
        """Wait for an answer."""
        return self._answers.readline().strip()

    def ask(self, line: str) -> str:
        """Give an order and wait for the answer."""
        self.tell(line)
        return self.answer()

    def end(self) -> None:
        """Make sure it is gone."""
        self.process.kill()
        self._orders.close()
        self._answers.close()


def _obey_all(orders: TextIO, answers: TextIO, store: BackupStore, seconds: int) -> None:
    held: list[Lease] = []
    for line in orders:
        word, _, argument = line.strip().partition(" ")
        try:
            answer = _obey(store, held, seconds, word, argument)
        except StackError as error:
            answer = type(error).__name__
        answers.write(answer + "\n")


def _obey(store: BackupStore, held: list[Lease], seconds: int, word: str, argument: str) -> str:
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
