"""Dump -> zstd -> age -> store and back, with everything that can break in between."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, cast

import psutil
import pyrage
import pytest
from prefect_aws import MinIOCredentials
from pydantic import SecretStr

from blocks.errors import BackupFailed, IntegrityError, ObjectMissing, SettingsError, StoreError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from flows.backup.manifest import StoredObject
from flows.backup.pipes import CHUNK, Pipe, ProcessOutput, pumped
from flows.backup.stream import open_encrypted, store_encrypted, verify_stored
from shared.engines.object_store import S3Engine
from shared.engines.process import wait_until
from tests.stores import ONE_TRY, seen_through

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]
KEY = "postgres/litellm.dump.zst.age"
CANARY = "canary-5f1d"
DUMP = b"".join(b"%d\tLiteLLM_SpendLogs\t%s\n" % (n, hashlib.sha256(b"%d" % n).hexdigest().encode()) for n in range(60_000))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Every test here, whatever it breaks, leaves no thread and no process."""
    threads = set(threading.enumerate())
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    wait_until(lambda: set(threading.enumerate()) <= threads, timeout=10, what="threads of the stream to end")
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in children]
    assert [child for child in left if child.ppid() == os.getpid() and not _is_engine(child)] == []


def _is_engine(process: psutil.Process) -> bool:
    return "supervisor.py" in " ".join(process.cmdline())


def _stored(
    store: BackupStore, keys: BackupKeys, data: bytes = DUMP, key: str = "postgres/litellm.dump.zst.age"
) -> StoredObject:
    return store_encrypted(store, store.root, key, io.BytesIO(data), keys)


def _read(store: BackupStore, item: StoredObject, keys: BackupKeys) -> bytes:
    with open_encrypted(store, store.root, item, keys) as plain:
        return plain.read()


def _program(*argv: str) -> ProcessOutput:
    return ProcessOutput("pg_dump litellm", argv, dict(os.environ))


# --- there and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", DUMP, secrets.token_bytes(18 * MIB)], ids=len)
def test_a_stream_comes_back_as_it_was(store: BackupStore, keys: BackupKeys, data: bytes) -> None:
    item = _stored(store, keys, data)
    assert (item.plain_bytes, item.plain_sha256) == (len(data), hashlib.sha256(data).hexdigest())
    stored = store.find(store.root + item.key)
    assert stored is not None
    assert stored.bytes == item.bytes
    verify_stored(store, store.root, item)
    assert _read(store, item, keys) == data


def test_a_program_s_output_comes_back_as_it_was(store: BackupStore, keys: BackupKeys, tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(DUMP)
    with closing(_program("cat", str(tmp_path / "dump"))) as output:
        item = store_encrypted(store, store.root, "a", cast(IO[bytes], output), keys)
    assert _read(store, item, keys) == DUMP


@pytest.mark.skipif(
    not (shutil.which("age") and shutil.which("zstd")), reason="age and zstd are not installed (apt-get install)"
)
def test_what_is_stored_opens_with_age_and_zstd_alone(store: BackupStore, keys: BackupKeys, tmp_path: Path) -> None:
    item = _stored(store, keys)
    assert keys.identity is not None
    (tmp_path / "key").write_text(keys.identity.get_secret_value())
    command = f"age -d -i {tmp_path / 'key'} | zstd -d"
    opened = subprocess.run(["bash", "-c", command], input=store.get(store.root + item.key), capture_output=True, check=True)
    assert opened.stdout == DUMP


# --- a source that breaks ------------------------------------------------------------------------------------------------


class KilledAfter(io.RawIOBase):
    """A program's output; the program is killed when so many bytes have been read."""

    def __init__(self, output: ProcessOutput, count: int) -> None:
        super().__init__()
        self._output, self._left = output, count

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        if self._left <= 0:
            os.kill(self._output.pid, signal.SIGKILL)
        data = self._output.read(CHUNK if size is None or size < 0 else size) or b""
        self._left -= len(data)
        return data


@pytest.mark.parametrize("count", [0, 64 * 1024, 30 * MIB], ids=["at once", "before the first part", "between parts"])
def test_a_dump_that_is_killed_leaves_no_object_and_no_upload(store: BackupStore, keys: BackupKeys, count: int) -> None:
    with closing(_program("cat", "/dev/urandom")) as output, pytest.raises(BackupFailed) as raised:
        store_encrypted(store, store.root, "a", cast(IO[bytes], KilledAfter(output, count)), keys)
    assert "pg_dump litellm was killed by signal 9" in str(raised.value)
    assert not raised.value.permanent, "the next try may succeed"
    assert list(store.list(store.root)) == []
    assert list(store.uploads(store.root)) == []


def test_a_dump_that_fails_at_its_very_end_says_why(store: BackupStore, keys: BackupKeys) -> None:
    script = "head -c 20000000 /dev/urandom; echo 'pg_dump: error: connection lost' >&2; echo 'detail' >&2; exit 3"
    with closing(_program("sh", "-c", script)) as output, pytest.raises(BackupFailed) as raised:
        store_encrypted(store, store.root, "a", cast(IO[bytes], output), keys)
    message = "pg_dump litellm failed with exit status 3: pg_dump: error: connection lost | detail"
    assert str(raised.value) == message
    assert list(store.list(store.root)) == []
    assert list(store.uploads(store.root)) == []


def test_a_dump_that_says_a_lot_does_not_get_stuck(store: BackupStore, keys: BackupKeys) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo warning $i >&2; i=$((i+1)); done; echo done"
    with closing(_program("sh", "-c", script)) as output:
        item = store_encrypted(store, store.root, "a", cast(IO[bytes], output), keys)
    assert _read(store, item, keys) == b"done\n"


def test_a_failure_is_told_again_to_who_asks_again() -> None:
    with closing(_program("sh", "-c", "exit 1")) as output:
        for _ in range(2):
            with pytest.raises(BackupFailed):
                output.read(1)


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(SettingsError, match="cannot start /no/pg_dump: No such file"):
        _program("/no/pg_dump")


def test_the_environment_of_a_program_is_never_shown() -> None:
    output = ProcessOutput("pg_dump", ["sh", "-c", "exit 1"], {"PGPASSWORD": CANARY, "PATH": os.environ["PATH"]})
    with closing(output), pytest.raises(BackupFailed) as raised:
        output.read(1)
    assert CANARY not in str(raised.value) + repr(output)


def test_closing_ends_a_program_that_still_runs() -> None:
    output = _program("sleep", "1000")
    process = psutil.Process(output.pid)
    output.close()
    output.close()
    assert not process.is_running()


# --- a store that breaks -------------------------------------------------------------------------------------------------


def test_a_store_that_dies_ends_the_dump(store: BackupStore, keys: BackupKeys, s3_engine: S3Engine) -> None:
    class Deadly(KilledAfter):
        def read(self, size: int | None = -1, /) -> bytes:
            if self._left <= 0 and s3_engine.running:
                s3_engine.kill()
            data = self._output.read(CHUNK) or b""
            self._left -= len(data)
            return data

    output = _program("cat", "/dev/urandom")
    program = psutil.Process(output.pid)
    try:
        source = cast(IO[bytes], Deadly(output, 30 * MIB))
        with closing(output), pytest.raises(StoreError) as raised:
            store_encrypted(seen_through(store, config=ONE_TRY), store.root, "a", source, keys)
    finally:
        s3_engine.start()
    assert not raised.value.permanent
    assert not program.is_running()
    assert store.find(store.root + "a") is None


def test_a_store_that_refuses_ends_the_dump(store: BackupStore, keys: BackupKeys) -> None:
    bucket = store.bucket.model_copy(update={"bucket_name": "no-such-bucket"})
    with closing(_program("cat", "/dev/urandom")) as output, pytest.raises(StoreError, match="the bucket does not exist"):
        store_encrypted(BackupStore(bucket=bucket, stack="x"), "x/", "a", cast(IO[bytes], output), keys)


# --- objects that are not what they were ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data + b"\0",
    ],
    ids=["a byte short", "cut in half", "empty", "one flipped bit", "the last bit flipped", "a byte more"],
)
def test_a_changed_object_is_noticed(store: BackupStore, keys: BackupKeys, change: object) -> None:
    item = _stored(store, keys)
    store.put(store.root + item.key, change(store.get(store.root + item.key)))  # type: ignore[operator]  # a lambda above
    with pytest.raises(IntegrityError, match=r"postgres/litellm\.dump\.zst\.age: the stored object is not the one"):
        verify_stored(store, store.root, item)
    with pytest.raises(IntegrityError):
        _read(store, item, keys)


@pytest.mark.parametrize("other", [b"", DUMP[:-1], DUMP[::-1], DUMP + b"\n"], ids=["empty", "shorter", "other", "longer"])
def test_an_object_exchanged_for_another_good_one_is_noticed(store: BackupStore, keys: BackupKeys, other: bytes) -> None:
    """It decrypts, it decompresses, and it is not what was backed up."""
    item, wrong = _stored(store, keys), _stored(store, keys, other, key="other")
    store.put(store.root + item.key, store.get(store.root + wrong.key))
    with pytest.raises(IntegrityError):
        verify_stored(store, store.root, item)
    with pytest.raises(IntegrityError, match="decrypts to something else than was backed up"):
        _read(store, item, keys)


def test_an_object_that_was_encrypted_but_never_compressed_is_noticed(store: BackupStore, keys: BackupKeys) -> None:
    item = _stored(store, keys)
    store.put(store.root + item.key, keys.encrypt_bytes(DUMP))
    with pytest.raises(IntegrityError, match="decrypts to something else than was backed up"):
        _read(store, item, keys)


def test_a_missing_object_is_noticed(store: BackupStore, keys: BackupKeys) -> None:
    item = _stored(store, keys)
    store.remove([store.root + item.key])
    with pytest.raises(ObjectMissing):
        verify_stored(store, store.root, item)
    with pytest.raises(ObjectMissing):
        _read(store, item, keys)


def test_a_wrong_identity_is_a_clear_refusal(store: BackupStore, keys: BackupKeys) -> None:
    item = _stored(store, keys)
    stranger = keys.model_copy(update={"identity": SecretStr(str(pyrage.x25519.Identity.generate()))})
    with pytest.raises(IntegrityError, match="encrypted to other keys"):
        _read(store, item, stranger)
    with pytest.raises(SettingsError, match="set BACKUP_AGE_IDENTITY"):
        _read(store, item, keys.model_copy(update={"identity": None}))


def test_who_stops_reading_half_way_leaves_nothing_behind(store: BackupStore, keys: BackupKeys) -> None:
    item = _stored(store, keys, secrets.token_bytes(18 * MIB))
    with open_encrypted(store, store.root, item, keys) as plain:
        assert len(plain.read(MIB)) > 0


def test_a_store_that_dies_while_reading_is_not_called_damage(
    store: BackupStore, keys: BackupKeys, s3_engine: S3Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.object_reader.ObjectReader.TRIES", 1)
    item = _stored(store, keys, secrets.token_bytes(30 * MIB))
    impatient = seen_through(store, config=ONE_TRY)
    try:
        with open_encrypted(impatient, store.root, item, keys) as plain:
            plain.read(1)
            s3_engine.kill()
            with pytest.raises(StoreError) as raised:
                plain.read()
    finally:
        s3_engine.start()
    assert not raised.value.permanent


# --- the pipe between two threads ----------------------------------------------------------------------------------------


def test_an_error_of_the_writer_is_raised_at_every_read() -> None:
    """A second read must not look like a good end of the stream."""

    def work(target: IO[bytes]) -> None:
        target.write(b"some")
        raise BackupFailed("broke")

    with pumped(work, "test") as reader:
        assert reader.read(4) == b"some"
        for _ in range(2):
            with pytest.raises(BackupFailed):
                reader.read(1)


def test_a_broken_pipe_of_the_writer_s_own_reaches_the_reader() -> None:
    """It once looked like the reader's own going away, and the reader waited for ever."""

    def work(target: IO[bytes]) -> None:
        raise BrokenPipeError("the database has gone")

    with pumped(work, "test") as reader, pytest.raises(BrokenPipeError, match="the database has gone"):
        reader.read(1)


def test_an_empty_write_is_no_end() -> None:
    def work(target: IO[bytes]) -> None:
        for piece in (b"a", b"", b"b"):
            target.write(piece)

    with pumped(work, "test") as reader:
        assert reader.read() == b"ab"


def test_a_writer_waits_while_the_pipe_is_full_and_is_told_when_nobody_reads() -> None:
    pipe = Pipe(chunks=2)
    told = threading.Event()

    def write() -> None:
        try:
            for _ in range(10):
                pipe.write(b"x")
        except BrokenPipeError:
            told.set()

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(pipe._queue.full, timeout=5, what="the pipe to fill up")
    assert not told.is_set()
    pipe.abandon()
    writer.join(timeout=5)
    assert told.is_set()


# --- memory --------------------------------------------------------------------------------------------------------------

MEASURED = """
import json, os, sys
from pydantic import SecretStr
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore, s3_bucket
from flows.backup.stream import ProcessOutput, open_encrypted, store_encrypted

given = json.loads(sys.stdin.read())
bucket = s3_bucket(given["url"], given["access"], SecretStr(given["secret"]), given["bucket"], "us-east-1")
store = BackupStore(bucket=bucket, stack=given["stack"])
keys = BackupKeys(recipients=[given["recipient"]], identity=SecretStr(given["identity"]), signing_key=SecretStr("00" * 32))
store.put(store.root + "small", b"")  # the client is loaded

def memory(field):  # not ru_maxrss: that begins with what the parent had when it started us
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))

before = memory("VmRSS:")
program = "import os, sys; [sys.stdout.buffer.write(os.urandom(1_000_000)) for _ in range(int(sys.argv[1]))]"
output = ProcessOutput("dump", [sys.executable, "-c", program, str(given["megabytes"])], dict(os.environ))
item = store_encrypted(store, store.root, "big", output, keys)
output.close()
storing = memory("VmHWM:") - before
with open_encrypted(store, store.root, item, keys) as plain:
    count = 0
    while piece := plain.read(1 << 20):
        count += len(piece)
print(json.dumps({"storing": storing, "both": memory("VmHWM:") - before, "bytes": count}))
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_dump(store: BackupStore, keys: BackupKeys) -> None:
    """200 MB that cannot be compressed, there and back in a process of its own; the bench measures 1 and 4 GB."""
    credentials = store.bucket.credentials
    assert isinstance(credentials, MinIOCredentials)
    assert keys.identity is not None
    given = {
        "url": store.endpoint,
        "access": store.access_key,
        "secret": store.secret_key.get_secret_value(),
        "bucket": store.bucket.bucket_name,
        "stack": store.stack,
        "recipient": keys.recipients[0],
        "identity": keys.identity.get_secret_value(),
        "megabytes": 200,
    }
    run = subprocess.run(
        [sys.executable, "-c", MEASURED], input=json.dumps(given).encode(), capture_output=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr.decode()
    measured = json.loads(run.stdout)
    assert measured["bytes"] == 200_000_000
    assert measured["storing"] < 150_000_000
    assert measured["both"] < 150_000_000
