"""A stack's memory of alerts, and sweeps that may die: what tests of the outbox share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from blocks.alerts import Channel, Links
from flows.health.incidents import Happening, Incident, Kind
from flows.health.ledger import Outbox
from flows.health.outbox import deliver, owe

T0 = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LINKS = Links(run="http://prefect/run", status="http://status")
KEY = "prod/postgres/connect/20261124T030000Z"


def happening(kind: Kind, ordinal: int = 1, at: datetime = T0, *, key: str = KEY, **changes: object) -> Happening:
    fields = {
        "key": key,
        "stack": "prod",
        "service": key.split("/")[1],
        "aspect": "connect",
        "severity": "critical",
        "sentence": "postgres: no answer",
        "since": T0,
        "opened_at": T0,
        "closed_at": at if kind == "closed" else None,
    }
    return Happening(kind=kind, incident=Incident.model_validate({**fields, **changes}), at=at, ordinal=ordinal)


class World:
    """A stack's memory, and sweeps that may die."""

    def __init__(self, *channels: Channel) -> None:
        self.channels = channels
        self.now = T0
        self.text = Outbox().model_dump_json()
        self.saves = 0

    @property
    def outbox(self) -> Outbox:
        return Outbox.model_validate_json(self.text)

    def save(self, outbox: Outbox) -> None:
        self.saves += 1
        self.text = outbox.model_dump_json(exclude_defaults=True)

    def sweep(self, *happenings: Happening) -> None:
        """One sweep: what it judged is saved with the outbox, as the flow does, then told."""
        self.now += MINUTE
        self.save(owe(self.outbox, happenings, self.channels))
        deliver(self.outbox, happenings, self.channels, LINKS, self.now, self.save)
