"""The retention policy that the settings ask for."""

from __future__ import annotations

from blocks.settings import Settings
from flows.prune.retention import RetentionPolicy


def policy_of(settings: Settings) -> RetentionPolicy:
    """Return the policy of `BACKUP_KEEP_*`; the predecessor's `BACKUP_RETENTION_DAYS` is the number of days."""
    return RetentionPolicy(
        keep_last=settings.backup_keep_last,
        keep_hourly=settings.backup_keep_hourly,
        keep_daily=settings.backup_retention_days,
        keep_weekly=settings.backup_keep_weekly,
        keep_monthly=settings.backup_keep_monthly,
        keep_yearly=settings.backup_keep_yearly,
    )
