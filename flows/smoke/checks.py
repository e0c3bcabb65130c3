"""The smoke test itself: every check with its own deadline, at once where they do not need each other.

results = run(SmokeTargets(litellm_url="http://litellm:4000", litellm_key=SecretStr("sk-...")))
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import httpx

from blocks.errors import SmokeFailed
from flows.smoke.gateway import COMPLETIONS, MODELS, Completion, Gateway, connect, gateway
from flows.smoke.keys import spend_recorded, virtual_key
from flows.smoke.models import Offer, cheapest, offers
from flows.smoke.results import Skip, SmokeResult, clean, failures, verdict
from flows.smoke.targets import NAMES, CheckName, SmokeTargets, trace_seconds
from flows.smoke.tracing import callback_of, major_version, read_back

__all__ = ["SmokeResult", "SmokeTargets", "failures", "run", "smoke", "verdict"]

Report = Callable[[SmokeResult], None]

_ADVICE_S = 20.0
_HOPS = 5


def run(targets: SmokeTargets, report: Report | None = None) -> list[SmokeResult]:
    """Do the smoke test; not from within an event loop, which has `smoke`.

    Args:
        targets: the stack. report: told each result as soon as there is one.
    Returns: one result for each of `NAMES`, in that order. It never raises for what is wrong with the stack.
    """
    return asyncio.run(smoke(targets, report))


async def smoke(targets: SmokeTargets, report: Report | None = None) -> list[SmokeResult]:
    """As `run`. It is over within the deadlines of a completion and of the longest check that follows one."""
    quick = targets.request_seconds / 3
    async with gateway(targets) as litellm, _langfuse(targets) as langfuse:
        test = _Test(targets, litellm, langfuse, report)
        async with asyncio.TaskGroup() as group:  # interrupted, it waits for what cleans up, as `gather` does not
            group.create_task(test.check("authentication", quick, lambda: _authentication(litellm)))
            page = partial(_page, lambda path: litellm.get(path, key=None), "litellm", "/ui/")
            group.create_task(test.check("litellm-ui", quick, page))
            group.create_task(test.check("langfuse-ui", quick, test.langfuse_ui))
            group.create_task(test.models())
    return [test.results[name] for name in NAMES]


class _Test:
    """One run."""

    def __init__(self, targets: SmokeTargets, litellm: Gateway, langfuse: httpx.AsyncClient, report: Report | None) -> None:
        self._targets, self._litellm, self._langfuse, self._report = targets, litellm, langfuse, report
        self._trace = secrets.token_hex(16)
        self._offer = Offer("", None)
        self._completion: Completion | None = None
        self.results: dict[CheckName, SmokeResult] = {}

    async def check(self, name: CheckName, seconds: float, work: Callable[[], Awaitable[str | Skip]]) -> None:
        """Do one check and keep its result.

        Args:
            seconds: its deadline. work: returns what it found, or why it did not look.
        """
        begun, late = time.monotonic(), f"no result within {seconds:.0f} s"
        found: str | Skip
        word, detail = "ok", ""
        try:
            if name in self._targets.skip:
                found = Skip("left out, as asked")
            else:
                async with asyncio.timeout(seconds):
                    found = await work()
        except SmokeFailed as error:
            word, detail = "failed", str(error)
        except TimeoutError:
            word, detail = "failed", f"{late}; {await self._advice(name)}"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            word, detail = "failed", f"no answer ({type(error).__name__}); {_reach(name)}"
        else:
            word, detail = ("skipped", found.reason) if isinstance(found, Skip) else ("ok", found)
        secret = [key.get_secret_value() for key in (self._targets.litellm_key, self._targets.secret_key) if key is not None]
        result = SmokeResult.model_validate(
            {"name": name, "word": word, "seconds": round(time.monotonic() - begun, 3), "detail": clean(detail, secret)}
        )
        self.results[name] = result
        if self._report is not None:
            self._report(result)

    async def models(self) -> None:
        """The checks that ask a model: first one completion, then everything that needs it or another one."""
        targets = self._targets
        wait = targets.trace_seconds or trace_seconds(datetime.now(UTC), dual=targets.dual)
        await self.check("completion", targets.request_seconds, self._complete)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.check("streaming", targets.request_seconds, self._needing(self._stream)))
            group.create_task(self.check("trace", wait, self._needing(self._read_back)))
            group.create_task(self.check("virtual-key", targets.request_seconds, self._needing(self._key)))
            group.create_task(self.check("spend", targets.spend_seconds, self._needing(self._spend)))

    async def langfuse_ui(self) -> str | Skip:
        """Langfuse's sign-in page."""
        if not self._targets.langfuse_url:
            return Skip("no Langfuse URL was given")
        return await _page(self._langfuse.get, "langfuse-web", "/auth/sign-in")

    async def _complete(self) -> str | Skip:
        self._offer = await self._chosen()
        self._completion = await self._litellm.complete(self._offer.name, trace=self._trace)
        cost = self._completion.cost
        return f"{self._offer.name}: {self._completion.tokens} tokens" + (f", ${cost:.6f}" if cost is not None else "")

    async def _chosen(self) -> Offer:
        if self._targets.model:
            return Offer(self._targets.model, None)
        body = self._litellm.body(await self._litellm.get("/model/info"), "GET /model/info")
        found = cheapest(offers(entry for entry in body.get("data") or [] if isinstance(entry, dict)))
        if found is None:
            raise SmokeFailed("litellm: it serves no chat model; add one to its configuration, or with models/apply")
        return found

    def _needing(self, work: Callable[[Completion], Awaitable[str | Skip]]) -> Callable[[], Awaitable[str | Skip]]:
        """A check that makes no sense where no completion came about."""

        async def done() -> str | Skip:
            if self._completion is None:
                return Skip("there was no completion to go on from")
            return await work(self._completion)

        return done

    async def _stream(self, _completion: Completion) -> str:
        found = await self._litellm.stream(self._offer.name)
        return f"{found.pieces} pieces, the first after {found.first:.2f} s"

    async def _read_back(self, _completion: Completion) -> str | Skip:
        targets = self._targets
        if not targets.langfuse_url or not targets.public_key or targets.secret_key is None:
            missing = "URL" if not targets.langfuse_url else "project keys"
            return Skip(f"no Langfuse {missing} given: nobody knows whether requests are traced")
        major, version = await major_version(self._langfuse)
        seconds = await read_back(self._langfuse, self._trace, major)
        return f"{self._trace} in Langfuse {version} after {seconds:.1f} s"

    async def _key(self, _completion: Completion) -> str | Skip:
        return await virtual_key(self._litellm, self._offer.name)

    async def _spend(self, completion: Completion) -> str | Skip:
        return await spend_recorded(self._litellm, completion)

    async def _advice(self, name: CheckName) -> str:
        """What to do about a check that came to its deadline."""
        if name == "trace":
            try:
                async with asyncio.timeout(_ADVICE_S):
                    major, version = await major_version(self._langfuse)
                    return f"{self._trace} is not in Langfuse {version}: {await callback_of(self._litellm, major)}"
            except (SmokeFailed, httpx.HTTPError, TimeoutError):
                return "langfuse-web does not answer any more; read its log"
        if name == "spend":
            return "is proxy_batch_write_at longer, or disable_spend_logs set? does LiteLLM's log show errors of its database?"
        if name == "virtual-key":
            return "does a deleted key stay good in another replica (user_api_key_cache_ttl)? read LiteLLM's log"
        return _reach(name)


async def _authentication(gateway: Gateway) -> str:
    """Nobody gets in without a key, or with a wrong one; a request without a model would cost nothing even then."""
    wrong = f"sk-{secrets.token_hex(16)}"
    for key, what in ((None, "without a key"), (wrong, "with a wrong key")):
        for answer in (await gateway.get(MODELS, key=key), await gateway.post(COMPLETIONS, {}, key=key)):
            refused = answer.status_code in (401, 403) or (key and gateway.has_no_database(answer))
            if not refused:
                todo = "set LITELLM_MASTER_KEY on the service at once, then change every provider key"
                if answer.is_server_error:
                    todo = f"it says: {gateway.said(answer)}; read its log"
                raise SmokeFailed(
                    f"litellm: {answer.request.url.path} {what} answers {answer.status_code}, expected 401; {todo}"
                )
    return "refused without a key and with a wrong one"


async def _page(get: Callable[[str], Awaitable[httpx.Response]], who: str, path: str) -> str:
    """Fetch a page for people; a redirect to another host, as to the public address, is taken for it."""
    for _ in range(_HOPS):
        answer = await get(path)
        if not answer.is_redirect:
            break
        target = answer.url.join(answer.headers.get("location", ""))
        if target.netloc != answer.url.netloc:
            return f"redirects to {target.host}"
        path = target.raw_path.decode()
    if answer.status_code != httpx.codes.OK or "html" not in answer.headers.get("content-type", ""):
        raise SmokeFailed(
            f"{who}: its page {path} answers {answer.status_code}, expected 200 and HTML; read its log (where the UI is "
            "switched off on purpose, skip this check)"
        )
    return f"{path} is there"


def _reach(name: CheckName) -> str:
    """Where to look when a service does not answer."""
    if name in ("trace", "langfuse-ui"):
        return "is langfuse-web up, and LANGFUSE_WEB_URL right?"
    return "is LiteLLM up, and LITELLM_URL right? read its log"


def _langfuse(targets: SmokeTargets) -> httpx.AsyncClient:
    secret = targets.secret_key
    auth = httpx.BasicAuth(targets.public_key, secret.get_secret_value()) if secret is not None else None
    return connect(targets.langfuse_url, targets.request_seconds / 3, auth)
