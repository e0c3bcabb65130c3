"""The manifest: what is signed is what is stored, today, with other tools, and after the next change of this project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.backup.manifest import Component, LargeObjects, Manifest, SequenceBounds
from tests.manifests import PROPERTIES, clickhouse, manifest, postgres, roles, stored

ODD = "quote ' \" ` $HOME \\ | tab\t newline\n é 漢字 😀 \u2028 \x7f \x01 </script>"


def _odd_manifest() -> Manifest:
    properties = PROPERTIES.model_copy(
        update={"comment": ODD, "settings": [f"app.name={ODD}"], "role_settings": {ODD: ["a=b"]}}
    )
    database = postgres(ODD, properties=properties, large_objects=LargeObjects(count=1, checksum="9" * 40))
    return manifest(components=[clickhouse(ODD), database, roles()], label=ODD, not_taken=[ODD])


def test_a_manifest_comes_back_as_it_was() -> None:
    made = _odd_manifest()
    assert Manifest.from_json(made.to_json()) == made


@given(st.text(), st.text(), st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_what_is_signed_is_what_is_read(label: str, comment: str, position: int) -> None:
    """Whatever is in it: the signed bytes of the document are those of the value."""
    properties = PROPERTIES.model_copy(update={"comment": comment})
    bounds = [SequenceBounds(name="s", low=position, high=position, increment=1)]
    made = manifest(components=[postgres(properties=properties, sequences=bounds)], label=label)
    read, covered = Manifest.with_signed_bytes(made.to_json())
    assert read == made
    assert covered == made.signed_bytes()


def test_the_signature_covers_everything_but_itself() -> None:
    document = json.loads(_odd_manifest().to_json())
    assert set(document) - set(json.loads(_odd_manifest().signed_bytes())) == {"signature"}


def test_a_field_that_a_later_version_adds_does_not_break_older_signatures() -> None:
    """The older document has no such field; what is verified is the document, not what this version makes of it."""
    older = json.loads(manifest().to_json())
    assert older.pop("label") == ""
    read, covered = Manifest.with_signed_bytes(json.dumps(older).encode())
    assert read == manifest()
    assert b'"label"' not in covered
    assert b'"label"' in read.signed_bytes()


def test_of_a_name_that_is_there_twice_the_one_that_is_used_is_the_one_that_is_signed() -> None:
    """Two parsers that choose differently would let a forger show one to each."""
    document = manifest(label="mine").to_json().decode()
    forged = document.replace('"label": "mine"', '"label": "forged",\n "label": "mine"')
    assert forged != document
    read, covered = Manifest.with_signed_bytes(forged.encode())
    assert json.loads(covered)["label"] == read.label


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed: apt-get install jq")
def test_jq_prints_the_signed_bytes() -> None:
    """As the module says, for who wants to verify with openssl and nothing of ours."""
    made = _odd_manifest()
    printed = subprocess.run(["jq", "-acjS", "del(.signature)"], input=made.to_json(), capture_output=True, check=True).stdout
    assert printed == made.signed_bytes()


def test_there_is_no_float_in_it() -> None:
    """Floats have no canonical form that every tool shares."""

    def floats(value: object) -> bool:
        if isinstance(value, dict):
            return any(map(floats, value.values()))
        return any(map(floats, value)) if isinstance(value, list) else isinstance(value, float)

    assert not floats(json.loads(_odd_manifest().to_json()))
    assert "number" not in re.findall(r'"type": "(\w+)"', json.dumps(Manifest.model_json_schema()))


def test_times_are_written_in_utc() -> None:
    assert json.loads(manifest(datetime(2026, 11, 23, 3, tzinfo=UTC)).to_json())["created_at"] == "2026-11-23T03:00:00Z"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"format": 1}'])
def test_what_is_no_manifest_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        Manifest.from_json(data)


@pytest.mark.parametrize(("name", "value"), [("format", 2), ("unknown", 1), ("components", [{"kind": "mongodb"}])])
def test_what_a_newer_version_wrote_is_not_guessed_at(name: str, value: object) -> None:
    document = json.loads(manifest().to_json()) | {name: value}
    with pytest.raises(ValidationError):
        Manifest.from_json(json.dumps(document).encode())


def test_a_set_s_own_bytes_are_those_it_has_stored() -> None:
    made = manifest(
        components=[
            clickhouse(bytes=1000, base="20261122T030000Z-aaaaaa", index=stored("i", b"12345")),
            postgres(object=stored("p", b"123")),
            roles(),
        ],
        extras=[stored("RESTORE.md", b"1")],
        definitions=stored("d", b"12"),
    )
    assert made.stored_bytes == 1000 + 5 + 3 + 4 + 1 + 2
    assert [item.key for item in made.stored_objects()] == ["RESTORE.md", "d", "i", "p", "postgres/globals.sql.zst.age"]


def test_the_bases_are_those_of_differences_only() -> None:
    both: list[Component] = [clickhouse("a"), clickhouse("b", base="20261122T030000Z-aaaaaa"), postgres()]
    assert manifest(components=both).bases == {"20261122T030000Z-aaaaaa"}


def test_details_are_taken_out_and_put_back() -> None:
    made = manifest(components=[clickhouse(), postgres("a", catalogue={"table t": "x"}), postgres("b", catalogue={}), roles()])
    details = json.loads(json.dumps(made.details()))
    bare = made.with_details({})
    assert details["postgres/a"]["catalogue"] == {"table t": "x"}
    assert all(not database.tables for database in [*bare.postgres, *bare.clickhouse])
    assert len(bare.to_json()) < len(made.to_json())
    assert bare.with_details(details) == made
