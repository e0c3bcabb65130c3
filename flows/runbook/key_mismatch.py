"""key-mismatch: an application cannot read the secrets in its database any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Literal

from prefect import flow
from pydantic import Field, SecretStr

from blocks.errors import SettingsError, StackError
from blocks.postgres import PostgresServer
from blocks.railway import RailwayApi
from blocks.settings import Settings
from flows.runbook.application_keys import EFFECTIVE, PutBack, Whose, history, pending, worker_keys
from flows.runbook.environment import environment_if_any, instance_of
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.restarting import CHANGING, Waits
from flows.runbook.running import carry_out
from flows.runbook.stored_secrets import Proof, Sealed, prove, read_sealed
from flows.stack import Stack

__all__ = ["KeyRequest", "Known", "Mismatch", "decide", "key_mismatch", "whose"]


class KeyRequest(RunbookRequest):
    """Whose key."""

    application: Literal["", "litellm", "langfuse"] = Field(default="", description="Whose; empty: the incident's, else both")


@flow(name="key-mismatch", validate_parameters=True, timeout_seconds=3 * 3600)
def key_mismatch(request: KeyRequest = KeyRequest()) -> list[str]:
    """Find out whether LITELLM_SALT_KEY and ENCRYPTION_KEY open what is stored, and which key does.

    Symptom: after a restore, a move or an edited variable: models and credentials of LiteLLM's database fail, and its log says
    `Did your master_key/salt key change recently?`; Langfuse's evaluations and integrations fail to decrypt.

    Diagnosis: every sealed value in the databases is tried with each key that is known, offline; no value is shown
    or kept. Named is which key opens how many, in which table and row the others stand, and which backup sets were written
    with the present keys: sets keep fingerprints.

    Remedy: where another known key opens everything (this worker was deployed with the variable as it was; or LiteLLM had no
    salt key, and used its master key), set the service's variable back to it and deploy, once a person approves. Otherwise a
    person finds the right key: in the password manager, in the environment that the data came from, or in the configuration of
    a set that was written with other keys (`config.json.age`). Where it is lost, what it sealed is lost: enter those
    providers' keys again, and only then keep the new one.

    When not to: never change one of these keys to be rid of it: `rotate-secret` says why not. Where only some values do not
    open they were written while another key was set: enter just those anew.

    Args:
        request: whose key.
    Returns: how it ended, a line for each application.
    Raises:
        NotHealed: a person is needed; says which rows, and which sets help.
        ApprovalMissing: nobody approved; nothing was changed.
    """
    stack = Stack.load()
    place = environment_if_any(stack.settings)
    with ExitStack() as opened:
        api = opened.enter_context(place.open()) if place else None
        ended = []
        for one in whose(request, stack.settings):
            runbook = Mismatch(
                server=stack.need_postgres(),
                whose=one,
                worker=worker_keys(one, stack.settings),
                sets=lambda: history(stack),
                busy=lambda: at_work(stack),
                api=api,
            )
            ended.append(f"{one.application}: {carry_out(runbook, request, stack, Pace(settle=30))}")
        return ended


def whose(request: KeyRequest, settings: Settings) -> list[Whose]:
    """Say whose keys are meant.

    Raises:
        SettingsError: the incident is about something else.
    """
    known = {
        "litellm": Whose("litellm", "LITELLM_SALT_KEY", settings.litellm_database, ("litellm",)),
        "langfuse": Whose("langfuse", "ENCRYPTION_KEY", settings.langfuse_database, ("langfuse-web", "langfuse-worker")),
    }
    if request.application:
        return [known[request.application]]
    patient = request.patient()
    found = [one for one in known.values() if patient is None or one.service == patient.service]
    if not found:
        raise SettingsError(
            f"key-mismatch: {patient.service if patient else ''} seals nothing; expected litellm or langfuse-web"
        )
    return found


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        proofs: by what a key is called; the service's own first where it can be read, else the worker's.
        sets: what the backup sets say. at_work: who holds the stack's lock, or empty.
        pending: services that an earlier run has not deployed with the right key yet.
    """

    whose: Whose
    proofs: Mapping[str, Proof]
    sets: str = ""
    at_work: str = ""
    pending: Sequence[str] = ()

    @property
    def used(self) -> str:
        """The key that the application uses, as far as anybody knows."""
        return next(iter(self.proofs))

    @property
    def right(self) -> str:
        """Another key that opens everything, empty where none does."""
        used = self.proofs[self.used]
        if not used.closed or used.opened:
            return ""
        return next((name for name, proof in self.proofs.items() if proof.opened and not proof.closed), "")


def decide(known: Known, changeable: bool, ladder: Callable[[str], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here.

    Args:
        changeable: the service's variable can be set from here.
        ladder: makes the actions of the name of the right key; empty: the variable has it, only deployments are missing.
    """
    one = known.whose
    facts = {f"{one.variable}, {name}": proof.words for name, proof in known.proofs.items()}
    facts["backup sets, newest first"] = known.sets or "not asked"
    if not known.proofs:
        todo = f"set {one.variable} on the worker, or give it a token of Railway's API"
        return Diagnosis(Verdict.PERSON, f"{one.variable}: nobody here knows it, so nothing can be tried: {todo}", facts)
    used = known.proofs[known.used]
    if not used.closed and known.pending:
        sentence = f"{one.variable} is right, and {' and '.join(known.pending)} run with what it was before"
        return Diagnosis(Verdict.HEALS, sentence, facts, ladder(""))
    if not used.closed:
        words = f"opens all {used.total} sealed values" if used.total else "has nothing to open: nothing is sealed"
        return Diagnosis(Verdict.NOTHING, f"{one.variable} of {one.application} {words}", facts)
    what = f"{one.variable} of {one.application}, {known.used}, {used.words}"
    if known.at_work in CHANGING:
        return Diagnosis(Verdict.PERSON, f"{what}; {known.at_work} is under way: wait for its end", facts)
    if known.right and changeable:
        return Diagnosis(Verdict.HEALS, f"{what}; {known.right} opens all", facts, ladder(known.right))
    if known.right:
        todo = f"{known.right} opens all: set {one.variable} of {one.service} to it, and deploy {' and '.join(one.services)}"
    elif used.opened:
        todo = "those were sealed while another key was set: enter just those anew, and leave the key alone"
    else:
        todo = (
            f"find the key that they were sealed with (sets: {known.sets or 'none'}), set it, deploy; never make up a new one"
        )
    return Diagnosis(Verdict.PERSON, f"{what}; {todo}", facts)


@dataclass
class Mismatch(Runbook):
    """One application's key.

    Attributes:
        worker: keys that this worker knows, by name. sets: asks the backup sets. busy: names the flow that holds the lock.
        api: Railway's; None where there is none.
    """

    server: PostgresServer
    whose: Whose
    worker: Mapping[str, SecretStr]
    sets: Callable[[], str]
    busy: Callable[[], str]
    api: RailwayApi | None = None
    waits: Waits = field(default_factory=Waits)
    name: str = "key-mismatch"

    @property
    def service(self) -> str:  # type: ignore[override]  # whose key it is
        """As in `Runbook`."""
        return self.whose.service

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        keys, values = self._keys(), self._values()
        proofs = {name: prove(self.whose.application, values, key) for name, key in keys.items()}
        known = Known(self.whose, proofs, at_work=self.busy(), pending=pending(self.api, self.whose))
        if proofs and proofs[known.used].closed:
            known = replace(known, sets=self._sets())
        return decide(known, EFFECTIVE in keys, lambda right: self._ladder(keys.get(right), right))

    def wrong(self) -> list[str]:
        """As in `Runbook`: the key that the service has, tried on every value."""
        keys, values = self._keys(), self._values()
        if not keys:
            return [f"nobody here knows {self.whose.variable}"]
        proof = prove(self.whose.application, values, next(iter(keys.values())))
        left = [f"{service} runs with what {self.whose.variable} was before" for service in pending(self.api, self.whose)]
        return [f"{self.whose.variable} {proof.words}"] if proof.closed else left

    def _keys(self) -> dict[str, SecretStr]:
        there = instance_of(self.api, self.service) if self.api is not None else None
        if self.api is None or there is None:
            return dict(self.worker)
        values = self.api.variables(there.service_id, rendered=True)
        sealed = {one.name for one in self.api.variable_meta() if one.sealed and one.service_id == there.service_id}
        found = values.get(self.whose.variable, "")
        if not found and self.whose.application == "litellm" and self.whose.variable not in sealed:
            found = values.get("LITELLM_MASTER_KEY", "")  # what LiteLLM seals with where it has no salt key
        own = {EFFECTIVE: SecretStr(found)} if found else {}  # sealed, it cannot be read: then the worker's has to do
        return {**own, **self.worker}

    def _values(self) -> Sequence[Sealed]:
        return read_sealed(self.server, self.whose.database, self.whose.application)

    def _sets(self) -> str:
        try:
            return self.sets()
        except StackError as error:  # a hint where the key may be: its absence keeps nobody from the diagnosis
            return f"not known: {error}"

    def _ladder(self, key: SecretStr | None, name: str) -> tuple[Action, ...]:
        return (PutBack(self.api, self.whose, key, name, self.waits),) if self.api is not None else ()
