"""What the two programs are told: once in a file at their start, and at any time how to misbehave in another."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from shared.engines.files import write_private

__all__ = ["Behaviour", "BehaviourFile", "Configuration", "Stores"]


@dataclass(frozen=True, repr=False)
class Stores:
    """Where the stores are, and the project that LANGFUSE_INIT_* makes. Has secrets.

    Attributes:
        postgres_url: of Langfuse's database, as its owner. redis_url: with password.
        clickhouse_url, clickhouse_user, clickhouse_password, clickhouse_database: the HTTP interface.
        s3_endpoint, s3_region, s3_access_key, s3_secret_key, s3_bucket, s3_prefix: the event bucket.
        salt: SALT. public_key, secret_key: of the project's API key.
        organization, project: their ids; empty where none is to be made. redis_key_prefix: REDIS_KEY_PREFIX.
        admin_key: ADMIN_API_KEY; without one there is no administration API.
    """

    postgres_url: str
    redis_url: str
    clickhouse_url: str
    clickhouse_user: str
    clickhouse_password: str
    clickhouse_database: str
    s3_endpoint: str
    s3_region: str
    s3_access_key: str
    s3_secret_key: str
    s3_bucket: str
    salt: str
    public_key: str
    secret_key: str
    s3_prefix: str = "events/"
    organization: str = "org-sandbox"
    project: str = "prj-sandbox"
    redis_key_prefix: str = "bull"
    admin_key: str = ""


@dataclass(frozen=True, repr=False)
class Configuration:
    """All that a program is told at its start; kept in a file of mode 0600, for secrets must not be arguments.

    Attributes:
        port: to listen on. version: of Langfuse, its major number decides what it does. stores: see there.
        behaviour: path of the file that says how to misbehave.
        ingestion_delay: seconds that a job waits at least (LANGFUSE_INGESTION_QUEUE_DELAY_MS; here 0, not 5 s).
        attempts: a job is tried so often. backoff: seconds before the second try, doubled each time.
        lock: seconds that a job is the worker's; after that it is stalled and taken again.
        flush: seconds between two inserts into ClickHouse.
        drain: seconds between SIGTERM and the end, in which `ready` says 500.
        preview: v4's LANGFUSE_MIGRATION_V4_ALLOW_PREVIEW_OPT_IN, without which there is no v2 API.
        write_mode: v4's LANGFUSE_MIGRATION_V4_WRITE_MODE. propagate: seconds between two runs of its job that copies traces.
    """

    port: int
    version: str
    stores: Stores
    behaviour: str
    ingestion_delay: float = 0.0
    attempts: int = 6
    backoff: float = 5.0
    lock: float = 30.0
    flush: float = 0.2
    drain: float = 0.3
    preview: bool = True
    write_mode: str = "events_only"
    propagate: float = 60.0

    @property
    def major(self) -> int:
        """3 or 4."""
        return int(self.version.split(".", 1)[0])

    def write(self, path: Path) -> None:
        """Put it in a file that only its owner can read."""
        write_private(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        values: dict[str, Any] = json.loads(path.read_text())
        return cls(**{**values, "stores": Stores(**values["stores"])})


@dataclass(frozen=True)
class Behaviour:
    """How a program misbehaves; as it is made, not at all.

    Attributes:
        wedged: the worker takes no job, and says that it is well (langfuse#15509).
        fail_jobs: the worker fails every job it takes.
        refuse_ingestion: web answers 500 to whatever is sent to be stored, as without its bucket.
        lose_jobs: web stores the blob, answers 207 or 200, and queues nothing (langfuse#16112).
        slow: seconds that every answer takes longer.
        status: what every request is answered with, or None.
        says_version: the version that it claims to be, or None. What it does stays.
        stuck_after: seconds without progress after which v4's `failIfQueueConsumptionStuck` says so.
        cursor_stuck: v4's job that copies traces runs, and copies nothing any more (langfuse#17452).
    """

    wedged: bool = False
    fail_jobs: bool = False
    refuse_ingestion: bool = False
    lose_jobs: bool = False
    slow: float = 0.0
    status: int | None = None
    says_version: str | None = None
    stuck_after: float = 3600.0
    cursor_stuck: bool = False


@dataclass
class BehaviourFile:
    """A `Behaviour` in a file, written by one program and read by another at each request.

    Attributes:
        path: of the file. None there means a program that behaves.
    """

    path: Path
    _seen: tuple[int, int] | None = field(default=None, repr=False)
    _last: Behaviour = field(default_factory=Behaviour, repr=False)

    def write(self, behaviour: Behaviour) -> None:
        """Complete or not at all."""
        write_private(self.path, json.dumps(asdict(behaviour)))

    def read(self) -> Behaviour:
        """What is in it now."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return Behaviour()
        if (seen := (status.st_mtime_ns, status.st_ino)) != self._seen:
            self._last, self._seen = Behaviour(**json.loads(self.path.read_text())), seen
        return self._last
