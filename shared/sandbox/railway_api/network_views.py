"""Domains and proxies as the API shows them."""

from __future__ import annotations

from shared.sandbox.railway_api.connections import View
from shared.sandbox.railway_api.model import Domain, ServiceInstance, TcpProxy

__all__ = ["domain_view", "domains_view", "proxy_view"]


def domains_view(instance: ServiceInstance) -> View:
    """All domains of a service."""
    return {
        "serviceDomains": [domain_view(instance, one) for one in instance.domains if not one.is_custom],
        "customDomains": [domain_view(instance, one) for one in instance.domains if one.is_custom],
    }


def domain_view(instance: ServiceInstance, one: Domain) -> View:
    """A domain. There is no DNS here: one of the user's own is verified once a person says so, see `RailwayStandIn.verify`."""
    required = f"{one.id[:8]}.up.railway.app"
    record = {
        "currentValue": required if one.is_verified else "",
        "fqdn": one.domain,
        "hostlabel": one.domain.split(".")[0],
        "requiredValue": required,
        "status": f"DNS_RECORD_STATUS_{'PROPAGATED' if one.is_verified else 'REQUIRES_UPDATE'}",
        "zone": one.domain.partition(".")[2],
    }
    return {
        "id": one.id,
        "domain": one.domain,
        "environmentId": instance.environment_id,
        "projectId": None,
        "serviceId": instance.service_id,
        "syncStatus": "ACTIVE",
        "targetPort": one.target_port,
        "status": {
            "certificateStatus": f"CERTIFICATE_STATUS_TYPE_{one.certificate}",
            "dnsRecords": [record],
            "verified": one.is_verified,
        },
    }


def proxy_view(instance: ServiceInstance, one: TcpProxy) -> View:
    """A TCP proxy."""
    return {
        "id": one.id,
        "applicationPort": one.application_port,
        "domain": one.domain,
        "environmentId": instance.environment_id,
        "proxyPort": one.proxy_port,
        "serviceId": instance.service_id,
        "syncStatus": "ACTIVE",
    }
