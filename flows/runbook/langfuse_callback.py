"""langfuse-callback: LiteLLM's requests do not become traces: its callback is not one that this Langfuse understands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from prefect import flow

from blocks.litellm import LiteLLMGateway
from blocks.railway import RailwayApi
from blocks.railway_api.models import ServiceInstance
from flows.health.checks.langfuse_web import version_at
from flows.health.observation import Observation, Status
from flows.health.targets import Targets
from flows.report import line
from flows.runbook.callbacks import fits, is_configuration, refitted, to_write
from flows.runbook.configuring import BEFORE, CONFIGURATION, SERVICE, Configured, Fit, PutBack, begun, hindrance
from flows.runbook.environment import environment_if_any
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.restarting import Waits
from flows.runbook.running import carry_out
from flows.stack import Stack
from flows.upgrade.facts import callbacks_of
from flows.upgrade.rules import Version
from railway.services.litellm import callback, reads_configuration

__all__ = ["CallbackRequest", "Known", "Untraced", "decide", "langfuse_callback"]

ASPECT = "langfuse-callback"
_ALIVE = ("liveness", "readiness")
_HOSTS = ("LANGFUSE_OTEL_HOST", "LANGFUSE_HOST")
"""Where `langfuse_otel` sends to. Where neither is set it sends to Langfuse's cloud, whatever LANGFUSE_BASE_URL says (read in
LiteLLM 1.102.4, integrations/langfuse/langfuse_otel.py)."""


class CallbackRequest(RunbookRequest):
    """Nothing but what every runbook is told."""


@flow(name="langfuse-callback", validate_parameters=True, timeout_seconds=3 * 3600)
def langfuse_callback(request: CallbackRequest = CallbackRequest()) -> str:
    """Have LiteLLM's requests become traces again, by the callback that this Langfuse understands.

    Symptom: LiteLLM answers, and Langfuse shows no new trace of it; langfuse-web's log says `Rejected N event(s) from the
    legacy /api/public/ingestion`. Langfuse 4 answers 207 to what an old SDK sends, and keeps nothing of it: LiteLLM before
    1.104 has one behind its callback `langfuse`. Or LiteLLM has no Langfuse callback at all.

    Diagnosis: versions of LiteLLM and Langfuse; the callbacks that LiteLLM runs with, and those that LITELLM_CONFIG names on
    Railway; whether its start command reads that variable; whether a deployment or another flow is under way. From the versions
    follows which callback fits. `langfuse_otel` sends to Langfuse's cloud where neither LANGFUSE_OTEL_HOST nor LANGFUSE_HOST is
    set: then it is not written.

    Remedy: after an approval: in the text of LITELLM_CONFIG the callbacks of Langfuse are changed to the one that fits
    (`callbacks: ["langfuse_otel"]`); others, comments and everything else stay. LiteLLM is deployed and waited for, and the
    check is asked again. The text before stands in LITELLM_CONFIG_BEFORE_CALLBACK; where LiteLLM does not come up with the new
    one, it is put back and deployed. Where the variable is right and was only never deployed, it is just deployed.

    When not to: LiteLLM 1.104 or newer needs no other callback, so `upgrade/litellm` is the other way. Applications that send
    to Langfuse by an old SDK of their own are not mended by this: upgrade that SDK, or set
    LANGFUSE_MIGRATION_V4_WRITE_MODE=dual on langfuse-web and langfuse-worker. Traces that were lost until then do not come
    back. Whoever took the callback out on purpose rejects this when it asks.

    Args:
        request: what every runbook is told.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why, and which lines to write.
        ApprovalMissing: nobody approved; nothing was changed.
    """
    stack = Stack.load()
    place = environment_if_any(stack.settings)
    if place is None:
        todo = f"in its own configuration {to_write('langfuse_otel')}, set {_HOSTS[0]} to Langfuse's address, restart it"
        line(f"{SERVICE} is left to people: there is no token of Railway's API; {todo}")
        return Verdict.PERSON.value
    with place.open() as api:
        runbook = Untraced(api, Targets.from_settings(stack.settings), lambda: at_work(stack))
        return carry_out(runbook, request, stack, Pace(settle=120))


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        wrong: what the check says. seen: it could look. there: LiteLLM on Railway, None where it has none of that name.
        litellm, langfuse: what they say their versions are, or empty. runs_with: Langfuse's callbacks that LiteLLM runs with.
        text: of LITELLM_CONFIG, never shown; empty where it is not set. sealed: nobody can read it.
        unproven: an earlier run has written it, and has not seen LiteLLM come up with it.
        led: a variable tells `langfuse_otel` where Langfuse is.
        at_work: who holds the stack's lock, or empty.
    """

    wrong: Sequence[str]
    there: ServiceInstance | None
    seen: bool = True
    litellm: str = ""
    langfuse: str = ""
    runs_with: Sequence[str] = ()
    text: str = ""
    sealed: bool = False
    unproven: bool = False
    led: bool = True
    at_work: str = ""

    @property
    def wanted(self) -> str:
        """The callback that fits both versions; of LiteLLM what would be deployed counts."""
        image = self.there.image if self.there is not None else None
        version = Version.of(image or "").numbers or Version.of(self.litellm).numbers
        return callback(4 if (Version.of(self.langfuse).major or 0) >= 4 else 3, version)


def decide(known: Known, ladder: Callable[[str, str], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here.

    Args:
        ladder: makes the actions for a callback, of what is written instead of what; empty: it is written already.
    """
    facts = _facts(known)
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, "LiteLLM traces its requests to Langfuse", facts)
    unseen = "" if known.seen else "nobody could look at its callbacks, and unknown is not wrong: heal that first"
    if why := unseen or hindrance(known.there, known.at_work) or _unreadable(known):
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; {why}", facts)
    wanted = known.wanted
    if fits(known.text, wanted):
        sentence = f"{known.wrong[0]}; {CONFIGURATION} is right, but {SERVICE} does not run with it: it has to be deployed"
        return Diagnosis(Verdict.HEALS, sentence, facts, ladder(wanted, ""))
    new = refitted(known.text, wanted)
    if new is None:
        why = f"the lines of callbacks in {CONFIGURATION} are somebody's own: {to_write(wanted)}, then deploy {SERVICE}"
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; {why}", facts)
    change = f"the callbacks {_listed(callbacks_of(new))} instead of {_listed(callbacks_of(known.text))}"
    return Diagnosis(Verdict.HEALS, known.wrong[0], facts, ladder(wanted, change))


def _unreadable(known: Known) -> str:
    """Say why the configuration cannot be changed from here, empty where it can."""
    if not known.langfuse:
        return "Langfuse does not say its version, so nobody knows which callback fits: heal langfuse-web first"
    by_hand, start = to_write(known.wanted), known.there.start_command if known.there is not None else None
    if not reads_configuration(start or ""):
        return (
            f"the start command of {SERVICE} does not read {CONFIGURATION}: in the file that it does read {by_hand}, restart it"
        )
    if known.wanted == "langfuse_otel" and not known.led:
        return f"set {_HOSTS[0]} of {SERVICE} to langfuse-web's private address first: prompts would go to Langfuse's cloud"
    if known.sealed:
        return f"{CONFIGURATION} is sealed, so nobody can read it: set it anew, in it {by_hand}, then deploy {SERVICE}"
    if not known.text.strip():
        return f"{CONFIGURATION} is not set, so LiteLLM runs with defaults: deploy/on-demand writes what ships"
    if not is_configuration(known.text):
        return f"{CONFIGURATION} is no YAML of LiteLLM's, or refers to another variable: there {by_hand}, then deploy {SERVICE}"
    return ""


def _facts(known: Known) -> dict[str, str]:
    facts = {"checks": "; ".join(known.wrong) or "green"}
    facts["versions"] = f"LiteLLM {known.litellm or 'unknown'}, Langfuse {known.langfuse or 'unknown'}"
    if known.langfuse:
        facts["callback that fits"] = known.wanted
    facts["LiteLLM runs with"] = f"{_listed(known.runs_with)} of Langfuse's callbacks"
    configured = "sealed" if known.sealed else "not set" if not known.text else f"names {_listed(callbacks_of(known.text))}"
    facts[CONFIGURATION] = f"{configured}; {'an earlier run wrote it' if known.unproven else 'nothing is half done'}"
    facts["at work on the stack"] = known.at_work or "nobody"
    if known.there is not None:
        reads = reads_configuration(known.there.start_command or "")
        facts["start command"] = f"reads {CONFIGURATION}" if reads else f"does not read {CONFIGURATION}"
        if (newest := known.there.latest) is not None:
            facts["newest deployment"] = f"{newest.id} {newest.status} since {newest.created_at:%Y-%m-%d %H:%M} UTC"
            facts["image"] = f"runs {newest.image or 'unknown'}, configured is {known.there.image or 'none'}"
    facts["way back"] = f"the text before stands in {BEFORE}"
    return facts


def _listed(names: Sequence[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


@dataclass
class Untraced(Runbook):
    """The gateway whose requests are not traced.

    Attributes:
        busy: names the flow that holds the stack's lock.
    """

    api: RailwayApi
    targets: Targets
    busy: Callable[[], str]
    waits: Waits = field(default_factory=Waits)
    name: str = "langfuse-callback"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        looked = self._look()
        own = next((one for one in looked if one.aspect == ASPECT), None)
        known = Known(
            wrong=self._wrong(looked),
            there=self._at.there(),
            seen=own is not None and own.status is not Status.UNKNOWN,
            at_work=self.busy(),
        )
        if own is not None and own.status is Status.OK:
            known = replace(known, wrong=[])
        if known.seen:
            known = self._asked(known)
        if known.there is not None:
            variables, sealed = self._at.variables(known.there), self._at.sealed(known.there)
            known = replace(
                known,
                text=variables.get(CONFIGURATION, ""),
                sealed=CONFIGURATION in sealed,
                unproven=begun(variables),
                led=any(variables.get(name) or name in sealed for name in _HOSTS),
            )
        return decide(known, lambda wanted, change: self._ladder(wanted, change, known.unproven))

    def wrong(self) -> list[str]:
        """As in `Runbook`: requests are traced, and the gateway is up."""
        return self._wrong(self._look())

    @property
    def _at(self) -> Configured:
        return Configured(self.api, self.busy, self.waits)

    def _look(self) -> list[Observation]:
        return observe_services(self.targets, {SERVICE})

    def _wrong(self, looked: Sequence[Observation]) -> list[str]:
        mine = [one for one in looked if one.aspect in (ASPECT, *_ALIVE)]
        return wrong_with(sorted(mine, key=lambda one: one.aspect != ASPECT), SERVICE, (ASPECT,))

    def _down(self) -> list[str]:
        return wrong_with([one for one in self._look() if one.aspect in _ALIVE], SERVICE)

    def _asked(self, known: Known) -> Known:
        """Have both say how they are; the check has just seen that they answer."""
        if (target := self.targets.litellm) is None:
            return known
        gateway = LiteLLMGateway(url=target.url, master_key=target.key, timeout=self.targets.timeout)
        details = gateway.details()
        named = details.get("success_callbacks") or details.get("success_callback") or ()
        return replace(
            known,
            litellm=str(details.get("litellm_version", "")),
            langfuse=asyncio.run(version_at(target.langfuse_url)),
            runs_with=[str(name) for name in named if "langfuse" in str(name).lower()],  # a dozen are its own
        )

    def _ladder(self, wanted: str, change: str, unproven: bool) -> tuple[Action, ...]:
        fit = Fit(self._at, wanted, change, lambda: "" if self.wrong() else "LiteLLM traces its requests by now")
        return (fit, PutBack(self._at, self._down)) if change or unproven else (fit,)
