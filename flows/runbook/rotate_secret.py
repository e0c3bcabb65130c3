"""rotate-secret: a password or key of the stack is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from prefect import flow
from prefect.blocks.system import Secret as SecretBlock
from pydantic import Field, SecretStr

from blocks.errors import SettingsError
from blocks.railway import RailwayApi
from flows.deploy.flow import environment_of
from flows.documents import optional
from flows.health.targets import Targets
from flows.runbook.doors import Door, Open, PostgresDoor, RedisDoor
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.restarting import Waits
from flows.runbook.rotating import HandOver, Rotate, order, unrendered
from flows.runbook.rotation import AFTER, BEFORE, ROTATIONS, How, Rotation, refusal, users_of
from flows.runbook.running import carry_out
from flows.stack import Stack
from railway.secret_values import generate
from railway.stack import SecretKind

__all__ = ["Known", "RotateRequest", "Rotating", "decide", "door_of", "rotate_secret", "watched"]

WORKER = "prefect-worker"


class RotateRequest(RunbookRequest):
    """Which secret."""

    secret: str = Field(
        default="",
        max_length=100,
        description=f"Which: {', '.join(ROTATIONS)}; what cannot be changed is refused, with the reason",
    )
    value_block: str = Field(
        default="",
        max_length=100,
        description="Name of a Secret block with the new value, for keys that somebody else makes; empty: one is drawn",
    )


@flow(name="rotate-secret", validate_parameters=True, timeout_seconds=4 * 3600)
def rotate_secret(request: RotateRequest = RotateRequest()) -> str:
    """Change a password or key of the stack, everywhere it is used, in the right order, with a way back.

    Symptom: a secret is known to somebody who should not know it: it stood in a log, a chat or a repository; somebody leaves;
    an image was compromised; it is simply old.

    Diagnosis: whether the secret can be changed, and why not; where it stands on Railway, whether it is sealed; which services
    use it, also through other variables; whether an earlier run has begun to change it; whether all of them are well.

    Remedy: approved by a person, a new value is drawn (or taken from a Secret block) and stands beside the old one in Railway's
    variables, so that a run that dies is gone on with. Redis takes both until all services are proven with the new one. A
    role of Postgres has one password: it is changed, proven by a login, and sessions that are there stay. ClickHouse and MinIO
    take theirs at their start, so they are deployed first. Then the services that use it are deployed one after the other, in
    the order of who needs whom, and looked at. Where one does not come up everything is changed back and deployed again. Last
    this worker is deployed, where it uses the secret, too.

    When not to: LITELLM_SALT_KEY, ENCRYPTION_KEY, SALT and the backup keys are refused: what is stored was written with them.
    Not in the middle of an incident, and not at the hour of most use: a change of Postgres' or ClickHouse's password is felt
    for a minute. Virtual keys of clients are LiteLLM's business: `/key/regenerate`, or a new key and the old one deleted.

    Args:
        request: which secret.
    Returns: how it ended.
    Raises:
        NotHealed: it may not begin, or was changed back; says why.
        SettingsError: no such secret, no token of Railway's API, or a value is missing.
        ApprovalMissing: nobody approved; nothing was changed.
    """
    stack = Stack.load()
    if why := refusal(request.secret):
        raise SettingsError(f"rotate-secret: {why}")
    rotation = ROTATIONS[request.secret]
    with environment_of(stack.settings).open(allow=[WORKER]) as api:
        runbook = Rotating(
            api=api,
            rotation=rotation,
            door=door_of(rotation, stack),
            targets=Targets.from_settings(stack.settings),
            busy=lambda: at_work(stack),
            make=lambda: new_value(rotation, request.value_block),
        )
        return carry_out(runbook, request, stack, Pace(settle=30))


def new_value(rotation: Rotation, block: str) -> SecretStr:
    """Draw a new value, or read it from a Secret block.

    Raises:
        SettingsError: somebody else makes it, and there is no such block.
    """
    if not block:
        return SecretStr(generate(rotation.secret))
    found = optional(SecretBlock, block)
    if found is None or not str(found.get()):
        raise SettingsError(f"rotate-secret: there is no Secret block {block!r} with a value; make it in Prefect first")
    return SecretStr(str(found.get()))


def door_of(rotation: Rotation, stack: Stack) -> Door:
    """Find where a secret is asked for beside the services that have it.

    Raises:
        SettingsError: that place is not set up here.
    """
    if rotation.how is How.POSTGRES:
        return PostgresDoor(stack.need_postgres_admin(), rotation.role)
    if rotation.how is How.REDIS:
        if stack.redis is None:
            raise SettingsError("redis: not set up; set REDIS_URL and run `python -m blocks`")
        return RedisDoor(stack.redis)
    return Open()


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        variables: of all services, unrendered. begun: an earlier run has begun. sealed: nobody can read it.
        wrong: what the checks of those that use it say. at_work: the flow that holds the stack's lock, or empty.
        value: a new one can be made, or why not.
    """

    rotation: Rotation
    variables: Mapping[str, Mapping[str, str]]
    sealed: bool = False
    wrong: Sequence[str] = ()
    at_work: str = ""
    value: str = ""

    @property
    def begun(self) -> bool:
        """An earlier run has begun to change it."""
        own = self.variables.get(self.rotation.service, {})
        return any(own.get(self.rotation.variable + beside) for beside in (BEFORE, AFTER))


def decide(known: Known, ladder: Callable[[], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here."""
    one = known.rotation
    own = known.variables.get(one.service, {})
    facts = {
        "secret": f"{one.name}, {'sealed' if known.sealed else 'set' if own.get(one.variable) else 'not set'}",
        "used by": ", ".join(users_of(one.service, one.variable, known.variables)) or one.service,
        "an earlier run": "has begun to change it" if known.begun else "left nothing",
        "checks": "; ".join(known.wrong) or "green",
        "at work on the stack": known.at_work or "nobody",
    }
    if why := refusal(one.name, own or None):
        return Diagnosis(Verdict.PERSON, why, facts)
    if known.sealed:
        why = "it is sealed: nobody can read it, so nobody could go back; set a new one in Railway's dashboard, and deploy"
        return Diagnosis(Verdict.PERSON, f"{one.name}: {why}", facts)
    if not own.get(one.variable):
        return Diagnosis(Verdict.PERSON, f"{one.name} is not set on Railway: there is nothing to change", facts)
    if known.at_work:
        return Diagnosis(Verdict.PERSON, f"{known.at_work} is under way, and uses the stack: wait for its end", facts)
    if known.wrong and not known.begun:
        why = "a change now could not be proven: heal it first"
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; {why}", facts)
    if known.value and not known.begun:
        return Diagnosis(Verdict.PERSON, known.value, facts)
    sentence = f"{one.name} can be changed" if not known.begun else f"the change of {one.name} is gone on with"
    return Diagnosis(Verdict.HEALS, sentence, facts, ladder())


def watched(services: Sequence[str], targets: Targets) -> list[str]:
    """Of services, those that the checks can look at with what they know; engines are asked with the old value, so not they."""
    there = {
        "litellm": targets.litellm,
        "langfuse-web": targets.langfuse_web,
        "langfuse-worker": targets.langfuse_worker,
    }
    return [one for one in services if there.get(one)]


@dataclass
class Rotating(Runbook):
    """One secret.

    Attributes:
        door: where it is asked for beside the services. make: draws or reads the new value.
        busy: names the flow that holds the stack's lock.
    """

    api: RailwayApi
    rotation: Rotation
    door: Door
    targets: Targets
    busy: Callable[[], str]
    make: Callable[[], SecretStr]
    waits: Waits = field(default_factory=Waits)
    name: str = "rotate-secret"
    _hand_over: HandOver | None = None
    _done: bool = False

    @property
    def service(self) -> str:  # type: ignore[override]  # whose secret it is
        """As in `Runbook`."""
        return self.rotation.service

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        one, variables = self.rotation, unrendered(self.api)
        services = order(one, variables)
        ids = {name: found.service_id for name, found in self.api.inventory().services.items()}
        sealed = {meta.name for meta in self.api.variable_meta() if meta.sealed and meta.service_id == ids.get(one.service)}
        for name in sealed - {one.variable}:  # nobody can read them; that they are there is what counts
            variables.get(one.service, {}).setdefault(name, "sealed")
        known = Known(one, variables, one.variable in sealed, self._wrong(services), self.busy(), self._unmade())
        uses = WORKER in users_of(one.service, one.variable, variables)
        return decide(known, lambda: self._ladder(services, uses))

    def wrong(self) -> list[str]:
        """As in `Runbook`: what is left of the change."""
        if not self._done:
            return [f"{self.rotation.name} is not changed yet"]
        if self._hand_over is not None and not self._hand_over.done:
            return [f"{WORKER} still has the old value: run deploy/on-demand"]
        return []

    def _unmade(self) -> str:
        """Say why no new value can be made; it is drawn later."""
        if self.rotation.secret.kind is not SecretKind.GIVEN:
            return ""
        try:
            self.make()
        except SettingsError as error:
            return f"{error}; make a new key at the provider, save it as a Secret block, and name that as value_block"
        return ""

    def _wrong(self, services: Sequence[str]) -> list[str]:
        seen = watched(services, self.targets)
        found = observe_services(self.targets, set(seen)) if seen else []
        return [sentence for one in seen for sentence in wrong_with(found, one)]

    def _ladder(self, services: Sequence[str], worker: bool) -> tuple[Action, ...]:
        change = Rotate(
            api=self.api,
            rotation=self.rotation,
            services=services,
            door=self.door,
            make=self.make,
            prove=lambda: self._wrong(services),
            finished=self._finished,
            waits=self.waits,
        )
        self._hand_over = HandOver(self.api, WORKER, lambda: self._done) if worker else None
        return (change, *([self._hand_over] if self._hand_over else []))

    def _finished(self) -> None:
        self._done = True
