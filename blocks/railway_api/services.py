"""Services: make them, configure them, open them to the public (facts: railway.md 2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blocks.railway_api import documents
from blocks.railway_api.domains import CustomDomain
from blocks.railway_api.models import Domain, ServiceSettings, TcpProxy, domains_of
from blocks.railway_api.session import Session

__all__ = ["Services"]


class Services(Session):
    """The part of `RailwayApi` about services. What changes a running one raises `GuardRefused` for a protected service."""

    def create_service(self, name: str, image: str | None = None, variables: Mapping[str, str] | None = None) -> str:
        """Make a service.

        With an image Railway deploys it at once; without one it waits for `set_image` and `deploy`, so that volume, variables
        and settings can be there before its first start. Where the environment is no fork the service appears in the
        project's other ones, too.

        Args:
            variables: of its first deployment; they may hold references.
        Returns: the service's id.
        Raises:
            Uncertain: it may have been made: look in `inventory`, by name.
        """
        given: dict[str, Any] = {**self._where, "name": name}
        if image is not None:
            given["source"] = {"image": image}
        if variables:
            self.graphql.secrets.learn(variables)
            given["variables"] = dict(variables)
        service_id = str(self._do(documents.SERVICE_CREATE, input=given)["id"])
        self._remember(service_id, name)
        return service_id

    def delete_service(self, service_id: str) -> None:
        """Delete a service; its volume stays, without one."""
        self.guard(service_id, "a deletion")
        self._do(documents.SERVICE_DELETE, id=service_id, environmentId=self.place.environment_id)

    def update_service(self, service_id: str, settings: ServiceSettings) -> None:
        """Change a service's configuration; nothing happens to what runs until `deploy`.

        With a new image Railway may deploy by itself: see `deployments` for one that is newer than the request, and deploy
        all the same (facts: railway.md 8).
        """
        self.guard(service_id, "a change of settings")
        where = {"serviceId": service_id, "environmentId": self.place.environment_id}
        self._do(documents.SERVICE_UPDATE, input=settings.as_input(), **where)

    def set_image(self, service_id: str, image: str) -> None:
        """Configure another image; see `update_service`.

        Args:
            image: with an exact tag.
        """
        self.update_service(service_id, ServiceSettings(image=image))

    def limits(self, service_id: str, memory_gb: float | None = None, vcpus: float | None = None) -> None:
        """Cap what one container of a service may use, from its next deployment on.

        Args:
            memory_gb: GB. vcpus: processors. None leaves a cap as it is.
        """
        self.guard(service_id, "a change of limits")
        given = {"memoryGB": memory_gb, "vCPUs": vcpus}
        where = {"serviceId": service_id, "environmentId": self.place.environment_id}
        self._do(documents.LIMITS_UPDATE, input={**where, **{key: value for key, value in given.items() if value is not None}})

    def current_limits(self, service_id: str) -> dict[str, Any]:
        """Read the caps that were set for a service, as Railway has them; empty where there are none."""
        found = self._run(documents.LIMITS, serviceId=service_id, environmentId=self.place.environment_id)
        override = found.get("serviceInstanceLimitOverride")
        return dict(override) if isinstance(override, Mapping) else {}

    def domains(self, service_id: str) -> list[Domain]:
        """Read the names under which the public reaches a service."""
        return domains_of(self._run(documents.DOMAINS, serviceId=service_id, **self._where)["domains"])

    def create_domain(self, service_id: str, port: int | None = None) -> str:
        """Open a service to the public, under a name that Railway chooses.

        Args:
            port: that it listens on; None lets Railway guess.
        Returns: the domain; `public_url` makes a URL of it.
        Raises:
            Uncertain: it may have been made: look in `domains`.
        """
        given = {"environmentId": self.place.environment_id, "serviceId": service_id, "targetPort": port}
        return str(self._do(documents.DOMAIN_CREATE, input=given)["domain"])

    def custom_domains(self, service_id: str) -> list[CustomDomain]:
        """Read the domains of the user's own that lead to a service, with their certificates and what the DNS says."""
        found = self._run(documents.CUSTOM_DOMAINS, serviceId=service_id, **self._where)["domains"]
        return [CustomDomain.model_validate(one) for one in found["customDomains"]]

    def issue_certificate(self, domain_id: str) -> None:
        """Have Railway issue a new certificate for a custom domain; it takes minutes, see `custom_domains`.

        Asked for more often than needed it runs into the authority's limits: look before.
        """
        self._do(documents.CERTIFICATE_ISSUE, id=domain_id)

    def tcp_proxies(self, service_id: str) -> list[TcpProxy]:
        """Read the ports of a service that are open to the internet; a database should have none."""
        found = self._run(documents.TCP_PROXIES, serviceId=service_id, environmentId=self.place.environment_id)
        return [TcpProxy.model_validate(one) for one in found["tcpProxies"]]
