"""The escape hatch: a script and a document that a stranger can rely on, whatever the databases are called."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore, s3_bucket
from blocks.postgres import PostgresServer
from flows.backup import escape
from flows.backup.manifest import ClickHouseTable, Manifest
from flows.backup.postgres import dump_database, dump_globals
from flows.backup.sets import new_set
from flows.backup.stream import store_encrypted
from flows.compare.postgres_properties import database_properties
from flows.lease import acquire
from shared.engines.postgres import PostgresEngine
from tests.manifests import PROPERTIES, clickhouse, manifest, postgres, roles, stack_of, stored

CANARY = "canary-5f1d"
ODD_NAMES = [
    "plain",
    "with space",
    "O'Brien",
    'quoted "name"',
    "$HOME and $(id) and `id`",
    "tab\tand\nnewline",
    "back\\slash",
    "a=b",
    "postgresql://host/x",
    "esac",
    "-d",
    "*",
    "@OBJECTS@ & @SET_ID@",
    "漢字 😀",
]
TRICKY = PROPERTIES.model_copy(
    update={
        "comment": "line\nSQL\nSQL_\n; echo 'injected' >&2 $(touch injected) `touch injected`\nEOF :\"target\" 'quoted' \\",
        "settings": ['search_path="$user", public', "app.note=it's $HOME"],
    }
)


@pytest.fixture
def shop() -> BackupStore:
    """A store that is never spoken to."""
    bucket = s3_bucket("http://store.example:9000", "the-access-key", SecretStr(CANARY), "my-bucket", "eu-central-1")
    return BackupStore(bucket=bucket, stack="shop", region="eu-central-1")


def odd_manifest() -> Manifest:
    """Every odd name as both kinds of database."""
    databases = [
        postgres(name, object=stored(f"postgres/{n}.dump.zst.age"), properties=TRICKY) for n, name in enumerate(ODD_NAMES)
    ]
    others = [clickhouse(name, path=f"clickhouse/{n}/") for n, name in enumerate(ODD_NAMES)]
    return manifest(components=[*others, *databases, roles()], stack="shop")


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a folder as a person does."""
    return subprocess.run(
        ["bash", "restore.sh", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def written(folder: Path, made: Manifest, store: BackupStore) -> Path:
    """Write both files into a folder, as a copy of the set's own."""
    for name, text in escape.files(made, store).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


# --- the script ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [odd_manifest(), manifest(components=[]), manifest(components=[clickhouse()]), manifest()],
    ids=["odd names", "empty", "ClickHouse only", "Postgres only"],
)
def test_the_script_is_valid_bash(tmp_path: Path, shop: BackupStore, made: Manifest) -> None:
    script = written(tmp_path, made, shop) / "restore.sh"
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "@@" not in script.read_text()


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed: apt-get install shellcheck")
def test_shellcheck_has_nothing_to_say(tmp_path: Path, shop: BackupStore) -> None:
    script = written(tmp_path, odd_manifest(), shop) / "restore.sh"
    checked = subprocess.run(["shellcheck", "--severity=warning", str(script)], capture_output=True, text=True, check=False)
    assert checked.stdout == ""


def test_the_script_lists_every_database_by_its_name(tmp_path: Path, shop: BackupStore) -> None:
    listed = run(written(tmp_path, odd_manifest(), shop), "list")
    assert listed.stderr == ""
    lines = [f"{kind} {name}" for kind in ("postgres", "clickhouse") for name in ODD_NAMES]
    assert listed.stdout == "\n".join(["set 20261123T030000Z-abcdef", *lines, ""])


def test_nothing_in_a_name_or_a_comment_is_ever_run(tmp_path: Path, shop: BackupStore) -> None:
    """Whoever owns a database can comment on it; whoever restores is a superuser."""
    folder = written(tmp_path, odd_manifest(), shop)
    for name in ODD_NAMES:
        printed = subprocess.run(
            ["bash", "-c", 'source ./restore.sh list >/dev/null; properties "$1"', "bash", name],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "\nSQL\nSQL_\n; echo ''injected'' >&2 $(touch injected) `touch injected`\n" in printed.stdout
        assert "injected" not in printed.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["RESTORE.md", "restore.sh"]


def test_verify_compares_every_object_and_names_the_damaged_one(tmp_path: Path, shop: BackupStore) -> None:
    made = manifest(components=[postgres(object=stored("postgres/a b.dump.zst.age", b"dump")), roles()])
    folder = written(tmp_path, made, shop)
    (folder / "postgres").mkdir()
    (folder / "postgres" / "a b.dump.zst.age").write_bytes(b"dump")
    (folder / "postgres" / "globals.sql.zst.age").write_bytes(b"data")
    verified = run(folder, "verify")
    assert (verified.returncode, verified.stdout) == (0, "ok postgres/a b.dump.zst.age\nok postgres/globals.sql.zst.age\n")
    (folder / "postgres" / "a b.dump.zst.age").write_bytes(b"dumP")
    verified = run(folder, "verify")
    assert verified.returncode == 1
    assert "restore.sh: postgres/a b.dump.zst.age is damaged: SHA-256" in verified.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ((), 2, "restore.sh verify"),
        (("postgres", "litellm"), 2, "restore.sh verify"),
        (("nonsense",), 2, "restore.sh verify"),
        (("postgres", "nothing", "target"), 1, "no postgres database nothing in this set; see: restore.sh list"),
        (("clickhouse", "litellm", "target"), 1, "no clickhouse database litellm in this set"),
        (("globals",), 1, "AGE_KEY must name the file with the age secret key"),
    ],
)
@pytest.mark.skipif(not (shutil.which("age") and shutil.which("zstd")), reason="age or zstd is not installed: apt-get install")
def test_what_is_asked_wrong_is_answered(
    tmp_path: Path, shop: BackupStore, arguments: tuple[str, ...], status: int, says: str
) -> None:
    answered = run(written(tmp_path, manifest(), shop), *arguments)
    assert answered.returncode == status
    assert says in answered.stdout + answered.stderr


@pytest.mark.skipif(not (shutil.which("age") and shutil.which("zstd")), reason="age or zstd is not installed: apt-get install")
def test_the_roles_are_printed(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> None:
    item = store_encrypted(store, store.root, "postgres/globals.sql.zst.age", io.BytesIO(b"CREATE ROLE litellm;\n"), keys)
    folder = written(tmp_path, manifest(components=[roles().model_copy(update={"object": item})]), store)
    (folder / "postgres").mkdir()
    (folder / item.key).write_bytes(store.get(store.root + item.key))
    printed = run(folder, "globals", AGE_KEY=key_file(tmp_path, keys))
    assert printed.stdout == "CREATE ROLE litellm;\n"


def key_file(folder: Path, keys: BackupKeys) -> str:
    """Write the age secret key into a file, as a person keeps it."""
    assert keys.identity is not None
    path = folder / "age-key.txt"
    path.write_text(keys.identity.get_secret_value() + "\n")
    return str(path)


# --- the document --------------------------------------------------------------------------------------------------------


def test_the_document_has_the_commands_for_this_set(tmp_path: Path, shop: BackupStore) -> None:
    base = "20261122T030000Z-basebb"
    sets = "http://store.example:9000/my-bucket/backups/shop/sets"
    table = ClickHouseTable(
        name="scores", engine="MergeTree", ddl="", has_data=True, pending_mutations=["DELETE WHERE project_id = 'x'"]
    )
    made = manifest(
        components=[clickhouse(base=base, tables=[table]), postgres(server_major=18), roles()],
        not_taken=["postgres litellm: passwords of roles"],
        recipients=["age1one", "age1two"],
    )
    text = escape.files(made, shop)["RESTORE.md"]
    for expected in (
        "# How to restore backup set 20261123T030000Z-abcdef\n",
        "- `age1one`\n- `age1two`\n",
        "PostgreSQL clients (major 18 or newer)",
        "AWS_DEFAULT_REGION=eu-central-1\n",
        "    aws --endpoint-url http://store.example:9000 s3 cp --recursive "
        "s3://my-bucket/backups/shop/sets/20261123T030000Z-abcdef/ set && cd set\n",
        "    bash restore.sh postgres litellm litellm_restored\n",
        "    bash restore.sh clickhouse langfuse langfuse_restored\n",
        "s3://my-bucket/backups/shop/sets/20261123T030000Z-abcdef/postgres/litellm.dump.zst.age - \\\n"
        '      | age -d -i "$AGE_KEY" | zstd -d | pg_restore --exit-on-error -d litellm_restored\n',
        "    RESTORE DATABASE `langfuse` AS `langfuse_restored` FROM "
        f"S3('{sets}/20261123T030000Z-abcdef/clickhouse/langfuse/', '...', '...') "
        f"SETTINGS base_backup = S3('{sets}/{base}/clickhouse/langfuse/', '...', '...');\n",
        "    ALTER TABLE `langfuse_restored`.`scores` DELETE WHERE project_id = 'x';\n",
        f"- The ClickHouse database langfuse is a difference to set {base}: keep that set too.\n",
        "- Not in this set: postgres litellm: passwords of roles.\n",
        "- Not in this set: Redis (it starts empty).\n",
    ):
        assert expected in text
    assert "@" not in text.replace("@-", "")


def test_on_aws_the_commands_need_no_endpoint() -> None:
    store = BackupStore(bucket=s3_bucket(None, "a", SecretStr(CANARY), "my-bucket", "eu-central-1"), stack="shop")
    text = escape.files(manifest(), store)["RESTORE.md"]
    assert "    aws s3 cp --recursive s3://my-bucket/" in text
    assert "endpoint-url" not in text


def test_no_secret_is_in_either_file(shop: BackupStore) -> None:
    assert CANARY not in "".join(escape.files(odd_manifest(), shop).values())


# --- the real thing ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (shutil.which("age") and shutil.which("zstd")), reason="age or zstd is not installed: apt-get install")
def test_a_database_with_an_odd_name_is_restored_with_everything_it_had(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, postgres_engine: PostgresEngine
) -> None:
    tail = secrets.token_hex(3)
    source, target, owner = f"Odd 'n\"a`m$e\t=\\ {tail}", f"Re\"st'o$red\\ = {tail}", f"Own\"er's {tail}"
    with psycopg.connect(postgres_engine.url(), autocommit=True) as connection:
        for statement in (
            "CREATE ROLE {owner}",
            "CREATE DATABASE {source} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'",
            "ALTER DATABASE {source} CONNECTION LIMIT 17",
            "ALTER DATABASE {source} SET work_mem = '7MB'",
            "ALTER ROLE {owner} IN DATABASE {source} SET search_path = 'odd schema', public",
            "REVOKE CONNECT ON DATABASE {source} FROM PUBLIC",
            "COMMENT ON DATABASE {source} IS {comment}",
        ):
            names = {"source": sql.Identifier(source), "owner": sql.Identifier(owner), "comment": sql.Literal(TRICKY.comment)}
            connection.execute(sql.SQL(statement).format(**names))
    server = PostgresServer(url=SecretStr(postgres_engine.url()), bin_dirs=[str(postgres_engine.bin_dir)])
    with server.connect(source) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'it is all here' AS c")
    stack = stack_of(store, keys)
    lease = acquire(store, flow="backup", holder="test", seconds=60, wait=0)
    with new_set(stack, lease, label="", protect=False) as backup_set:
        backup_set.add(dump_database(server, source, store, backup_set.prefix, keys))
        backup_set.add(dump_globals(server, store, backup_set.prefix, keys))
        backup_set.commit()
    lease.release()
    for item in store.list(backup_set.prefix):
        path = tmp_path / item.key.removeprefix(backup_set.prefix)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(store.get(item.key))

    restored = run(
        tmp_path,
        "postgres",
        source,
        target,
        PATH=f"{postgres_engine.bin_dir}:{os.environ['PATH']}",
        AGE_KEY=key_file(tmp_path, keys),
        PGHOST=postgres_engine.host,
        PGPORT=str(postgres_engine.port),
        PGUSER="postgres",
        PGPASSWORD=postgres_engine.password,
    )

    assert restored.returncode == 0, restored.stderr
    assert restored.stdout == f"restored {source} into {target}\n"
    with server.connect(target) as connection, server.connect(source) as original:
        assert connection.execute("SELECT c FROM t").fetchall() == [("it is all here",)]
        assert database_properties(connection, target) == database_properties(original, source)
