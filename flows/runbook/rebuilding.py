"""The steps of a rebuild: project, deploy, restore, restart, proof. The journal is written before and after each.

The journal is in the second store, beside the copies: all else that there was may be gone. A rebuild that was killed at any
line is run again; each step looks at what is there, and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from blocks.errors import NotHealed, StackError
from blocks.object_store import BackupStore
from blocks.railway import (
    PROTECTED,
    RailwayApi,
    RailwayEnvironment,
    certainly,
    create_project,
    find_project,
    public_url,
)
from blocks.settings import Settings
from flows import journals
from flows.deploy.converge import converge
from flows.deploy.plan import Order
from flows.deploy.proof import addresses, targets
from flows.deploy.rollout import Pace
from flows.runbook.far_prefect import FarPrefect, FarRun
from flows.runbook.rebuild_facts import FOLDER, RebuildJournal
from flows.smoke import checks
from flows.smoke.results import failures
from railway.stack import start_order

__all__ = ["Builder", "Patience", "Place"]

RESTORE = "restore/on-demand"
CONSUMERS = ("litellm", "langfuse-web", "langfuse-worker")
"""What has to start anew on the restored data: it migrates it, and forgets what it knew of the empty one."""


@dataclass(frozen=True)
class Patience:
    """Seconds: `registered`, until the new worker has registered its deployments; `restore`, for the restore; `poll`."""

    registered: float = 1800.0
    restore: float = 24 * 3600.0
    poll: float = 10.0


@dataclass(frozen=True)
class Place:
    """Where the new project is made.

    Attributes:
        settings: Railway's API and the token of a workspace. workspace: id. project: name of the new project.
    """

    settings: Settings
    workspace: str
    project: str

    def find(self) -> RailwayEnvironment | None:
        """Look for the project; None where there is none of that name."""
        return find_project(self._token(), self.workspace, self.project, api_url=self.settings.railway_api_url)

    def make(self) -> RailwayEnvironment:
        """Make it, once."""
        url = self.settings.railway_api_url
        return certainly(lambda: create_project(self._token(), self.workspace, self.project, api_url=url), self.find)

    def known(self, journal: RebuildJournal) -> RailwayEnvironment:
        """The one that a journal names."""
        return RailwayEnvironment(
            project_id=journal.project_id,
            environment_id=journal.environment_id,
            token=self._token(),
            token_kind="workspace",  # noqa: S106 - a kind, no password
            api_url=self.settings.railway_api_url,
        )

    def _token(self) -> SecretStr:
        return SecretStr(self.settings.require("railway_api_token"))


@dataclass
class Builder:
    """Rebuilds one stack.

    Attributes:
        store: the second one, where the journal is. place: where the project is made. stack: the stack's name.
        tell: one line for who watches. pace: of the deploy.
    """

    store: BackupStore
    place: Place
    stack: str
    tell: Callable[[str], None]
    pace: Pace = field(default_factory=Pace)
    patience: Patience = field(default_factory=Patience)

    def journal(self) -> RebuildJournal | None:
        """The newest of this project; None where there is none."""
        found = [one for one in journals.load_all(self.store, FOLDER, RebuildJournal) if one.project == self.place.project]
        return found[-1] if found else None

    def carry_out(self, journal: RebuildJournal, order: Order) -> str:
        """Do what is left of a rebuild.

        Args:
            journal: of it; a new one is written first. order: the new stack, with the old keys.
        Returns: a few words about what came of it.
        Raises:
            StackError: a step failed; what was done stays, and running it again goes on from there.
        """
        self._save(journal)
        if journal.phase == "begun":
            place = self.place.find() or self.place.make()
            journal.project_id, journal.environment_id = place.project_id, place.environment_id
            self._reached(journal, "made", f"project {journal.project} ({place.project_id})")
        with self.place.known(journal).open(allow=PROTECTED) as api:  # there the operations layer is a service like any other
            if journal.phase == "made":
                report = converge(api, order, approve=lambda _: None, told=lambda one: self.tell(one.line), pace=self.pace)
                self._reached(journal, "deployed", f"{len(report.done)} steps, {len(order.stack.services)} services run")
            if journal.phase == "deployed":
                self._restore(journal, self._prefect(api))
                self._reached(journal, "restored", f"set {journal.set_id} is restored, compared and swapped in")
            if journal.phase == "restored":
                self._restart(api)
                self._reached(journal, "restarted", f"{', '.join(CONSUMERS)} started on the restored data")
        self._reached(journal, "done", f"{self.stack} runs in project {journal.project}")
        return f"{self.stack} is rebuilt in project {journal.project} ({journal.project_id}) from {journal.set_id}"

    def urls(self, journal: RebuildJournal, order: Order) -> Mapping[str, str]:
        """The public addresses of the new stack, by service."""
        with self.place.known(journal).open() as api:
            return addresses(api, order.stack)

    def smoke(self, journal: RebuildJournal, order: Order) -> list[str]:
        """Send a request through the new stack; a sentence for each check that failed, none where it works."""
        with self.place.known(journal).open() as api:
            where = targets(api, addresses(api, order.stack))
        if where is None:
            return ["LiteLLM has no public address, so that no request can be sent through the new stack"]
        return [f"smoke test, {one.name}: {one.detail}" for one in failures(checks.run(where))]

    def strangers(self, place: RailwayEnvironment) -> list[str]:
        """Name the services that are in a project already."""
        with place.open() as api:
            return sorted(api.inventory().services)

    def _restore(self, journal: RebuildJournal, prefect: FarPrefect) -> FarRun:
        """Have the new worker restore the set from the second store, once; after a run that failed, once more."""
        deployment = prefect.wait_for(RESTORE, self.patience.registered)
        request = {
            "set_id": journal.set_id,
            "source": "copy",
            "components": journal.components,
            "replace": True,  # of databases that the new services have made a moment ago
            "confirm": self.stack,
        }
        run = prefect.start(deployment, {"request": request}, f"rebuild/{journal.id}/{journal.tries}")
        if run.over and run.state != "COMPLETED":  # of the try before
            journal.tries += 1
            self._save(journal)
            run = prefect.start(deployment, {"request": request}, f"rebuild/{journal.id}/{journal.tries}")
        return prefect.wait(run, self.patience.restore)

    def _prefect(self, api: RailwayApi) -> FarPrefect:
        server = api.inventory().services["prefect-server"]
        if not server.domains:
            raise NotHealed("the new prefect-server has no public address; add one in Railway's dashboard, then run this again")
        secret = api.variables(server.service_id).get("PREFECT_SERVER_API_AUTH_STRING", "")
        url = f"{public_url(server.domains[0].domain)}/api"
        return FarPrefect(url, SecretStr(secret) if secret else None, self.patience.poll, self.tell)

    def _restart(self, api: RailwayApi) -> None:
        for name in start_order(CONSUMERS):
            there = api.inventory().services.get(name)
            if there is None or there.latest is None:
                raise StackError(f"{name} is not in the new project any more; who deleted it? run this again", permanent=True)
            api.restart(there.latest.id)
            api.wait_for_deployment(there.latest.id, timeout=self.pace.deployment, poll=self.pace.poll)
            self.tell(f"{name} started again")

    def _reached(self, journal: RebuildJournal, phase: str, said: str) -> None:
        updated = RebuildJournal.model_validate({**journal.model_dump(), "phase": phase})
        journal.phase = updated.phase
        self._save(journal)
        self.tell(f"rebuild {journal.id}: {phase}: {said}")

    def _save(self, journal: RebuildJournal) -> None:
        journals.save(self.store, FOLDER, journal)
