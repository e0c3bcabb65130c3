"""What the project's own definition says of the services of an environment: the variables that go with a version."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from railway.stack import LangfuseMajor, Secret, Service, Stack, Variant
from railway.variants import build

__all__ = ["changed_variables", "definition"]


def definition(there: Collection[str], images: Mapping[str, str], major: LangfuseMajor, name: str) -> Stack:
    """Build the stack that an environment is of.

    Args:
        there: names of its services. images: that they have, or shall have. major: of Langfuse. name: of the stack.
    """
    variant: Variant = "production" if "prefect-server" in there else "starter"
    empty = build(variant, langfuse_major=major, object_store="minio" if "minio" in there else "bucket", name=name)
    given = {service: image for service, image in images.items() if service in empty.services}
    return build(empty.variant, langfuse_major=major, object_store=empty.object_store, images=given, name=name)


def changed_variables(before: Service, after: Service) -> dict[str, str]:
    """Name the variables that are another text with the new version, or new; secrets are never changed by an upgrade."""
    found = {}
    for name, value in after.variables.items():
        if not isinstance(value, Secret) and value != before.variables.get(name):
            found[name] = value.text
    return found
