"""Which runbooks were started for which incidents: in a Prefect variable, which no service of the stack can take away."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, ValidationError

from blocks.errors import IntegrityError
from flows.health.memory import load_text, save_text

__all__ = ["History", "Try", "history_name", "load_history", "save_history"]

KEPT = timedelta(days=2)
MOST = 300
"""Tries and handed over incidents that are kept at most, the newest."""


class Try(BaseModel):
    """One run of a runbook for an incident.

    Attributes:
        run_id: of the flow run; empty where nobody wrote down that it was made, so it may have been.
        by: the person who asked for it; empty: it was started by itself.
    """

    model_config = ConfigDict(frozen=True)

    incident: str
    runbook: str
    service: str
    at: datetime
    run_id: str = ""
    by: str = ""


class History(BaseModel):
    """All tries of the last days, oldest first, and the incidents that were handed over to people."""

    model_config = ConfigDict(frozen=True)

    tries: tuple[Try, ...] = ()
    handed_over: tuple[str, ...] = ()

    def of(self, incident: str) -> tuple[Try, ...]:
        """The tries for an incident, oldest first."""
        return tuple(one for one in self.tries if one.incident == incident)

    def with_try(self, new: Try, number: int) -> History:
        """The same history with a try, in the place of the incident's one of this number if there is one; old ones are dropped.

        Args:
            number: counts the tries of the incident, from 1.
        """
        mine = self.of(new.incident)
        old = mine[number - 1] if number <= len(mine) else None
        # its first time stays: what is tried anew because nobody knows how it went must not look younger
        kept = [new.model_copy(update={"at": old.at}) if one is old else one for one in self.tries]
        tries = kept if old else [*kept, new]
        return self.model_copy(update={"tries": tuple(one for one in tries if one.at > new.at - KEPT)[-MOST:]})

    def with_handed_over(self, incident: str) -> History:
        """The same history with an incident handed over."""
        others = [one for one in self.handed_over if one != incident]
        return self.model_copy(update={"handed_over": (*others, incident)[-MOST:]})


def history_name(stack: str) -> str:
    """Under which name a stack's history is kept in Prefect's variables."""
    return f"runbook_{stack}_history"


async def load_history(stack: str) -> tuple[History, str]:
    """Read the history.

    Returns: it, and why it was begun anew; empty where it was not. A run that is made twice because of that has the same key.
    Raises:
        ServiceError: Prefect's API does not answer.
    """
    try:
        text = await load_text(history_name(stack))
        return (History.model_validate_json(text) if text else History()), ""
    except (IntegrityError, ValidationError) as error:
        return History(), f"what was started before cannot be read ({type(error).__name__}): begun anew"


async def save_history(stack: str, history: History) -> None:
    """Write the history.

    Raises:
        ServiceError: Prefect's API does not answer.
    """
    await save_text(history_name(stack), history.model_dump_json(exclude_defaults=True))
