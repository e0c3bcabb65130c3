"""Migrations that broke off, or that the next one would; and what is in a database that must not be there."""

from __future__ import annotations

from shared.gameday.causes.cause import Cause

__all__ = ["BackgroundMigrationFailed", "ForeignTable", "MigrationDirty", "OwnerChanged", "PrismaFailed"]

_MIGRATION = "20991231000000_gameday"
_BACKGROUND = "gameday_backfill"
_TABLE = '"LiteLLM_AuditLog"'


class MigrationDirty(Cause):
    """An upgrade of Langfuse was killed as it began to migrate ClickHouse: the next version is marked dirty."""

    key, numbers, what = "dirty-migration", (6,), "a ClickHouse migration of Langfuse broke off: its version is dirty"
    service, aspects = "clickhouse", ("schema-migrations",)
    runbook = "dirty-migration"

    def cause(self) -> None:
        """As in `Cause`."""
        newest = "(SELECT max(version) + 1 FROM schema_migrations), 1, (SELECT max(sequence) + 1 FROM schema_migrations)"
        self.ground.clickhouse(f"INSERT INTO schema_migrations SELECT {newest}")

    def undo(self) -> None:
        """As in `Cause`."""
        if self.left():
            version = "(SELECT argMax(version, sequence) - 1 FROM schema_migrations)"
            sequence = "(SELECT max(sequence) + 1 FROM schema_migrations)"
            self.ground.clickhouse(f"INSERT INTO schema_migrations SELECT {version}, 0, {sequence}")

    def left(self) -> str:
        """As in `Cause`."""
        dirty = self.ground.clickhouse("SELECT argMax(dirty, sequence) FROM schema_migrations")
        return "the newest version is dirty" if dirty == "1" else ""


class PrismaFailed(Cause):
    """Prisma began a migration of LiteLLM, and Postgres refused it."""

    key, numbers, what = "prisma-migration", (8,), "a Postgres migration of LiteLLM was refused: P3018, then P3009"
    service, aspects = "postgres", ("migrations-litellm",)
    runbook = "failed-prisma-migration"

    def cause(self) -> None:
        """As in `Cause`."""
        self.ground.postgres(
            "litellm",
            "INSERT INTO _prisma_migrations (id, checksum, migration_name, logs, started_at, applied_steps_count) "
            "VALUES (gen_random_uuid()::text, repeat('0', 64), %s, %s, now(), 0)",
            [_MIGRATION, "A migration failed to apply. Error code: P3018. Database error code: 23505. duplicate key value"],
        )

    def undo(self) -> None:
        """As in `Cause`."""
        self.ground.postgres("litellm", "DELETE FROM _prisma_migrations WHERE migration_name = %s", [_MIGRATION])

    def left(self) -> str:
        """As in `Cause`."""
        open_ones = (
            "SELECT 1 FROM _prisma_migrations WHERE migration_name = %s AND rolled_back_at IS NULL AND finished_at IS NULL"
        )
        return "it is not resolved" if self.ground.postgres("litellm", open_ones, [_MIGRATION]) else ""


class ForeignTable(Cause):
    """A table of another application is in LiteLLM's database, whose next upgrade may drop it: a person puts it elsewhere."""

    key, numbers, what = "foreign-table", (10,), "a table of somebody else is in LiteLLM's database"
    service, aspects = "postgres", ("foreign-tables",)
    runbook = "split-shared-database"
    hands_over = True

    def cause(self) -> None:
        """As in `Cause`."""
        self.ground.postgres("litellm", "CREATE TABLE IF NOT EXISTS gameday_notes (id text PRIMARY KEY)")

    def undo(self) -> None:
        """As in `Cause`."""
        self.ground.postgres("litellm", "DROP TABLE IF EXISTS gameday_notes")


class BackgroundMigrationFailed(Cause):
    """A background migration of Langfuse has given up; it ends well once the worker takes it up again."""

    key, numbers, what = "background-migration", (18,), "a background migration of Langfuse has failed"
    service, aspects = "langfuse-worker", ("background-migrations",)
    runbook = "background-migration"

    def cause(self) -> None:
        """As in `Cause`."""
        self.ground.postgres(
            "langfuse",
            "INSERT INTO background_migrations (id, name, script, args, failed_at, failed_reason) "
            "VALUES (gen_random_uuid()::text, %s, %s, '{}', now(), 'memory limit exceeded') ON CONFLICT (name) DO UPDATE "
            "SET finished_at = NULL, failed_at = excluded.failed_at, failed_reason = excluded.failed_reason",
            [_BACKGROUND, _BACKGROUND],
        )

    def undo(self) -> None:
        """As in `Cause`."""
        self.ground.postgres("langfuse", "DELETE FROM background_migrations WHERE name = %s", [_BACKGROUND])

    def left(self) -> str:
        """As in `Cause`."""
        state = "SELECT failed_at IS NOT NULL, finished_at IS NULL FROM background_migrations WHERE name = %s"
        for failed, unfinished in self.ground.postgres("langfuse", state, [_BACKGROUND]):
            return "it has failed" if failed else "no worker has carried it out" if unfinished else ""
        return ""


class OwnerChanged(Cause):
    """A person restored a table as the role that restores, and granted LiteLLM its use: it works until the next migration."""

    key, numbers, what = "table-owner", (9,), "a table of LiteLLM belongs to another role: the next migration is refused"
    service, aspects = "postgres", ("table-owners",)
    runbook = "table-owner"

    def cause(self) -> None:
        """As in `Cause`."""
        self.ground.postgres("litellm", f"ALTER TABLE {_TABLE} OWNER TO restore")
        self.ground.postgres("litellm", f"GRANT ALL ON {_TABLE} TO litellm")

    def undo(self) -> None:
        """As in `Cause`."""
        if self.left():
            self.ground.postgres("litellm", f"ALTER TABLE {_TABLE} OWNER TO litellm")

    def left(self) -> str:
        """As in `Cause`."""
        owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = %s::regclass"
        ((found,),) = self.ground.postgres("litellm", owner, [_TABLE])
        return "" if found == "litellm" else f"{_TABLE} belongs to {found}"
