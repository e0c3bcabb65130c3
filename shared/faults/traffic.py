"""What passes through the proxies: counted, and which requests are broken or call a hook."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Fault", "Hit", "Hook", "Match", "Passage", "Request", "Rule", "Traffic", "Trigger"]

Fault = Literal["500", "503", "403", "refuse", "tear", "lose", "cut", "truncate", "hang"]
"""What happens to a request.

500, 503, 403: it is answered so (InternalError, SlowDown, AccessDenied) and never reaches the server.
refuse: the connection is reset before the server sees it. tear: half of its body reaches the server, then both are reset.
lose: the server does it, and the connection is reset before its answer. cut: the same in the middle of the answer.
truncate: the answer ends early, in order, although its Content-Length says more. hang: nothing happens for a while.
"""


@dataclass(frozen=True)
class Request:
    """One request that came by: its number (from 1), method, path with query."""

    number: int
    method: str
    target: str

    def __str__(self) -> str:
        path, _, query = self.target.partition("?")
        short = "/".join(path.split("/")[-3:])
        return f"{self.method} {short}{'?' + query.split('&')[0].split('=')[0] if query else ''}"


@dataclass
class Match:
    """Which requests are meant.

    Args:
        method, path: regular expressions that all of the method, and some of the target, fit.
        nth: the first of the fitting ones that is meant, from 1. times: how many from there, 0 for all.
    """

    method: str = "[A-Z]+"
    path: str = ""
    nth: int = 1
    times: int = 1
    _seen: int = field(default=0, init=False, repr=False)

    def fits(self, request: Request) -> bool:
        """Say whether a request is of the kind."""
        return bool(re.fullmatch(self.method, request.method) and re.search(self.path, request.target))

    def is_for(self, request: Request, *, counted: bool) -> bool:
        """Say whether this one is meant; remembers it. Those that are not counted have to be named."""
        if not (counted or self.path) or not self.fits(request):
            return False
        self._seen += 1
        return self._seen >= self.nth and (self.times == 0 or self._seen < self.nth + self.times)


Hook = Callable[[Request], None]


@dataclass
class Rule:
    """What happens to which requests.

    Args:
        seconds: of a hang. keep: bytes of the answer's body that pass before it is cut or truncated; None for half.
    """

    fault: Fault
    match: Match
    seconds: float = 5.0
    keep: int | None = None


@dataclass
class Trigger:
    """Calls a hook at a request: before it is passed on, or after its answer was."""

    hook: Hook
    match: Match
    after: bool = False


@dataclass(frozen=True)
class Hit:
    """A rule that was carried out on a request."""

    fault: Fault
    request: Request

    def __str__(self) -> str:
        return f"{self.fault} at {self.request}"


@dataclass(frozen=True)
class Passage:
    """What happens to one request."""

    request: Request
    rule: Rule | None
    after: list[Hook]


class Traffic:
    """What passes through one proxy or several: counted together, broken by the same rules.

    Args:
        aside: regular expression of `METHOD target`; what fits is passed on and broken by rules that name it, but not counted.

    Attributes:
        requests: counted since `begin`. hits: rules carried out since then.
    """

    def __init__(self, aside: str = r"(?!)") -> None:
        self._aside = re.compile(aside)
        self._mutex = threading.Lock()
        self.begin()

    def begin(self, *orders: Rule | Trigger) -> None:
        """Count from nothing, with these rules and triggers."""
        with self._mutex:
            self.requests: list[Request] = []
            self.hits: list[Hit] = []
            self._rules = [order for order in orders if isinstance(order, Rule)]
            self._triggers = [order for order in orders if isinstance(order, Trigger)]
            self.released = threading.Event()

    def end(self) -> None:
        """Break nothing any more; what hangs goes on."""
        with self._mutex:
            self._rules, self._triggers = [], []
            self.released.set()

    @property
    def count(self) -> int:
        """Requests since `begin`."""
        return len(self.requests)

    def came(self, method: str, target: str) -> Passage:
        """Take note of a request, call the hooks that are meant for it, and say what happens to it."""
        with self._mutex:
            counted = not self._aside.search(f"{method} {target}")
            request = Request(len(self.requests) + counted, method, target)
            if counted:
                self.requests.append(request)
            meant = [trigger for trigger in self._triggers if trigger.match.is_for(request, counted=counted)]
            rules = [rule for rule in self._rules if rule.match.is_for(request, counted=counted)]
            self.hits += [Hit(rule.fault, request) for rule in rules[:1]]
        for trigger in meant:
            if not trigger.after:
                trigger.hook(request)
        return Passage(request, rules[0] if rules else None, [trigger.hook for trigger in meant if trigger.after])
