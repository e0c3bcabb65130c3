"""After a deploy: where the stack is, and whether a request through it works."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from blocks.railway import public_url
from blocks.railway_api.api import RailwayApi
from flows.smoke.targets import SmokeTargets
from railway.stack import Stack

__all__ = ["addresses", "targets"]

LITELLM, WEB = "litellm", "langfuse-web"


def addresses(api: RailwayApi, stack: Stack) -> dict[str, str]:
    """Return the public URLs of the stack's services by name; a domain of its own goes before Railway's."""
    found = {}
    for name, service in api.inventory().services.items():
        if name in stack.services and service.domains:
            best = next((one for one in service.domains if one.custom), service.domains[0])
            found[name] = public_url(best.domain)
    return found


def targets(api: RailwayApi, urls: Mapping[str, str]) -> SmokeTargets | None:
    """Say where the smoke test looks, with the keys that the services have; None where LiteLLM has no public address.

    Args:
        api: of the environment. urls: public ones by service.
    """
    if LITELLM not in urls:
        return None
    services = api.inventory().services
    key = api.variables(services[LITELLM].service_id, rendered=True).get("LITELLM_MASTER_KEY", "")
    web = api.variables(services[WEB].service_id, rendered=True) if WEB in services else {}
    secret = web.get("LANGFUSE_INIT_PROJECT_SECRET_KEY", "")
    return SmokeTargets(
        litellm_url=urls[LITELLM],
        litellm_key=SecretStr(key),
        langfuse_url=urls.get(WEB, ""),
        public_key=web.get("LANGFUSE_INIT_PROJECT_PUBLIC_KEY", ""),
        secret_key=SecretStr(secret) if secret else None,
        dual=web.get("LANGFUSE_MIGRATION_V4_WRITE_MODE", "") == "dual",
    )
