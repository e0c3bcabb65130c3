"""`python -m blocks`: register the block types and save this stack's documents from environment variables.

Safe to run at every start: documents are overwritten with what the environment says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial

from prefect.blocks.core import Block
from prefect.exceptions import ObjectAlreadyExists
from rich.console import Console

from blocks.clickhouse import ClickHouseServer
from blocks.errors import SettingsError, StackError
from blocks.keys import BackupKeys
from blocks.langfuse import LangfuseWeb, LangfuseWorker
from blocks.litellm import LiteLLMGateway
from blocks.object_store import BackupStore, s3_bucket
from blocks.postgres import PostgresServer
from blocks.railway import RailwayEnvironment, from_settings
from blocks.redis import RedisServer
from blocks.settings import Settings
from blocks.source_bucket import SourceBucket, source_name

TYPES: tuple[type[Block], ...] = (
    BackupStore,
    BackupKeys,
    SourceBucket,
    PostgresServer,
    ClickHouseServer,
    RedisServer,
    LiteLLMGateway,
    LangfuseWeb,
    LangfuseWorker,
    RailwayEnvironment,
)


def documents(settings: Settings) -> Iterator[tuple[str, Block]]:
    """Yield name and block for every system that the settings describe.

    Raises:
        SettingsError: something that every flow needs is not set.
    """
    name = settings.stack_name
    bucket = s3_bucket(
        settings.minio_endpoint or None,
        settings.require("minio_access_key"),
        settings.minio_secret_key,
        settings.require("backup_bucket"),
        settings.backup_region,
        settings.backup_url_style,
    )
    store = BackupStore(bucket=bucket, prefix=settings.backup_prefix, stack=name, region=settings.backup_region)
    yield name, store
    yield name, keys(settings)
    yield from ((source_name(name, source.name), source) for source in sources(settings, store))
    if settings.copy_bucket:
        yield f"{name}-copy", copy_store(settings)
    for role, url in (("backup", settings.postgres_backup_url), ("restore", settings.postgres_restore_url)):
        if url is not None:
            databases, bin_dirs = settings.postgres_databases, settings.postgres_bin_dirs
            yield f"{name}-{role}", PostgresServer(url=url, databases=databases, bin_dirs=bin_dirs)
    if settings.clickhouse_host:
        yield (
            name,
            ClickHouseServer(
                host=settings.clickhouse_host,
                port=settings.clickhouse_port,
                user=settings.clickhouse_user,
                password=settings.clickhouse_password,
                secure=settings.clickhouse_secure,
                databases=settings.clickhouse_db,
                store_endpoint=settings.clickhouse_store_endpoint,
            ),
        )
    if settings.redis_url is not None:
        yield name, RedisServer(url=settings.redis_url)
    if settings.litellm_url:
        yield name, LiteLLMGateway(url=settings.litellm_url, master_key=settings.litellm_master_key)
    if settings.langfuse_web_url:
        public_key, secret_key = settings.langfuse_public_key, settings.langfuse_secret_key
        yield name, LangfuseWeb(url=settings.langfuse_web_url, public_key=public_key, secret_key=secret_key)
    if settings.langfuse_worker_url:
        yield name, LangfuseWorker(url=settings.langfuse_worker_url)
    if (environment := from_settings(settings)) is not None:
        yield name, environment


def sources(settings: Settings, store: BackupStore) -> Iterator[SourceBucket]:
    """Make the block of each bucket that is backed up.

    Args:
        store: whose server and credentials are theirs too, unless the settings say otherwise.
    """
    for bucket in settings.source_buckets:
        made = s3_bucket(
            settings.source_endpoint or settings.minio_endpoint or None,
            settings.source_access_key or settings.minio_access_key,
            settings.source_secret_key if settings.source_access_key else settings.minio_secret_key,
            bucket,
            settings.backup_region,
            settings.source_url_style or settings.backup_url_style,
        )
        same = bucket == store.name and made.credentials.aws_client_parameters.endpoint_url == store.endpoint
        yield SourceBucket(bucket=made, region=settings.backup_region, except_below=store.root if same else "")


def copy_store(settings: Settings) -> BackupStore:
    """Make the block of the second store, which the copies go to.

    Raises:
        SettingsError: its keys are not set, or it is the store itself: a copy there would die with it.
    """
    access_key = settings.require("copy_access_key")
    first = (settings.minio_endpoint, settings.backup_bucket)
    if first == (settings.copy_endpoint, settings.copy_bucket):
        raise SettingsError(
            f"setting COPY_BUCKET: {settings.copy_bucket} is the bucket of the backups themselves, so its loss would take the "
            "copies too; name a bucket of another provider or account"
        )
    bucket = s3_bucket(
        settings.copy_endpoint or None,
        access_key,
        settings.copy_secret_key,
        settings.copy_bucket,
        settings.copy_region,
        settings.copy_url_style,
    )
    return BackupStore(
        bucket=bucket,
        prefix=settings.copy_prefix,
        stack=settings.stack_name,
        region=settings.copy_region,
        lock_mode=settings.copy_lock_mode,
        lock_days=settings.copy_lock_days,
    )


def keys(settings: Settings) -> BackupKeys:
    """Make the keys block; `BACKUP_AGE_RECIPIENTS` and one of the signature keys are needed."""
    settings.require("backup_age_recipients")
    application = {"LITELLM_SALT_KEY": settings.litellm_salt_key, "ENCRYPTION_KEY": settings.encryption_key}
    return BackupKeys(
        recipients=settings.backup_age_recipients,
        identity=settings.backup_age_identity,
        signing_key=settings.backup_signing_key,
        verify_key=settings.backup_verify_key,
        application_keys={variable: secret for variable, secret in application.items() if secret is not None},
    )


def main(arguments: list[str] | None = None) -> int:
    """Register, save, and with `--check` ask every system whether it is well.

    Returns: exit status: 0, or 1 with one line for each thing that is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m blocks", description=__doc__)
    parser.add_argument("--check", action="store_true", help="also connect to every system and say what is wrong")
    parser.add_argument("--dry-run", action="store_true", help="only read the environment; save nothing")
    options = parser.parse_args(arguments)
    out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True, style="red")
    failed = False
    try:
        found = list(documents(Settings.load()))
    except SettingsError as error:
        err.print(str(error), markup=False, highlight=False)
        return 1
    if not options.dry_run:
        for kind in TYPES:
            _register(kind.register_type_and_schema)
    for name, block in found:
        slug = f"{block.get_block_type_slug()}/{name}"
        if not options.dry_run:
            _register(block.save, name, overwrite=True)
        state = "read" if options.dry_run else "saved"
        if options.check:
            try:
                block.check()  # type: ignore[attr-defined]  # each of TYPES has it; a test says so
            except StackError as error:
                failed = True
                err.print(f"{slug}: {error}", markup=False, highlight=False)
                continue
            state += ", answers"
        out.print(f"{slug}: {state}", markup=False, highlight=False)
    return 1 if failed else 0


def _register(method: Callable[..., object], *arguments: object, **options: object) -> None:
    """Call one of Prefect's methods that look and then make; again where another container was faster in between."""
    call = partial(method, *arguments, **options, _sync=True)  # Prefect adds _sync, which the signatures do not show
    try:
        call()
    except ObjectAlreadyExists:
        call()


if __name__ == "__main__":
    sys.exit(main())
