"""Railway's own high availability: it is made of the server in its place, and it is not upgraded by this project."""

from __future__ import annotations

import re

from blocks.railway_api.models import Inventory

__all__ = ["cluster_parts", "guide_to_ha", "refuse_cluster"]

_PART = re.compile(r"(?:^|[/-])(?:postgres-patroni|patroni|etcd|haproxy)(?:[:@-]|$)", re.IGNORECASE)
_PROXY = re.compile(r"(?:^|[/-])haproxy(?:[:@-]|$)", re.IGNORECASE)
_VOLUME = re.compile(r"etcd|patroni|postgres-replica", re.IGNORECASE)


def cluster_parts(inventory: Inventory) -> list[str]:
    """Name what of Railway's cluster is in an environment: services by their image, and volumes that a conversion left."""
    services = [name for name, one in inventory.services.items() if one.image and _PART.search(one.image)]
    volumes = [one.name for one in inventory.volumes if _VOLUME.search(one.name)]
    if not volumes and all(_PROXY.search(inventory.services[name].image or "") for name in services):
        return []  # a proxy alone may be of anything
    return [*services, *(f"volume {name}" for name in volumes)]


def refuse_cluster(service: str, inventory: Inventory) -> str:
    """Say why a clustered server is not upgraded, and what to do instead; empty where there is no cluster.

    Args:
        service: of the server that is to be upgraded.
    """
    parts = cluster_parts(inventory)
    if not parts:
        return ""
    return (
        f"{service}: Railway's high availability is here ({', '.join(parts)}), and a cluster's major version is not changed by "
        f"this flow; make {service} the leader (Make Leader, or `railway postgres ha switchover`), revert to one node in the "
        "dashboard, delete the volumes that are left, upgrade, then convert again with `railway postgres ha convert`"
    )


def guide_to_ha(service: str) -> str:
    """Say how a single server becomes Railway's cluster: that is done in its place, so there is nothing to move."""
    return (
        f"{service}: Railway converts a single server in its place and rewrites references by itself: take a backup "
        "(backup/on-demand), then `railway postgres ha convert`, which takes about two minutes without connections; literal "
        "URLs are not rewritten: change those that the audit lists. To move to a cluster of another provider set "
        "POSTGRES_TARGET_URL on the worker and run this with target: url"
    )
