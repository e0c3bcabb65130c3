"""The whole of it: a platform with one project, behind an API on a port of this machine."""

from __future__ import annotations

import functools
import secrets
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from graphql import GraphQLSchema

from shared.sandbox.railway_api.access import Token, TokenKind
from shared.sandbox.railway_api.bucket_hosts import BucketHost, NamedBuckets
from shared.sandbox.railway_api.configuration import merged
from shared.sandbox.railway_api.deployment_mutations import DEPLOYMENT_MUTATIONS
from shared.sandbox.railway_api.endpoint import Endpoint, Received
from shared.sandbox.railway_api.faults import Fault, Faults
from shared.sandbox.railway_api.limits import Meter
from shared.sandbox.railway_api.machine import Machine
from shared.sandbox.railway_api.model import Environment, ServiceInstance, VolumeInstance
from shared.sandbox.railway_api.options import Behaviour, Pace
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.queries import QUERIES
from shared.sandbox.railway_api.resource_mutations import RESOURCE_MUTATIONS
from shared.sandbox.railway_api.resource_queries import RESOURCE_QUERIES
from shared.sandbox.railway_api.schema import bound_schema
from shared.sandbox.railway_api.server import ApiServer
from shared.sandbox.railway_api.service_mutations import SERVICE_MUTATIONS
from shared.sandbox.railway_api.workflows import Workflows
from shared.sandbox.railway_runtime.containers import Runtime

__all__ = ["RailwayStandIn"]


class RailwayStandIn:
    """What behaves as Railway does. A context manager: it listens within, and ends all that it began.

    Args:
        directory: the data of volumes and of their backups; the rest is in memory.
        runtime: where the containers run; closed with this. Services of the same name in two environments share what it
            knows by the name: addresses.
        behaviour: where the platform may be the one or the other way. pace: how fast it is.
        buckets: where buckets are; default nowhere. port: of the API; default a free one.
    Attributes:
        project_id, environment_id, workspace_id: of the project that is there from the beginning, without any service.
    """

    def __init__(
        self,
        directory: Path,
        runtime: Runtime,
        *,
        behaviour: Behaviour | None = None,
        pace: Pace | None = None,
        buckets: BucketHost | None = None,
        port: int | None = None,
    ) -> None:
        self._platform = platform = Platform(
            directory,
            runtime,
            behaviour=behaviour or Behaviour(),
            pace=pace or Pace(),
            buckets=buckets or NamedBuckets(),
        )
        platform.meter = Meter(platform.behaviour.plan.rate, platform.clock.now)
        platform.machine = Machine(platform)
        platform.workflows = Workflows(platform)
        self._faults = Faults()
        self._endpoint = Endpoint(platform, _schema(), self._faults)
        self._server = ApiServer(self._endpoint, port=port)
        project = platform.create_project("sandbox")
        self._environment: Environment = next(iter(project.environments.values()))
        self.project_id = project.id
        self.environment_id = self._environment.id
        self.workspace_id = platform.workspace_id
        self._tokens: dict[TokenKind, str] = {kind: self._new_token(kind) for kind in ("project", "workspace", "account")}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen, and let things happen."""
        self._platform.directory.mkdir(parents=True, exist_ok=True)
        self._platform.machine.start()
        self._server.start()

    def close(self) -> None:
        """Listen no more, let everything end, and close the runtime. The data of volumes stays."""
        self._server.stop()
        with self._platform.lock:
            self._platform.machine.give_up()
        self._platform.runtime.close()  # what drains is not waited for
        self._platform.machine.join()

    @property
    def url(self) -> str:
        """Of the API."""
        return self._server.url

    def token(self, kind: TokenKind) -> str:
        """A token: of the environment (`project`), of the workspace or of the account."""
        return self._tokens[kind]

    def revoke(self, kind: TokenKind) -> None:
        """Let a token be dead, and make a new one for the next question."""
        with self._platform.lock:
            del self._platform.tokens[self._tokens[kind]]
            self._tokens[kind] = self._new_token(kind)

    def service_names(self) -> list[str]:
        """The services in the environment, in the order in which they were made."""
        with self._platform.lock:
            return [self._platform.service_name(self._environment, one) for one in self._environment.instances]

    def service_id(self, name: str) -> str:
        """The id of a service.

        Raises:
            KeyError: there is none of that name in the environment.
        """
        return self._instance(name).service_id

    def running(self, name: str) -> bool:
        """Whether a container of a service runs."""
        with self._platform.lock:
            return any(one.instance_status == "RUNNING" for one in self._instance(name).deployments)

    def volume_directory(self, name: str) -> Path:
        """Where the data of a service's volume is.

        Raises:
            KeyError: it has none.
        """
        with self._platform.lock:
            return self._volume(name).directory

    def received(self, field: str | None = None) -> list[Received]:
        """The requests that came, oldest first; of those, the ones that asked for a field of the query or mutation type."""
        with self._platform.lock:
            return [one for one in self._endpoint.received if field is None or field in one.fields]

    # ------------------------------------------------------------------------------------ what a person does beside the API

    def stage(self, patch: Mapping[str, Any]) -> None:
        """A person changes something in the dashboard, and does not commit it."""
        with self._platform.lock:
            self._environment.staged = merged(self._environment.staged, dict(patch))

    def seal(self, name: str, variable: str) -> None:
        """A person seals a variable of a service: nobody can read it any more."""
        with self._platform.lock:
            self._instance(name).variables[variable].is_sealed = True

    def verify(self, domain: str, certificate: str = "VALID") -> None:
        """A person sets the DNS of a domain of their own, and Railway sees it.

        Args:
            certificate: how its certificate then is.
        """
        with self._platform.lock:
            for instance in self._environment.instances.values():
                for one in instance.domains:
                    if one.domain == domain:
                        one.is_verified, one.certificate = True, certificate

    def measure(self, name: str, measurement: str, value: float) -> None:
        """A measurement of a service, taken now: MEMORY_USAGE_GB, CPU_USAGE, ..."""
        with self._platform.lock:
            key = (self._instance(name).service_id, measurement)
            self._platform.readings.setdefault(key, []).append((self._platform.clock.now().timestamp(), value))

    def size_volume(self, name: str, size_mb: int) -> None:
        """A service's volume has had another size all the time; by the API one only grows.

        Raises:
            KeyError: it has none.
        """
        with self._platform.lock:
            self._volume(name).size_mb = size_mb

    def advance(self, by: timedelta) -> None:
        """Let the platform's clock move on."""
        with self._platform.lock:
            self._platform.clock.advance(by)

    # --------------------------------------------------------------------------------------------------- what goes wrong

    def outage(self, *, times: int = 1, field: str | None = None, status: int = 503) -> None:
        """The next requests, or those for a field, are answered with an HTTP error, and nothing is done."""
        self._faults.add(Fault("outage", times, field, status=status))

    def cut(self, *, times: int = 1, field: str | None = None) -> None:
        """Their connections are cut, and nothing is done."""
        self._faults.add(Fault("cut", times, field))

    def lose_answer(self, *, times: int = 1, field: str | None = None) -> None:
        """What they ask for is done, and their connections are cut before they are told."""
        self._faults.add(Fault("lost-answer", times, field))

    def slow(self, seconds: float, *, times: int = 1, field: str | None = None) -> None:
        """They are served, so many seconds later."""
        self._faults.add(Fault("slow", times, field, seconds=seconds))

    def throttle(self, *, times: int = 1, retry_after: float = 1.0, field: str | None = None) -> None:
        """They get 429 and are asked to wait."""
        self._faults.add(Fault("throttle", times, field, seconds=retry_after))

    def refuse(self, message: str, *, times: int = 1, field: str | None = None) -> None:
        """They get an error of GraphQL with HTTP 200, and nothing is done."""
        self._faults.add(Fault("refuse", times, field, message=message))

    def calm(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.calm()

    def wipe(self) -> None:
        """Remove the data of all volumes and backups; after `close`."""
        shutil.rmtree(self._platform.directory, ignore_errors=True)

    def _instance(self, name: str) -> ServiceInstance:
        with self._platform.lock:
            for one in self._environment.instances.values():
                if self._platform.service_name(self._environment, one.service_id) == name:
                    return one
        raise KeyError(f"there is no service {name}")

    def _volume(self, name: str) -> VolumeInstance:
        """The volume of a service, whose caller holds the lock."""
        found = self._environment.volume_of(self._instance(name).service_id)
        if found is None:
            raise KeyError(f"{name} has no volume")
        return found

    def _new_token(self, kind: TokenKind) -> str:
        where = (self.project_id, self.environment_id) if kind == "project" else (None, None)
        token = Token(kind, secrets.token_urlsafe(24), f"{kind} token", *where)
        self._platform.tokens[token.secret] = token
        return token.secret


@functools.cache
def _schema() -> GraphQLSchema:
    mutations = {**SERVICE_MUTATIONS, **DEPLOYMENT_MUTATIONS, **RESOURCE_MUTATIONS}
    return bound_schema({**QUERIES, **RESOURCE_QUERIES}, mutations)
