"""The double of all image registries: what `railway_runtime` can run is what they have.

    with RegistryDouble(runtime.catalogue) as registry:
        os.environ["REGISTRY_URL"] = registry.url

It is one server, a mirror of all: each registry's name stands before its repositories. As a real one it gives out tokens before
it says anything, and pages of tags; a repository that is gone looks the way it does on the registry that had it.
"""

from __future__ import annotations

from shared.sandbox.registry.server import RegistryDouble

__all__ = ["RegistryDouble"]
