"""What SETUP is told, as variables of its service: nothing but references, so that no secret is anywhere twice."""

from __future__ import annotations

from flows.deploy.plan import SetupOrder
from railway.services.databases import LANGFUSE_DATABASE, LITELLM_DATABASE
from railway.services.objects import BACKUPS, EVENTS
from railway.stack import Stack

__all__ = ["setup_order"]

POSTGRES, MINIO = "postgres", "minio"
_PASSWORDS = ("LITELLM_DB_PASSWORD", "LANGFUSE_DB_PASSWORD", "BACKUP_DB_PASSWORD", "RESTORE_DB_PASSWORD")


def setup_order(stack: Stack, image: str) -> SetupOrder:
    """Word what SETUP has to create for a stack.

    Args:
        stack: whose databases and buckets. image: of the worker, which has the program.
    """
    told = {
        "SETUP_POSTGRES_URL": "${{postgres.DATABASE_URL}}",
        "LITELLM_DATABASE": LITELLM_DATABASE,
        "LANGFUSE_DATABASE": LANGFUSE_DATABASE,
        **{name: f"${{{{postgres.{name}}}}}" for name in _PASSWORDS},
        "DO_NOT_TRACK": "1",
    }
    if MINIO in stack.services:
        buckets = [EVENTS, BACKUPS] if stack.variant == "production" else [EVENTS]
        told |= {
            "SETUP_BUCKETS": ",".join(buckets),
            "MINIO_ENDPOINT": "http://${{minio.RAILWAY_PRIVATE_DOMAIN}}:9000",
            "MINIO_ACCESS_KEY": "${{minio.MINIO_ROOT_USER}}",
            "MINIO_SECRET_KEY": "${{minio.MINIO_ROOT_PASSWORD}}",
        }
    holders = tuple(name for name in (POSTGRES, MINIO) if name in stack.services)
    return SetupOrder(image, tuple(sorted(told.items())), POSTGRES, holders)
