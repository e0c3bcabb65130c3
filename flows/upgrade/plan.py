"""What an upgrade is going to do, as the preview lists it, and the hash by which a run knows that nothing has changed since."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict, Field

from blocks.errors import GuardRefused

__all__ = ["Plan", "plan_hash", "refuse_changed"]

_LENGTH = 12


class Plan(BaseModel):
    """Base of every kind's plan. The steps are made of it alone, so that another process can make the same ones.

    Attributes:
        kind: litellm, langfuse, ...; stack: its name.
        facts: what was found and what is decided by it, for people, by what it is of: images, versions, sets, deployments.
        passing: facts that change by themselves from minute to minute, as free space; shown, and not part of the hash.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    stack: str
    facts: dict[str, str] = Field(default_factory=dict)
    passing: dict[str, str] = Field(default_factory=dict)


def plan_hash(plan: Plan) -> str:
    """Recognise a plan: 12 hexadecimal digits over everything in it but what passes."""
    document = plan.model_dump(mode="json", exclude={"passing"})
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:_LENGTH]


def refuse_changed(plan: Plan, wanted: str) -> None:
    """Go on only with the plan that a person has read.

    Args:
        plan: made of the facts as they are now. wanted: the hash of what was read; empty: none was named.
    Raises:
        GuardRefused: the facts are others.
    """
    found = plan_hash(plan)
    if wanted and wanted != found:
        raise GuardRefused(
            f"upgrade {plan.kind}: the facts have changed since plan {wanted} was made, it would be {found} now; nothing was "
            "changed; read a new dry run, and give its plan_hash"
        )
