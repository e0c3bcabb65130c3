"""The images of Postgres, ClickHouse and MinIO read what their originals read, and refuse what those refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import httpx
import psycopg
import pytest
from botocore.exceptions import ClientError

from railway.stack import Literal
from railway.variants import build
from shared.engines.process import wait_until
from shared.sandbox.railway_runtime.container import LocalContainer
from shared.sandbox.railway_runtime.containers import ContainerSpec, ContainerState, Mount
from shared.sandbox.railway_runtime.runtime import LocalRuntime
from tests.engines.programs import sockets_since

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HTTP = httpx.Client(trust_env=False, timeout=10.0)
PASSWORD = "canary0of0the0superuser"
DATA = "/var/lib/postgresql/data"
POSTGRES = {"POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": "railway", "PGDATA": f"{DATA}/pgdata"}


@pytest.fixture(scope="module")
def runtime(state_directory: Path) -> Iterator[LocalRuntime]:
    with LocalRuntime(state_directory / "runtime-engines") as one:
        yield one


def text(container: LocalContainer) -> str:
    return "\n".join(line.message for line in container.logs(1000))


def crash_of(container: LocalContainer) -> str:
    """What a container says that does not start."""
    wait_until(lambda: container.state is not ContainerState.RUNNING, timeout=120, what="the container to end")
    assert container.state is ContainerState.CRASHED
    return text(container)


def postgres(volume: Path, major: int = 16, **changes: str) -> ContainerSpec:
    image = f"ghcr.io/railwayapp-templates/postgres-ssl:{major}"
    return ContainerSpec("postgres", image, {**POSTGRES, **changes}, mount=Mount(volume, DATA), port=5432)


def url(runtime: LocalRuntime, password: str = PASSWORD, database: str = "railway") -> str:
    return f"postgresql://postgres:{password}@{runtime.public_address('postgres', 5432)}/{database}"


def ask(runtime: LocalRuntime, statement: str, **access: str) -> object:
    with psycopg.connect(url(runtime, **access), connect_timeout=10) as connection:
        row = connection.execute(statement).fetchone()
        return row[0] if row else None


def wait_for(container: LocalContainer) -> None:
    """Look at the log until Postgres is up, which costs less than connections do."""
    wait_until(lambda: "ready to accept connections" in text(container), timeout=120, what="postgres")


def test_postgres_keeps_its_volume_and_its_first_password_and_refuses_another_majors_data(
    runtime: LocalRuntime, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    first = runtime.start(postgres(volume))
    wait_for(first)
    wait_until(
        lambda: ask(runtime, "SELECT count(*) FROM pg_database", database="postgres") == 4, timeout=20, what="POSTGRES_DB"
    )
    with psycopg.connect(url(runtime)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    first.stop(grace=30)
    assert first.state is ContainerState.EXITED
    assert "database system is shut down" in text(first)
    assert PASSWORD not in text(first)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(url(runtime), connect_timeout=5)

    shutil.copytree(volume, tmp_path / "copy")  # as a backup of the volume is
    upgraded = runtime.start(postgres(volume, major=18))
    assert "database files are incompatible with server" in crash_of(upgraded)

    again = runtime.start(postgres(tmp_path / "copy", POSTGRES_PASSWORD="changed-since"))
    wait_for(again)
    assert ask(runtime, "SELECT answer FROM kept") == 42
    again.stop(grace=30)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (postgres(Path("v"), PGDATA=""), f"expected a folder below {DATA}"),
        (postgres(Path("v"), POSTGRES_PASSWORD=""), "superuser password is not specified"),
        (replace(postgres(Path("v")), mount=Mount(Path("v"), "/data")), f"expected {DATA} but got /data"),
    ],
    ids=["no-pgdata", "no-password", "mounted-elsewhere"],
)
def test_postgres_does_not_start_as_its_image_would_not(
    runtime: LocalRuntime, tmp_path: Path, spec: ContainerSpec, says: str
) -> None:
    assert spec.mount is not None
    spec = replace(spec, mount=replace(spec.mount, directory=tmp_path / "volume"))
    assert says in crash_of(runtime.start(spec))


def clickhouse(volume: Path, **changes: str) -> ContainerSpec:
    """As the stack has it."""
    service = build().services["clickhouse"]
    literals = {name: value.text for name, value in service.variables.items() if isinstance(value, Literal)}
    variables = {**literals, "CLICKHOUSE_PASSWORD": PASSWORD, **changes}
    mount = Mount(volume, "/var/lib/clickhouse")
    return ContainerSpec(service.name, service.image, variables, start_command=service.start_command, mount=mount, port=8123)


def test_clickhouse_has_its_user_its_database_and_its_volume(runtime: LocalRuntime, tmp_path: Path) -> None:
    container = runtime.start(clickhouse(tmp_path / "volume"))
    wait_until(lambda: container.probe("/ping") == 200, timeout=120, what="clickhouse")
    address = f"http://{runtime.public_address('clickhouse', 8123)}/?database=langfuse"

    def run(statement: str, password: str = PASSWORD) -> httpx.Response:
        return HTTP.post(address, content=statement, headers={"X-ClickHouse-User": "stack", "X-ClickHouse-Key": password})

    wait_until(lambda: run("SELECT 1").status_code == 200, timeout=20, what="CLICKHOUSE_DB")
    assert run("SELECT 1", password="wrong").status_code == 403
    run("CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n").raise_for_status()
    run("INSERT INTO kept VALUES (42)").raise_for_status()
    container.stop(grace=30)
    assert container.state is ContainerState.EXITED
    assert PASSWORD not in text(container)
    again = runtime.start(clickhouse(tmp_path / "volume"))
    wait_until(lambda: again.probe("/ping") == 200, timeout=120, what="clickhouse")
    assert run("SELECT n FROM kept").text == "42\n"
    again.stop(grace=30)


def test_clickhouse_does_not_start_with_a_configuration_that_is_no_xml(runtime: LocalRuntime, tmp_path: Path) -> None:
    container = runtime.start(clickhouse(tmp_path / "volume", CLICKHOUSE_CONFIG="<clickhouse>"))
    assert "SAXParseException: no element found" in crash_of(container)


def test_minio_takes_its_root_users_keys_and_is_ready_where_the_stack_asks(runtime: LocalRuntime, tmp_path: Path) -> None:
    service = build().services["minio"]
    health = service.health
    assert health is not None
    mount = Mount(tmp_path / "volume", "/data")
    variables = {"MINIO_ROOT_USER": "stack", "MINIO_ROOT_PASSWORD": PASSWORD}
    spec = ContainerSpec("minio", service.image, variables, start_command=service.start_command, mount=mount, port=9000)
    too_short = runtime.start(replace(spec, variables={**variables, "MINIO_ROOT_PASSWORD": "short"}))
    assert "MINIO_ROOT_PASSWORD 8" in crash_of(too_short)

    container = runtime.start(spec)
    wait_until(lambda: container.probe(health.path) == 200, timeout=120, what="minio")
    endpoint = f"http://{runtime.public_address('minio', 9000)}"
    client = s3(endpoint, PASSWORD)
    client.create_bucket(Bucket="kept")
    # the engine under it proves itself with a bucket of its own, for a moment
    wait_until(lambda: [one["Name"] for one in client.list_buckets()["Buckets"]] == ["kept"], timeout=60, what="its one bucket")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3(endpoint, "wrong" * 4).list_buckets()
    container.stop(grace=30)
    assert container.state is ContainerState.EXITED


def test_what_an_engine_left_outside_its_volume_is_removed_with_the_runtime(state_directory: Path, tmp_path: Path) -> None:
    service, volume = build().services["minio"], tmp_path / "volume"
    assert service.health is not None
    path, variables = service.health.path, {"MINIO_ROOT_USER": "stack", "MINIO_ROOT_PASSWORD": PASSWORD}
    with LocalRuntime(state_directory / "runtime-litter") as runtime:
        mount = Mount(volume, "/data")
        spec = ContainerSpec("minio", service.image, variables, service.start_command, mount=mount, port=9000)
        container = runtime.start(spec)
        wait_until(lambda: container.probe(path) == 200, timeout=120, what="minio")
        ports = json.loads((volume / "ports.json").read_text()).values()
        sockets = sockets_since(volume / "ports.json", ports)
        assert sockets
    assert not any(one.exists() for one in sockets)


def s3(endpoint: str, secret_key: str) -> S3Client:
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="stack", aws_secret_access_key=secret_key
    )
