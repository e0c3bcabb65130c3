"""A person's word that they work on an incident: while it stands, nobody is reminded of it, and it is not escalated.

It is a value here; where it is kept is `acknowledging.py`'s business. What gets worse is told even so: the word was about less.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from flows.health.incidents import Happening
from flows.health.state import Episode

__all__ = ["LONGEST_NAME", "Acknowledgement", "take"]

LONGEST_NAME = 100


class Acknowledgement(BaseModel):
    """Somebody works on an incident.

    Attributes:
        incident: its key. by: who, as people say it, for example `ada` or `slack U042ADA`.
    """

    model_config = ConfigDict(frozen=True)

    incident: str = Field(min_length=1, max_length=500)
    by: str = Field(min_length=1, max_length=LONGEST_NAME)
    at: datetime


def take(
    episode: Episode, acknowledged: Mapping[str, Acknowledgement] | None, now: datetime
) -> tuple[Episode, Happening | None]:
    """Take in whether somebody works on an open incident.

    Args:
        acknowledged: by key; one that is not there any more has been withdrawn. None: nobody could look, so nothing changes.
    Returns: the episode; and a happening where somebody has begun to.
    """
    incident = episode.incident
    word = acknowledged.get(incident.key) if acknowledged is not None else None
    if acknowledged is None or (word is None) == (incident.acknowledged_at is None):
        return episode, None
    if word is None:  # reminders are due again, from the last time that people heard of it
        given_up = incident.model_copy(update={"acknowledged_at": None, "acknowledged_by": ""})
        return episode.model_copy(update={"incident": given_up}), None
    update = {"acknowledged_at": word.at, "acknowledged_by": word.by, "acknowledgements": incident.acknowledgements + 1}
    incident = incident.model_copy(update=update)
    note = f"{word.by} is working on it"
    happening = Happening(kind="acknowledged", incident=incident, at=now, ordinal=incident.acknowledgements, note=note)
    return episode.model_copy(update={"incident": incident, "said_at": now}), happening
