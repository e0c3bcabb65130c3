"""What is in a ClickHouse database, and which of it holds rows that can be backed up and compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from blocks.clickhouse_client import ClickHouseClient, qualified

__all__ = ["Table", "consumes", "inventory", "stored_in"]

WHOLE_ENGINES = frozenset({"Log", "TinyLog", "StripeLog", "Memory"})
"""Engines whose rows a backup holds, but not as parts: they can only be read as a whole."""

VIEW_ENGINES = frozenset({"View", "MaterializedView", "LiveView", "WindowView", "Dictionary"})
"""What is a definition over other tables. A materialised view may have a table of its own, see `stored_in`."""

CONSUMING_ENGINES = frozenset({"Kafka", "RabbitMQ", "NATS", "S3Queue", "AzureQueue", "FileLog"})
"""Engines that take messages away from somebody as soon as they exist: a scratch copy would steal from the live one."""


@dataclass(frozen=True)
class Table:
    """One table, view or dictionary.

    Attributes:
        name, engine, ddl: as system.tables has them. uuid: of the definition, in an Atomic database.
        place: folder of its data, which tells two tables of one name apart even where the database shows no UUIDs.
        rows: None where the engine does not say.
    """

    database: str
    name: str
    engine: str
    uuid: str
    place: str
    ddl: str
    rows: int | None

    @property
    def sql(self) -> str:
        """Its quoted name."""
        return qualified(self.database, self.name)

    @property
    def in_parts(self) -> bool:
        """Whether its rows are in parts of the MergeTree family."""
        return self.engine.endswith("MergeTree")

    @property
    def readable_whole(self) -> bool:
        """Whether its rows are backed up, but not in parts."""
        return self.engine in WHOLE_ENGINES

    @property
    def holds_rows(self) -> bool:
        """Whether a backup holds rows of it."""
        return self.in_parts or self.readable_whole

    @property
    def is_view(self) -> bool:
        """Whether it is a view or a dictionary."""
        return self.engine in VIEW_ENGINES

    @property
    def identity(self) -> str:
        """What tells this table from another one that has or had the same name."""
        return self.place or self.uuid


def inventory(client: ClickHouseClient, database: str) -> dict[str, Table]:
    """Look at everything in a database; the hidden tables of materialised views are there too (`.inner...`).

    Returns: tables by name, none when there is no such database.
    """
    rows = client.rows(
        "SELECT name, engine, toString(uuid), data_paths, create_table_query, total_rows FROM system.tables "
        "WHERE database = {database:String} AND NOT is_temporary ORDER BY name",
        {"database": database},
    )
    return {
        str(name): Table(
            database, str(name), str(engine), str(uuid), str(paths[0]) if paths else "", str(ddl), None if n is None else int(n)
        )
        for name, engine, uuid, paths, ddl, n in rows
    }


def is_inner(name: str) -> bool:
    """Say whether a name is that of a materialised view's hidden table."""
    return name.startswith((".inner.", ".inner_id."))


def stored_in(tables: Mapping[str, Table], name: str) -> Table | None:
    """Return the table that holds the rows of `name`: itself, or the hidden one of a materialised view without TO.

    A backup files the rows of the hidden table under the view's name.
    """
    table = tables[name]
    if table.engine != "MaterializedView":
        return table if table.holds_rows else None
    for hidden in (f".inner_id.{table.uuid}", f".inner.{name}"):
        if hidden in tables:
            return tables[hidden]
    return None


def consumes(tables: Mapping[str, str], ddl: Mapping[str, str], database: str) -> set[str]:
    """Name the tables that take messages from elsewhere, and the views that feed from them or refresh others by the clock.

    Such must not exist in a scratch copy while the live ones do.

    Args:
        tables: engine by name. ddl: definition by name. database: as it stands in the definitions.
    """
    taking = {name for name, engine in tables.items() if engine in CONSUMING_ENGINES}
    feeding = {
        name
        for name, text in ddl.items()
        if tables[name] == "MaterializedView"
        and (_refreshes_another(text) or any(_mentions(text, database, source) for source in taking))
    }
    return taking | feeding


def _refreshes_another(ddl: str) -> bool:
    head = ddl.split(" AS SELECT ", maxsplit=1)[0]
    return re.search(r" REFRESH (EVERY|AFTER) ", head) is not None and " TO " in head


def _mentions(ddl: str, database: str, table: str) -> bool:
    return re.search(rf"`?{re.escape(database)}`?\.`?{re.escape(table)}`?(?!\w)", ddl) is not None
