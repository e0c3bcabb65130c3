"""All causes, in the order in which a game day goes through them: what hurts least first, on Langfuse 3, then on 4."""

from __future__ import annotations

from collections.abc import Sequence

from shared.gameday.causes import (
    backups,
    clickhouse,
    images,
    langfuse,
    langfuse_four,
    memory,
    outages,
    postgres,
    public,
    redis,
    schema,
    spend,
    trust,
)
from shared.gameday.causes.cause import Cause

__all__ = ["CAUSES", "chosen"]

CAUSES: Sequence[type[Cause]] = (
    redis.PolicyForgets,
    redis.MemoryPressed,
    postgres.ConnectionsExhausted,
    spend.SpendGrows,
    clickhouse.LogsGrow,
    clickhouse.VolumeFills,
    clickhouse.PartsPileUp,
    schema.MigrationDirty,
    schema.PrismaFailed,
    schema.ForeignTable,
    schema.OwnerChanged,
    schema.BackgroundMigrationFailed,
    memory.GatewayGrows,
    langfuse.WorkerWedged,
    langfuse.WorkerKilled,
    public.CertificateExpires,
    trust.KeyRemoved,
    trust.ImageCompromised,
    trust.SaltChanged,
    images.BadImage,
    images.TagDeleted,
    images.ImageOlder,
    backups.SetsGone,
    backups.DrillFailed,
    postgres.DatabaseDropped,
    outages.WorkerHangs,
    outages.WebStopped,
    outages.GatewayStopped,
    outages.RedisStopped,
    outages.MinioStopped,
    outages.ClickHouseHangs,
    outages.PostgresHangs,
    langfuse_four.SdkTooOld,  # from here on another stack
    langfuse_four.CursorStuck,
)


def chosen(only: str) -> Sequence[type[Cause]]:
    """Choose causes.

    Args:
        only: keys with commas between them; empty: all.
    Raises:
        ValueError: there is none of that key; says which there are.
    """
    keys = [key.strip() for key in only.split(",") if key.strip()]
    known = {one.key: one for one in CAUSES}
    for key in keys:
        if key not in known:
            raise ValueError(f"gameday: there is no cause {key!r}, expected one of {', '.join(known)}")
    return [known[key] for key in keys] or CAUSES
