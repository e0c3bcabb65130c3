"""The manifest of a backup set, format v1: the JSON whose existence *is* the set's existence.

Integers, strings and lists only (no floats), and the signature covers a canonical form of them in ASCII, so that it is the
same everywhere: `jq -acjS 'del(.signature)' manifest.json` prints the signed bytes (jq 1.7 or newer: older ones round integers
beyond 2^53). What is verified is the stored document itself: a later version of this project may add fields that have
defaults, and the signatures of the sets that were there before still hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from flows.backup.canonical import canonical


class Record(BaseModel):
    """Base of everything in the manifest: immutable, and strict about what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StoredObject(Record):
    """One object of the set, as stored and as it was before compression and encryption."""

    key: str = Field(description="Key below the set's own folder, for example postgres/litellm.dump.zst.age")
    bytes: int = Field(description="Stored size in bytes")
    sha256: str = Field(description="SHA-256 of the stored bytes, hex")
    plain_bytes: int = Field(description="Size before compression and encryption, bytes")
    plain_sha256: str = Field(description="SHA-256 of the bytes before compression and encryption, hex")


class TableContent(Record):
    """What one table held at the moment of the backup."""

    name: str = Field(description="Qualified and quoted as the engine prints it")
    method: Literal["full", "range", "count"] = Field(description="How much of the content the checksum covers")
    rows: int
    checksum: str = Field(description="Order-independent sum of row hashes; empty when method is count")


class SequenceBounds(Record):
    """Where a sequence stood. Sequences are not transactional: the dump's value lies between two readings."""

    name: str
    low: int = Field(description="The value it would have given next before the dump")
    high: int = Field(description="The value it would have given next after the dump")
    increment: int


class LargeObjects(Record):
    """Large objects of a Postgres database, taken together."""

    count: int = 0
    checksum: str = "0"


class DatabaseProperties(Record):
    """What belongs to a Postgres database but not into a plain dump of it."""

    owner: str
    encoding: str
    locale_provider: str
    collate: str
    ctype: str
    icu_locale: str | None = None
    connection_limit: int = -1
    is_template: bool = False
    comment: str | None = None
    acl: list[str] = Field(default_factory=list, description="ACL items as Postgres prints them, sorted")
    settings: list[str] = Field(default_factory=list, description="name=value set for the database, sorted")
    role_settings: dict[str, list[str]] = Field(
        default_factory=dict, description="role -> name=value set for that role in this database"
    )


class PostgresDatabase(Record):
    """One Postgres database in a set.

    A stored manifest keeps what there are hundreds or thousands of in the object `definitions`; here it is empty then: tables,
    sequences and the catalogue.
    """

    kind: Literal["postgres"] = "postgres"
    name: str
    object: StoredObject
    server_version: str = Field(description="As server_version says, for example 16.9")
    server_major: int
    client_version: str = Field(description="Version of the pg_dump that wrote it")
    database_bytes: int = Field(description="pg_database_size at the time, for the space check of a restore")
    properties: DatabaseProperties
    extensions: dict[str, str] = Field(default_factory=dict, description="name -> version")
    roles: list[str] = Field(default_factory=list, description="Roles that a server must have before it can be restored")
    not_taken: list[str] = Field(default_factory=list, description="What of the database is not in the dump")
    tables: list[TableContent] = Field(default_factory=list)
    sequences: list[SequenceBounds] = Field(default_factory=list)
    large_objects: LargeObjects = LargeObjects()
    catalogue: dict[str, str] = Field(
        default_factory=dict,
        description="Every definition, owner, grant and comment: what it is -> its text, or sha256:<hex> where long",
    )
    started_at: datetime
    finished_at: datetime


class PostgresGlobals(Record):
    """Roles and grants of the Postgres server, without passwords."""

    kind: Literal["globals"] = "globals"
    name: Literal["globals"] = "globals"
    object: StoredObject
    roles: list[str]


class ClickHouseTable(Record):
    """One ClickHouse table: how it is made, and what was in the parts that the backup holds."""

    name: str
    engine: str
    uuid: str = ""
    ddl: str = Field(description="create_table_query, the live database's name in it")
    has_data: bool = Field(description="False for views and engines that keep no data of their own")
    parts: list[str] = Field(default_factory=list)
    content: TableContent | None = Field(default=None, description="None where there is no data, or none that can be compared")
    pending_mutations: list[str] = Field(
        default_factory=list,
        description="ALTER commands not carried out yet; RESTORE forgets them: give them again",
    )


class ClickHouseDatabase(Record):
    """One ClickHouse database in a set, as a native BACKUP directory; its tables are in `definitions` too."""

    kind: Literal["clickhouse"] = "clickhouse"
    name: str
    path: str = Field(description="Folder below the set's own, for example clickhouse/default/")
    base: str | None = Field(default=None, description="Id of the full set that this one is a difference to")
    server_version: str
    engine: str = Field(description="Database engine, for example Atomic")
    bytes: int = Field(description="Stored size of this backup's own files, bytes")
    plain_bytes: int = Field(description="Size of the tables' data it stands for, bytes")
    index: StoredObject = Field(description="Every file that it consists of, own and in the base, with size and ETag")
    backup_file_sha256: str = Field(description="SHA-256 of ClickHouse's own list, the object .backup, hex")
    tables: list[ClickHouseTable] = Field(default_factory=list)
    not_taken: list[str] = Field(default_factory=list, description="What of the database is not in it, or cannot be compared")
    started_at: datetime
    finished_at: datetime


class BucketContents(Record):
    """One bucket in a set: an index of what existed at that moment, and the packs that hold the bytes.

    Packs lie outside the set's folder and are shared between sets: unchanged objects are referenced, not stored again.
    """

    kind: Literal["bucket"] = "bucket"
    name: str = Field(description="The bucket's name")
    prefix: str = Field(default="", description="Only keys below this were taken")
    index: StoredObject = Field(description="A JSON line for each object, sorted by key; readable, as the bucket itself is")
    packs: StoredObject = Field(description="A JSON line for each pack that the index refers to, with size and hash")
    pack_ids: dict[str, str] = Field(
        default_factory=dict, description="The same packs, short: id of the set that wrote them -> their numbers as 1-5,9"
    )
    objects: int = Field(description="Objects in the index")
    bytes: int = Field(description="Their size together, bytes")
    new_objects: int = Field(default=0, description="Objects that this set was the first to store")
    new_bytes: int = Field(default=0, description="Stored size of the packs that this set wrote, bytes")
    not_taken: list[str] = Field(default_factory=list, description="Objects that vanished or could not be read meanwhile")
    started_at: datetime
    finished_at: datetime


class Dangling(Record):
    """References from one store into another that led nowhere when the set was taken: a restore must not have more."""

    name: Literal["clickhouse projects without postgres project", "finished media without object"]
    count: int
    examples: list[str] = Field(default_factory=list, description="The first hundred, sorted")


Component = Annotated[PostgresDatabase | PostgresGlobals | ClickHouseDatabase | BucketContents, Field(discriminator="kind")]


class KeyFingerprints(Record):
    """Keyed fingerprints of the applications' secrets: compared before a restore, worthless to a thief.

    The HMAC key is random for each set and stored encrypted to the set's age recipients.
    """

    wrapped_key: str = Field(description="The HMAC key, age-encrypted, base64")
    values: dict[str, str] = Field(description="Variable name -> HMAC-SHA-256, hex; never the secret")


class Signature(Record):
    """Ed25519 over the canonical JSON of the manifest without this field."""

    algorithm: Literal["ed25519"] = "ed25519"
    public_key: str = Field(description="Hex; which key signed, not proof that it may")
    value: str = Field(description="Hex")


class Manifest(Record):
    """One backup set."""

    format: Literal[1] = 1
    id: str
    stack: str
    label: str = ""
    protected: bool = False
    created_at: datetime = Field(description="When the run started, UTC")
    committed_at: datetime = Field(description="When everything was stored and verified, UTC")
    project_version: str
    flow_run: str = Field(default="", description="Id of the Prefect flow run")
    lease_token: int = Field(description="Fencing token of the stack's lock under which the set was taken")
    recipients: list[str] = Field(description="age public keys that can open the encrypted objects")
    components: list[Component]
    fingerprints: KeyFingerprints | None = None
    not_taken: list[str] = Field(default_factory=list, description="What a reader might expect here and will not find")
    definitions: StoredObject | None = Field(
        default=None, description="Tables, sequences and catalogues of the databases: a list of thousands of sets stays short"
    )
    dangling: list[Dangling] = Field(default_factory=list)
    extras: list[StoredObject] = Field(default_factory=list, description="RESTORE.md, restore.sh")
    signature: Signature | None = None

    def signed_bytes(self) -> bytes:
        """Return the canonical JSON that the signature covers."""
        return canonical(self.model_dump(mode="json", exclude={"signature"}))

    def details(self) -> dict[str, dict[str, Any]]:
        """Return what a stored manifest keeps apart, as JSON: component as `kind/name` -> field -> value."""
        return {
            f"{c.kind}/{c.name}": c.model_dump(mode="json", include=set(_DETAILS[c.kind]))
            for c in self.components
            if c.kind in _DETAILS
        }

    def with_details(self, details: Mapping[str, Mapping[str, Any]]) -> Self:
        """Return the manifest with other details; those that are not given become empty.

        Raises:
            ValueError: they are not what `details` returned.
        """
        components = [
            c.model_validate({**c.model_dump(exclude=set(_DETAILS[c.kind])), **details.get(f"{c.kind}/{c.name}", {})})
            if c.kind in _DETAILS
            else c
            for c in self.components
        ]
        return self.model_copy(update={"components": components})

    def to_json(self) -> bytes:
        """Return the document as it is stored."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a stored document.

        Raises:
            ValueError: it is not a manifest of format v1.
        """
        return cls.with_signed_bytes(data)[0]

    @classmethod
    def with_signed_bytes(cls, data: bytes) -> tuple[Self, bytes]:
        """Read a stored document, and return with it what its signature covers: one parse, so both are of the same content.

        Raises:
            ValueError: it is not a manifest of format v1.
        """
        body = json.loads(data)
        manifest = cls.model_validate(body)
        body.pop("signature", None)
        return manifest, canonical(body)

    @property
    def postgres(self) -> list[PostgresDatabase]:
        """The Postgres databases in the set."""
        return [c for c in self.components if isinstance(c, PostgresDatabase)]

    @property
    def clickhouse(self) -> list[ClickHouseDatabase]:
        """The ClickHouse databases in the set."""
        return [c for c in self.components if isinstance(c, ClickHouseDatabase)]

    @property
    def buckets(self) -> list[BucketContents]:
        """The buckets in the set."""
        return [c for c in self.components if isinstance(c, BucketContents)]

    @property
    def globals(self) -> PostgresGlobals | None:
        """Roles and grants of the Postgres server, if they were taken."""
        return next((c for c in self.components if isinstance(c, PostgresGlobals)), None)

    @property
    def bases(self) -> set[str]:
        """Ids of the sets that this one cannot be restored without."""
        return {c.base for c in self.clickhouse if c.base}

    @property
    def stored_bytes(self) -> int:
        """Bytes that this set alone has put into the store."""
        own = sum(c.bytes for c in self.clickhouse) + sum(c.new_bytes for c in self.buckets)
        return own + sum(o.bytes for o in self.stored_objects())

    def stored_objects(self) -> Iterator[StoredObject]:
        """Yield every object whose hash the manifest records: all but packs and ClickHouse's files, which these list."""
        yield from self.extras
        if self.definitions is not None:
            yield self.definitions
        for component in self.components:
            if isinstance(component, BucketContents):
                yield from (component.index, component.packs)
            else:
                yield component.index if isinstance(component, ClickHouseDatabase) else component.object


_DETAILS: dict[str, tuple[str, ...]] = {"postgres": ("tables", "sequences", "catalogue"), "clickhouse": ("tables",)}
