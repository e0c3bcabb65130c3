"""What the version rules have to know, as far as Railway says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import yaml

from blocks.railway_api.models import Inventory
from flows.upgrade.rules import READ, Facts, Version
from flows.upgrade.rules.facts import MasterKey

__all__ = ["callbacks_of", "facts_of", "master_key_of"]

_KNOWN_KEYS = frozenset({"sk-1234", "sk-12345", "sk-123", "sk-test", "sk-master-key", "sk-litellm-master-key"})
"""Stand in documentation and examples."""


def facts_of(databases: Facts, inventory: Inventory, variables: Mapping[str, Mapping[str, str]]) -> Facts:
    """Put together what is known.

    Args:
        databases: what stands in them. variables: of the applications, as they will be when the new versions start.
    """
    services = inventory.services
    running = {name: one.latest.image if one.latest and one.latest.image else one.image for name, one in services.items()}
    litellm = variables.get("litellm", {})
    return replace(
        databases,
        runs={name: Version.of(image) for name, image in running.items() if image},
        variables={name: {key: given[key] for key in READ if key in given} for name, given in variables.items()},
        start_commands={name: one.start_command for name, one in services.items() if one.start_command},
        master_key=master_key_of(litellm) if "litellm" in variables else "unknown",
        callbacks=callbacks_of(litellm.get("LITELLM_CONFIG", "")),
        replicas={name: one.replicas for name, one in services.items() if one.replicas is not None},
        health_seconds={name: one.healthcheck_timeout for name, one in services.items() if one.healthcheck_timeout},
    )


def master_key_of(litellm: Mapping[str, str]) -> MasterKey:
    """Judge LiteLLM's master key; a reference may be anything, and a sealed one is not there at all."""
    key = litellm.get("LITELLM_MASTER_KEY")
    if key is None or "${{" in key:
        return "unknown"
    if not key:
        return "unset"
    return "weak" if key in _KNOWN_KEYS or not key.startswith("sk-") else "set"


def callbacks_of(configuration: str) -> frozenset[str]:
    """Name the callbacks in LiteLLM's configuration; none where it cannot be read."""
    try:
        found = yaml.safe_load(configuration)
    except yaml.YAMLError:
        return frozenset()
    settings = found.get("litellm_settings") if isinstance(found, dict) else None
    if not isinstance(settings, dict):
        return frozenset()
    named = [settings.get(key) or [] for key in ("callbacks", "success_callback", "failure_callback")]
    return frozenset(str(one) for listed in named for one in (listed if isinstance(listed, list) else [listed]))
