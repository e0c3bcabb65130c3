"""The store against a real S3 server, with connections that break and answers that get lost."""

from __future__ import annotations

import hashlib
import io
import secrets
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ParamValidationError
from prefect_aws import AwsCredentials, S3Bucket
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from blocks.errors import ConditionFailed, ObjectMissing, SettingsError, StoreError
from blocks.object_bucket import MAX_PARTS, make_client
from blocks.object_store import BackupStore, s3_bucket
from blocks.s3_errors import translate
from blocks.upload import MIB
from shared.engines.object_store import Identity, S3Engine
from shared.faults.proxy import S3Proxy
from shared.faults.traffic import Match, Rule, Traffic
from tests.proxy import Proxy
from tests.stores import ONE_TRY, seen_through

CANARY = "canary-5f1d"
BIG = secrets.token_bytes(21 * MIB)


@pytest.fixture
def proxy(s3_engine: S3Engine) -> Iterator[Proxy]:
    with Proxy(s3_engine.port) as between:
        yield between


# --- small objects -------------------------------------------------------------------------------------------------------


def test_what_is_put_is_there(store: BackupStore) -> None:
    etag = store.put(store.root + "a", b"one")
    assert store.get(store.root + "a") == b"one"
    assert store.get_with_etag(store.root + "a") == (b"one", etag)
    found = store.find(store.root + "a")
    assert found is not None
    assert (found.bytes, found.etag) == (3, etag)


def test_what_is_not_there_is_missing(store: BackupStore) -> None:
    assert store.find(store.root + "a") is None
    with pytest.raises(ObjectMissing, match="not there"):
        store.get(store.root + "a")
    with pytest.raises(ObjectMissing, match="not there"):
        store.open(store.root + "a")


def test_only_one_of_many_creates_an_object(store: BackupStore) -> None:
    def create(number: int) -> int | None:
        try:
            store.put(store.root + "one", b"%d" % number, if_absent=True)
        except ConditionFailed:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        created = [number for number in pool.map(create, range(16)) if number is not None]
    assert [b"%d" % number for number in created] == [store.get(store.root + "one")]


def test_only_one_of_many_replaces_what_all_have_read(store: BackupStore) -> None:
    etag = store.put(store.root + "one", b"before")

    def replace(number: int) -> int | None:
        try:
            store.put(store.root + "one", b"%d" % number, if_etag=etag)
        except ConditionFailed:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        replaced = [number for number in pool.map(replace, range(16)) if number is not None]
    assert [b"%d" % number for number in replaced] == [store.get(store.root + "one")]


@pytest.mark.parametrize("etag", ['"0123456789abcdef0123456789abcdef"', ""])
def test_a_condition_that_cannot_hold_is_never_dropped(store: BackupStore, etag: str) -> None:
    store.put(store.root + "one", b"before")
    with pytest.raises(StoreError):
        store.put(store.root + "one", b"after", if_etag=etag)
    assert store.get(store.root + "one") == b"before"
    with pytest.raises(StoreError):
        store.put(store.root + "absent", b"after", if_etag=etag)
    assert store.find(store.root + "absent") is None


def test_the_store_s_clock_is_the_store_s(store: BackupStore) -> None:
    assert abs(store.now() - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.long
def test_an_answer_that_breaks_off_is_an_error_of_ours_and_worth_a_retry(store: BackupStore, s3_engine: S3Engine) -> None:
    """botocore lets urllib3's own error through where it reads a refusal or a listing."""
    traffic = Traffic()
    attempts: list[Callable[[BackupStore], object]] = [
        lambda broken: broken.get(f"{store.root}missing"),
        lambda broken: broken.get(f"{store.root}there"),
        lambda broken: list(broken.list(store.root)),
    ]
    store.put(f"{store.root}there", b"x" * 100_000)
    with S3Proxy(s3_engine.port, traffic) as proxy:
        for attempt in attempts:
            traffic.begin(Rule("cut", Match("GET", "", 1, 0)))
            with pytest.raises(StoreError) as caught:
                attempt(seen_through(store, url=proxy.url))
            assert not caught.value.permanent
            assert traffic.hits
        traffic.end()


# --- listings ------------------------------------------------------------------------------------------------------------


def test_listings_and_deletions_go_on_behind_the_first_page(store: BackupStore) -> None:
    """A page has a thousand keys, or fewer when asked for fewer, which makes the test short."""
    keys = {f"{store.root}sets/{number % 3}/{number:04}" for number in range(23)}
    for key in keys:
        store.put(key, b"")
    for number in range(5):
        store.client.create_multipart_upload(Bucket=store.bucket.bucket_name, Key=f"{store.root}uploads/{number}")

    def small(params: dict[str, Any], model: Any, **_: Any) -> None:
        params["MaxUploads" if model.name == "ListMultipartUploads" else "MaxKeys"] = 2

    events = store.client.meta.events
    for operation in ("ListObjectsV2", "ListMultipartUploads"):
        events.register(f"before-parameter-build.s3.{operation}", small)
    try:
        assert {item.key for item in store.list(store.root)} == keys
        assert list(store.folders(f"{store.root}sets/")) == ["0", "1", "2"]
        assert len(list(store.uploads(f"{store.root}uploads/"))) == 5
        assert store.remove_below(f"{store.root}sets/") == 23
    finally:
        for operation in ("ListObjectsV2", "ListMultipartUploads"):
            events.unregister(f"before-parameter-build.s3.{operation}", small)
    assert list(store.list(store.root)) == []


def test_folders_are_named_one_level_deep(store: BackupStore) -> None:
    for key in ("sets/b/x", "sets/a/x", "sets/a/y/z", "sets/file"):
        store.put(store.root + key, b"")
    assert list(store.folders(f"{store.root}sets/")) == ["a", "b"]
    assert list(store.folders(f"{store.root}none/")) == []


def test_unfinished_uploads_are_listed_and_given_up(store: BackupStore) -> None:
    bucket = store.bucket.bucket_name
    for name in ("sets/a/one", "sets/b/two"):
        store.client.create_multipart_upload(Bucket=bucket, Key=store.root + name)
    uploads = list(store.uploads(f"{store.root}sets/a/"))
    assert [upload.key for upload in uploads] == [f"{store.root}sets/a/one"]
    assert abs(uploads[0].begun - store.now()) < timedelta(minutes=1)
    store.abort(uploads[0])
    store.abort(uploads[0])  # somebody else was faster: no error
    assert [upload.key for upload in store.uploads(store.root)] == [f"{store.root}sets/b/two"]


# --- deleting ------------------------------------------------------------------------------------------------------------


def test_deleting_what_is_not_there_is_no_error(store: BackupStore) -> None:
    store.put(store.root + "a", b"")
    assert store.remove([store.root + "a", store.root + "b"]) == 2
    assert store.find(store.root + "a") is None


@pytest.mark.parametrize(
    "prefix", ["", "/", "backups/", "backups/test", "elsewhere/", "{root}", "{bare}", "{root}sets", "x{root}sets/"]
)
def test_only_folders_inside_the_stack_s_own_are_deleted(store: BackupStore, prefix: str) -> None:
    store.put(store.root + "sets/a/x", b"")
    with pytest.raises(SettingsError, match="refusing to delete"):
        store.remove_below(prefix.format(root=store.root, bare=store.root.rstrip("/")))
    assert store.find(store.root + "sets/a/x") is not None


def test_a_stack_whose_name_begins_like_another_s_is_not_deleted(store: BackupStore) -> None:
    other = BackupStore(bucket=store.bucket, stack=store.stack + "-two")
    other.put(other.root + "sets/a/x", b"")
    store.put(store.root + "sets/a/x", b"")
    with pytest.raises(SettingsError):
        store.remove_below(other.root + "sets/")
    assert [item.key for item in store.list(store.root)] == [store.root + "sets/a/x"]


# --- streams -------------------------------------------------------------------------------------------------------------


class Trickle(io.RawIOBase):
    """A source that gives less than it is asked for, as pipes do, and can break."""

    def __init__(self, data: bytes, piece: int = 100_000, breaks_at: int | None = None) -> None:
        super().__init__()
        self._data, self._piece, self._breaks_at = io.BytesIO(data), piece, breaks_at
        self.given = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        if self._breaks_at is not None and self.given >= self._breaks_at:
            raise RuntimeError("the source broke")
        piece = self._data.read(self._piece if size is None or size < 0 else min(self._piece, size))
        self.given += len(piece)
        return piece


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 21 * MIB])
def test_a_stream_of_any_length_is_stored_as_it_is(store: BackupStore, size: int) -> None:
    store.put_stream(store.root + "stream", Trickle(BIG[:size]))  # type: ignore[arg-type]  # RawIOBase lacks only typing's IO
    with store.open(store.root + "stream") as reader:
        data = reader.read()
    assert hashlib.sha256(data or b"").digest() == hashlib.sha256(BIG[:size]).digest()


@pytest.mark.parametrize("breaks_at", [0, 3 * MIB, 20 * MIB])
def test_a_source_that_breaks_leaves_nothing_and_its_error_is_raised(store: BackupStore, breaks_at: int) -> None:
    with pytest.raises(RuntimeError, match="the source broke"):
        store.put_stream(store.root + "stream", Trickle(BIG, breaks_at=breaks_at))  # type: ignore[arg-type]  # as above
    assert list(store.list(store.root)) == []
    assert list(store.uploads(store.root)) == []


def test_parts_grow_with_what_is_expected(store: BackupStore) -> None:
    """A terabyte would need 125,000 parts of 8 MiB; S3 takes 10,000."""
    sizes: list[int] = []

    def note(params: dict[str, Any], **_: Any) -> None:
        sizes.append(len(params["Body"]))

    store.client.meta.events.register("before-parameter-build.s3.UploadPart", note)
    try:
        store.put_stream(store.root + "stream", io.BytesIO(BIG), expected_bytes=90_000 * MIB)
    finally:
        store.client.meta.events.unregister("before-parameter-build.s3.UploadPart", note)
    assert sorted(sizes) == [MIB, 10 * MIB, 10 * MIB]
    assert 90_000 * MIB / max(sizes) < MAX_PARTS


def test_when_the_store_dies_the_source_is_not_read_to_its_end(store: BackupStore, s3_engine: S3Engine) -> None:
    """s3transfer alone would read a dump of hours before it says that the first part has failed."""

    class Endless(Trickle):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.given == 40 * MIB:
                s3_engine.kill()
            self.given += MIB
            return bytes(MIB)

    source = Endless(b"")
    before = set(threading.enumerate())
    try:
        with pytest.raises(StoreError) as raised:
            seen_through(store, config=ONE_TRY).put_stream(store.root + "stream", source)  # type: ignore[arg-type]  # as above
    finally:
        s3_engine.start()
    assert not raised.value.permanent
    assert source.given < 200 * MIB
    assert set(threading.enumerate()) <= before
    assert store.find(store.root + "stream") is None


# --- reading across broken connections -----------------------------------------------------------------------------------


def test_reading_goes_on_after_a_cut_connection(store: BackupStore, proxy: Proxy) -> None:
    store.put_stream(store.root + "big", io.BytesIO(BIG))
    with seen_through(store, url=proxy.url).open(store.root + "big") as reader:
        found = b""
        for cut in (1 * MIB, 6 * MIB, 3):
            proxy.cut_after(cut)
            found += reader.read(7 * MIB) or b""
        found += reader.readall()
    assert proxy.cuts == 3
    assert hashlib.sha256(found).digest() == hashlib.sha256(BIG).digest()


def test_reading_goes_on_after_the_store_was_killed_and_started_again(store: BackupStore, s3_engine: S3Engine) -> None:
    store.put_stream(store.root + "big", io.BytesIO(BIG))
    with store.open(store.root + "big") as reader:
        begun = reader.read(MIB) or b""
        s3_engine.kill()
        starting = threading.Thread(target=s3_engine.start)
        starting.start()
        try:
            found = begun + reader.readall()
        finally:
            starting.join()
    assert hashlib.sha256(found).digest() == hashlib.sha256(BIG).digest()


def test_an_object_that_was_replaced_meanwhile_is_not_mixed_with_the_old_one(store: BackupStore, proxy: Proxy) -> None:
    store.put_stream(store.root + "big", io.BytesIO(BIG))
    with seen_through(store, url=proxy.url).open(store.root + "big") as reader:
        reader.read(MIB)
        store.put(store.root + "big", BIG[::-1])
        proxy.cut_after(0)
        with pytest.raises(StoreError) as raised:
            reader.readall()
    assert raised.value.permanent


def test_a_server_that_begins_anew_is_not_taken_for_one_that_goes_on(store: BackupStore, proxy: Proxy) -> None:
    """Or the object's beginning would be read a second time in the place of its middle."""

    def drop(params: dict[str, Any], **_: Any) -> None:
        params["headers"].pop("Range", None)

    store.put_stream(store.root + "big", io.BytesIO(BIG))
    careless = seen_through(store, url=proxy.url)
    careless.client.meta.events.register("before-call.s3.GetObject", drop)
    with careless.open(store.root + "big") as reader:
        reader.read(MIB)
        proxy.cut_after(0)
        with pytest.raises(StoreError, match="the server ignores Range"):
            reader.readall()


def test_reading_from_a_store_that_stays_away_is_a_transient_error(store: BackupStore, s3_engine: S3Engine) -> None:
    store.put_stream(store.root + "big", io.BytesIO(BIG))
    impatient = seen_through(store, config=ONE_TRY)
    with impatient.open(store.root + "big") as reader:
        reader.TRIES = 2
        s3_engine.kill()
        try:
            with pytest.raises(StoreError, match=r"big.*is the store reachable\?") as raised:
                reader.readall()
        finally:
            s3_engine.start()
    assert not raised.value.permanent


# --- errors and secrets --------------------------------------------------------------------------------------------------


def _answer(code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": f"<xml>{CANARY}</xml>"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")


@pytest.mark.parametrize(
    ("error", "kind", "permanent", "says"),
    [
        (_answer("NoSuchKey", 404), ObjectMissing, True, "not there"),
        (_answer("404", 404), ObjectMissing, True, "not there"),
        (_answer("NoSuchUpload", 404), ObjectMissing, True, "not there"),
        (_answer("PreconditionFailed", 412), ConditionFailed, True, "changed or exists already"),
        (_answer("412", 412), ConditionFailed, True, "changed or exists already"),
        (_answer("ConditionalRequestConflict", 409), ConditionFailed, True, "changed or exists already"),
        (_answer("NoSuchBucket", 404), StoreError, True, "create it or correct its name"),
        (_answer("AccessDenied", 403), StoreError, True, "check the access key"),
        (_answer("InvalidAccessKeyId", 403), StoreError, True, "check the access key"),
        (_answer("SignatureDoesNotMatch", 403), StoreError, True, "check the access key"),
        (_answer("403", 403), StoreError, True, "check the access key"),
        (_answer("RequestTimeTooSkewed", 403), StoreError, True, "clock"),
        (_answer("SlowDown", 503), StoreError, False, "SlowDown"),
        (_answer("TooManyRequests", 429), StoreError, False, "TooManyRequests"),
        (_answer("RequestTimeout", 400), StoreError, False, "RequestTimeout"),
        (_answer("InternalError", 500), StoreError, False, "HTTP 500"),
        (_answer("XMinioStorageFull", 507), StoreError, False, "XMinioStorageFull"),
        (_answer("EntityTooLarge", 400), StoreError, True, "EntityTooLarge"),
        (EndpointConnectionError(endpoint_url=f"http://{CANARY}"), StoreError, False, "is the store reachable?"),
        (NoCredentialsError(), StoreError, True, "set the access key"),
        (ParamValidationError(report=CANARY), StoreError, True, "names of bucket and prefix"),
    ],
)
def test_an_answer_becomes_the_error_that_says_what_to_do(
    error: Exception, kind: type[StoreError], permanent: bool, says: str
) -> None:
    found = translate(error, "write sets/x")
    assert type(found) is kind
    assert found.permanent is permanent
    assert str(found).startswith("store: write sets/x: ")
    assert says in str(found)
    assert CANARY not in str(found)


def _bucket(engine: S3Engine, *, name: str = "backups", access: str | None = None, secret: str | None = None) -> S3Bucket:
    key = SecretStr(secret or engine.secret_key)
    return s3_bucket(engine.endpoint_url, access or engine.access_key, key, name, engine.region)


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "no-such-bucket"}, "create it or correct its name"),
        ({"name": "no bucket"}, "names of bucket and prefix"),
        ({"secret": CANARY}, "check the access key, its secret"),
        ({"access": "nobody", "secret": CANARY}, "check the access key, its secret"),
    ],
)
def test_what_is_set_wrong_is_said_and_never_the_secret(s3_engine: S3Engine, changes: dict[str, str], says: str) -> None:
    store = BackupStore(bucket=_bucket(s3_engine, **changes), stack="test")
    uses: list[Callable[[], object]] = [
        lambda: store.put(store.root + "a", b""),
        lambda: store.get(store.root + "a"),
        lambda: store.put_stream(store.root + "a", io.BytesIO(b"")),
        lambda: store.open(store.root + "a"),
        lambda: list(store.list(store.root)),
        lambda: list(store.folders(store.root)),
        lambda: store.check(),
    ]
    for use in uses:
        with pytest.raises(StoreError) as raised:
            use()
        assert says in str(raised.value)
        assert raised.value.permanent
        assert CANARY not in "".join(traceback.format_exception(raised.value)).replace(f"'{CANARY}'", "")


def test_an_endpoint_that_is_no_url_is_refused(s3_engine: S3Engine) -> None:
    store = BackupStore(bucket=s3_bucket("minio 9000", "a", SecretStr(CANARY), "backups", "us-east-1"), stack="test")
    with pytest.raises(SettingsError, match="MINIO_ENDPOINT"):
        store.get("a")


def test_secrets_are_not_shown(s3_engine: S3Engine) -> None:
    store = BackupStore(bucket=_bucket(s3_engine, secret=CANARY), stack="test")
    assert store.secret_key.get_secret_value() == CANARY
    assert store.client
    assert CANARY not in repr(store) + str(store) + store.model_dump_json() + repr(store.client)


# --- check and clients ---------------------------------------------------------------------------------------------------


def test_a_good_store_passes_its_check_and_keeps_nothing_of_it(store: BackupStore) -> None:
    store.check()
    assert list(store.list(store.root)) == []


def test_several_workers_may_check_at_once(store: BackupStore) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: store.check(), range(12)))


def test_a_store_that_may_only_be_read_fails_its_check(s3_engine: S3Engine, bucket: str, tmp_path: Any) -> None:
    reader = Identity("reader", "reader", actions=("Read", "List"))
    engine = S3Engine(tmp_path / "s3", identities=[reader])
    engine.start()
    try:
        engine.create_bucket(bucket)
        name = s3_bucket(engine.endpoint_url, reader.access_key, SecretStr(reader.secret_key), bucket, engine.region)
        with pytest.raises(StoreError, match="check the access key, its secret and its policy"):
            BackupStore(bucket=name, stack="test").check()
    finally:
        engine.stop()


def test_a_server_that_ignores_conditions_is_refused(store: BackupStore) -> None:
    def drop(params: dict[str, Any], **_: Any) -> None:
        params["headers"].pop(header, None)

    for header in ("If-None-Match", "If-Match"):  # a server that does not know the header: it never arrives
        careless = seen_through(store)
        careless.client.meta.events.register("before-call.s3.PutObject", drop)
        with pytest.raises(SettingsError, match=f"ignores {header} when writing"):
            careless.check()
        assert list(store.list(store.root)) == []


def test_aws_itself_needs_no_endpoint() -> None:
    store = BackupStore(bucket=s3_bucket(None, "AKIAEXAMPLE", SecretStr(CANARY), "backups", "eu-central-1"), stack="test")
    assert isinstance(store.bucket.credentials, AwsCredentials)
    assert store.endpoint is None
    assert store.client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
    assert (store.access_key, store.secret_key.get_secret_value()) == ("AKIAEXAMPLE", CANARY)


def test_a_role_without_keys_of_its_own_has_none_to_show() -> None:
    store = BackupStore(bucket=S3Bucket(bucket_name="backups", credentials=AwsCredentials()), stack="test")
    assert (store.access_key, store.secret_key.get_secret_value()) == ("", "")


def test_the_block_s_own_client_parameters_win() -> None:
    parameters = AwsClientParameters(
        endpoint_url="http://127.0.0.1:1", config={"read_timeout": 7, "s3": {"addressing_style": "virtual"}}
    )
    credentials = AwsCredentials(aws_access_key_id="a", aws_secret_access_key=SecretStr("b"), aws_client_parameters=parameters)
    config: Any = make_client(S3Bucket(bucket_name="backups", credentials=credentials)).meta.config
    assert config.read_timeout == 7
    assert config.s3["addressing_style"] == "virtual"
    assert config.connect_timeout == 10, "what the block does not say stays as the project wants it"


@pytest.mark.parametrize(("prefix", "root"), [("backups", "backups/s/"), ("/a/b/", "a/b/s/"), ("", "s/"), ("/", "s/")])
def test_the_root_is_prefix_and_stack(s3_engine: S3Engine, prefix: str, root: str) -> None:
    assert BackupStore(bucket=_bucket(s3_engine), prefix=prefix, stack="s").root == root


def test_a_store_survives_the_way_through_prefect(store: BackupStore) -> None:
    """A block document is JSON; credentials of either kind must come back as what they were."""
    for block in (store, BackupStore(bucket=s3_bucket(None, "a", SecretStr("b"), "c", "d"), stack="test")):
        document = block.model_dump_json(context={"include_secrets": True})
        again = BackupStore.model_validate_json(document)
        assert type(again.bucket.credentials) is type(block.bucket.credentials)
        assert again.secret_key == block.secret_key
        assert again.endpoint == block.endpoint
