"""rebuild-stack: the whole project is lost; a new one is made from a backup set and the keys alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from prefect import flow
from pydantic import Field

from blocks.errors import (
    AccessDenied,
    IntegrityError,
    RailwayError,
    RailwayRefused,
    RestoreRefused,
    SettingsError,
    StackError,
)
from blocks.railway import from_settings
from flows.backup.manifest import Manifest
from flows.backup.sets import new_set_id
from flows.copy import catalogue as copies
from flows.deploy.asked import Asked, given_secrets, order_of, with_worker_image
from flows.deploy.plan import Order, make_plan
from flows.deploy.present import Present
from flows.deploy.refuse import reasons
from flows.lease import utc_now
from flows.report import line
from flows.restore.choose import chosen
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest
from flows.runbook.heal import Pace
from flows.runbook.rebuild_facts import Known, RebuildJournal, decide, keys_of, unfit, with_identity
from flows.runbook.rebuilding import Builder, Place
from flows.runbook.running import carry_out
from flows.runbook.triage import OUTAGE
from flows.stack import Stack
from railway.stack import STARTER

__all__ = ["Rebuild", "RebuildRequest", "rebuild_stack"]

HOURS = 30.0
"""A rebuild may take so long; most of it is the restore."""


class RebuildRequest(RunbookRequest, Asked):
    """Which project, from which set, and which stack."""

    project: str = Field(
        default="", max_length=100, description="Name of the new Railway project: none is there, or an empty one"
    )
    workspace: str = Field(default="", max_length=100, description="Id of the Railway workspace that it is made in")
    set_id: str = Field(default="latest", description="latest, the id of a set, or a time: of the copies in the second store")
    components: list[str] = Field(
        default=[], description="What of the set is restored: postgres, clickhouse, bucket, or kind/name; empty: everything"
    )
    smoke: bool = Field(default=True, description="Send a request through the new stack afterwards; costs a little money")


@flow(name="rebuild-stack", validate_parameters=True, timeout_seconds=36 * 3600)
def rebuild_stack(request: RebuildRequest = RebuildRequest()) -> str:
    """Make a whole environment anew, on a new Railway project, from a backup set and the keys alone.

    Symptom: the project on Railway is gone, or cannot be trusted any more: deleted, its account locked, its volumes lost.

    Diagnosis: which set of the second store it is made from, and what is in it; whether the keys in the environment of this
    program are those that its data was written with (their fingerprints are in the manifest, signed): LITELLM_SALT_KEY,
    ENCRYPTION_KEY, SALT, BACKUP_SIGNING_KEY, BACKUP_AGE_IDENTITY; whether the images can take the data; what would be deployed.

    Remedy: after an approval: make the project; deploy the stack there, with the old keys and new passwords; have its worker
    restore everything from the second store, beside the empty databases, compared, then swapped; start LiteLLM and Langfuse on
    it; send a request through. Each step is written down in the second store: ended half-way, it is run again and goes on.

    When not to: where the old project still runs: two stacks of one name would copy into the same second store; stop its
    services first. Where one service or one database is lost: restart-service, restore/on-demand. Starter stacks have
    no worker that could restore. DNS and clients are led to the new addresses by people; the way back is to delete the project.

    Args:
        request: which project and set.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why, and whether anything was made.
        ApprovalMissing: nobody approved; nothing was made.
        SettingsError: no project or workspace was named, or there is no second store.
    """
    stack = Stack.load()
    runbook = rebuild_of(stack, request, os.environ)
    return carry_out(runbook, request, runbook.stack, Pace(settle=300, look=30), longest=HOURS * 3600)


def rebuild_of(stack: Stack, request: RebuildRequest, environment: Mapping[str, str]) -> Rebuild:
    """Word the rebuild.

    Args:
        stack: as its backups are read here. environment: of this program, with the keys.
    Raises:
        SettingsError: something is not given that has to be.
    """
    for name in ("project", "workspace"):
        if not getattr(request, name):
            raise SettingsError(f"rebuild-stack: no {name} was named; give it in the form")
    if request.variant != "production":
        raise SettingsError("rebuild-stack: a starter stack has no worker that could restore; rebuild it as production")
    store = stack.need_copy()  # the stack's own went with the project: journal and trail are kept beside the copies
    builder = Builder(store, Place(stack.settings, request.workspace, request.project), stack.name, line)
    return Rebuild(replace(stack, store=store), builder, request, environment)


@dataclass
class Rebuild(Runbook):
    """One stack that is made anew.

    Attributes:
        stack: its `store` is the second one. environment: with the keys.
    """

    stack: Stack
    builder: Builder
    request: RebuildRequest
    environment: Mapping[str, str]
    name: str = "rebuild-stack"
    service: str = OUTAGE
    _order: Order | None = None

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        journal = self.builder.journal()
        manifest, set_error = self._manifest(journal)
        order, order_error = self._worded()
        self._order = order
        faults: list[str] = []
        components = journal.components if journal else self.request.components
        if manifest is not None:
            keys = keys_of(self.environment, self.stack.keys)
            try:
                faults = unfit(manifest, chosen(manifest, components), keys, self.environment, order)
            except (RestoreRefused, SettingsError) as error:
                faults = [str(error)]
        known = Known(
            project=self.request.project,
            manifest=manifest,
            set_error=set_error,
            faults=faults,
            order_error=order_error,
            journal=journal,
            strangers=self._strangers(journal),
            alive=self._alive(),
            plan=make_plan(order, Present()).lines() if order else (),
            wrong=self.wrong() if journal is not None and journal.phase == "done" else (),
        )
        if manifest is None or order is None:
            return decide(known, ())
        return decide(known, (_Make(self, journal, manifest.id, order),))

    def wrong(self) -> list[str]:
        """As in `Runbook`: it is done, and a request gets through."""
        journal = self.builder.journal()
        if journal is None or journal.phase != "done":
            return [f"{self.request.project} is not rebuilt yet: {journal.phase if journal else 'nothing was made'}"]
        if not self.request.smoke:
            return []
        if self._order is None:
            return ["nobody can send a request through it: what was deployed cannot be worded any more, see the diagnosis"]
        return self.builder.smoke(journal, self._order)

    def _manifest(self, journal: RebuildJournal | None) -> tuple[Manifest | None, str]:
        """Find the set; one that was begun with stays the same, whatever was copied since."""
        try:
            return copies.read(self.stack).need(journal.set_id if journal else self.request.set_id), ""
        except (RestoreRefused, IntegrityError) as error:
            return None, str(error)

    def _worded(self) -> tuple[Order | None, str]:
        """Word the order of the deploy, as on an empty project."""
        asked = with_worker_image(self.request, self.stack.settings.worker_image)
        try:
            stack = order_of(asked, self.stack.name).stack
            order = order_of(asked, self.stack.name, given=given_secrets(stack, self.environment))
        except StackError as error:
            return None, str(error)
        order = with_identity(order, self.environment)
        why = reasons(order, Present())
        return (None, "; ".join(why)) if why else (order, "")

    def _alive(self) -> list[str]:
        """Name the services of the old stack that still run, where this program knows its project; else none."""
        settings = self.stack.settings
        if not (settings.railway_project_id and settings.railway_environment_id):
            return []
        place = from_settings(settings)
        if place is None:
            return []
        try:
            with place.open() as api:
                found = api.inventory().services
        except (AccessDenied, RailwayError) as error:
            line(f"the old project is not to be seen: {error}")
            return []
        runs = {name for name, one in found.items() if any(each.status.active and not each.stopped for each in one.active)}
        return [name for name in STARTER if name in runs]

    def _strangers(self, journal: RebuildJournal | None) -> list[str]:
        """Name the services that are in the project and that no rebuild has made."""
        if journal is not None and journal.phase != "begun":
            return []
        try:
            place = self.builder.place.find()
        except RailwayRefused as error:
            return [str(error)]
        return self.builder.strangers(place) if place is not None else []


@dataclass(frozen=True)
class _Make(Action):
    """Makes it, or what is left of it."""

    runbook: Rebuild
    journal: RebuildJournal | None
    set_id: str
    order: Order

    @property
    def asks(self) -> str:
        """As in `Action`."""
        names = ", ".join(self.order.stack.services)
        return f"it starts {names}, which cost money from then on; way back: delete the project in Railway's dashboard"

    def describe(self) -> str:
        """As in `Action`."""
        done = f" (it is {self.journal.phase} already)" if self.journal else ""
        return (
            f"make the project {self.runbook.request.project}, deploy {self.runbook.stack.name} there, restore {self.set_id} "
            f"from the second store, start what uses it{done}"
        )

    def do(self) -> str:
        """As in `Action`."""
        builder = self.runbook.builder
        request = self.runbook.request
        new = RebuildJournal(
            id=new_set_id(utc_now()), project=request.project, set_id=self.set_id, components=list(request.components)
        )
        journal = builder.journal() or new
        said = builder.carry_out(journal, self.order)
        urls = builder.urls(journal, self.order)
        return f"{said}; {', '.join(f'{name}: {url}' for name, url in urls.items()) or 'it has no public address'}"
