"""What the restore of one table has done so far, written to the store before each step.

The same habits as the journal of whole restores: small, rewritten whole under the stack's lock, phases only go forward.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from blocks.object_store import BackupStore
from flows import journals
from flows.backup.manifest import ClickHouseDatabase
from flows.journals import Journal
from flows.restore.choose import side_name
from flows.restore.journal import OPEN, Phase, Step

__all__ = ["OPEN", "Into", "Member", "Moved", "TableJournal", "load_all", "save"]

FOLDER = "table-restores"
Into = Literal["beside", "swap"]


class Member(BaseModel):
    """One Postgres table with rows of its own: the wanted one, or one of its partitions or inheritance children.

    Attributes:
        name: qualified, as the backup has it. place: where its restored rows are in the live database.
        rows, checksum: what the manifest says of it; the checksum is empty where the backup only counted.
    """

    name: str
    place: str
    rows: int
    checksum: str


class Moved(BaseModel):
    """What has been moved of a ClickHouse partition; moving twice must not take restored rows for live ones.

    Attributes:
        live_out: the live partition is in the database `kept`. restored_out: undo has put the restored one aside.
        rows: of the live partition before. restored: of the restored one.
    """

    live_out: bool = False
    restored_out: bool = False
    rows: int = 0
    restored: int = 0


class TableJournal(Journal):
    """The restore of one table or partition.

    Attributes:
        component: `postgres/<database>` or `clickhouse/<database>`. table: as the engine prints it.
        partition: id of a ClickHouse partition; empty for the whole table.
        members: Postgres, once they are in the live database beside the live table.
        sequences: what those of the table would have given next when the backup was taken, by name.
        step: ClickHouse, a whole table that is swapped. taken: what the manifest says of it: the set may be gone by then.
        moved: ClickHouse, a partition that is swapped.
    """

    set_id: str
    begun_at: datetime
    phase: Phase = "staging"
    component: str
    table: str
    partition: str = ""
    into: Into
    members: list[Member] = Field(default_factory=list)
    sequences: dict[str, int] = Field(default_factory=dict)
    step: Step | None = None
    taken: ClickHouseDatabase | None = None
    moved: Moved | None = None

    @property
    def kind(self) -> str:
        """`postgres` or `clickhouse`."""
        return self.component.partition("/")[0]

    @property
    def database(self) -> str:
        """Name of the live database."""
        return self.component.partition("/")[2]

    @property
    def name(self) -> str:
        """Name what is restored, for people."""
        part = f" partition {self.partition}" if self.partition else ""
        return f"{self.kind} {self.database}: {self.table}{part}"

    @property
    def side(self) -> str:
        """Name of the database beside the live one that takes the restored rows first."""
        return side_name(self.database, "restore", self.id)

    def place(self, purpose: Literal["restored", "kept", "undone"]) -> str:
        """Name the place of the restored rows, of those that were live before, or of those that an undo took out.

        In Postgres it is a schema of the live database, in ClickHouse a database.
        """
        if self.kind == "postgres":
            return f"{purpose}_{self.id[-6:].lower()}"
        return self.side if purpose == "restored" else side_name(self.database, purpose, self.id)


def save(store: BackupStore, journal: TableJournal) -> None:
    """Write the journal; from then on a successor knows about what it says."""
    journals.save(store, FOLDER, journal)


def load_all(store: BackupStore) -> list[TableJournal]:
    """Read every journal of the stack, oldest first.

    Raises:
        IntegrityError: one cannot be read; says which.
    """
    return journals.load_all(store, FOLDER, TableJournal)
