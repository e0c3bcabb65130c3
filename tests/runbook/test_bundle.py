"""Bundles for people outside: no secret gets in by any way, and none grows without bound."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from blocks.settings import Settings
from flows.runbook.bundle import LARGEST, LARGEST_PART, Bundle, secrets_of, settings_shown

CANARY = 'canary-"q3\n4/7+ü'
"""With what JSON escapes, and what URLs do."""


class Holder(BaseModel):
    """A block with a secret deep in it."""

    inner: dict[str, list[SecretStr]]


def opened(bundle: Bundle) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(bundle.packed())) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def bundle_with(secret: str = CANARY) -> Bundle:
    return Bundle(secrets_of([Holder(inner={"a": [SecretStr(secret)]}), None], {}))


@pytest.mark.parametrize(
    "value",
    [
        CANARY,
        f"before {CANARY} after",
        {"a": [{"b": f"x{CANARY}"}]},
        {CANARY: 1},
        ("postgresql://u:p%40ss@host/db", CANARY),
        {"password": "short"},
        {"headers": {"Authorization": "something odd"}},
        "Authorization: Bearer abcdefghijkl",
        "sk-1234567890abcdef and AGE-SECRET-KEY-1ABCDEF",
        SecretStr("whatever"),
    ],
)
def test_no_secret_gets_in_whatever_it_is_in(value: Any) -> None:
    bundle = bundle_with()
    bundle.add("value.json", value)
    if isinstance(value, str):
        bundle.add_text("value.txt", value)
    text = "\n".join(opened(bundle).values())
    for secret in ("canary", "short", "something odd", "abcdefghijkl", "1234567890", "1ABCDEF", "p%40ss", "whatever"):
        assert secret not in text
    assert "***" in text
    json.loads(opened(bundle)["value.json"])


def test_secrets_of_the_environment_are_known_by_the_settings_and_by_their_own_names() -> None:
    known = {
        "LITELLM_MASTER_KEY": "canary-1",
        "POSTGRES_BACKUP_URL": "postgresql://backup:canary-2@host:5432/db",
        "SOME_TOKEN": "canary-3",
        "STACK_NAME": "production",
    }
    bundle = Bundle(secrets_of([], known))
    bundle.add_text("log.txt", "canary-1 canary-2 canary-3 postgresql://backup:canary-2@host:5432/db of production")
    assert "canary" not in bundle.parts["log.txt"]
    assert bundle.parts["log.txt"].endswith("of production")


def test_of_secret_settings_it_is_shown_whether_they_are_set_and_the_others_as_they_are() -> None:
    secret = SecretStr("canary")
    settings = Settings(stack_name="prod", gateway_token=secret, minio_access_key="AKIACANARY", slack_users=["U0CANARY"])
    shown = settings_shown(settings)
    assert shown.keys() == Settings.model_fields.keys()
    bundle = Bundle(secrets_of([settings], {}))
    bundle.add("settings.json", shown)
    found = json.loads(bundle.parts["settings.json"])
    assert (found["stack_name"], found["failure_threshold"]) == ("prod", 3)
    assert (found["gateway_token"], found["litellm_master_key"]) == (True, False)
    assert (found["minio_access_key"], found["slack_users"]) == (True, True)
    assert "canary" not in bundle.parts["settings.json"].lower()


def test_a_long_log_keeps_its_end_and_a_long_list_its_beginning_and_both_stay_readable() -> None:
    bundle = Bundle(bundle_with().secrets, most_part=2000)
    bundle.add_text("log.txt", "".join(f"line {number}\n" for number in range(2000)))
    bundle.add("runs.json", [{"number": number, "text": "ü" * 50} for number in range(200)])
    log, runs = bundle.parts["log.txt"], json.loads(bundle.parts["runs.json"])
    assert len(log.encode()) <= 2000 + 100
    assert log.startswith("... (what stood before is cut off)\nline ")
    assert log.endswith("line 1999\n")
    assert (runs[0]["number"], len(bundle.parts["runs.json"].encode()) <= 2000) == (0, True)


def test_where_a_long_log_is_cut_no_half_of_a_secret_stays() -> None:
    for length in range(1, 60):
        bundle = Bundle(secrets_of([Holder(inner={"a": [SecretStr("canary-0123456789abcdef-canary")]})], {}), most_part=100)
        bundle.add_text("log.txt", "x canary-0123456789abcdef-canary\n" * 20 + "y" * length + "\n")
        assert "canary" not in bundle.parts["log.txt"]
        assert "abcdef" not in bundle.parts["log.txt"]


def test_the_whole_is_bounded_and_what_had_no_room_is_named() -> None:
    bundle = Bundle(bundle_with().secrets, most=10_000)
    for number in range(30):
        bundle.add_text(f"{number}.txt", "0123456789abcde\n" * 50)
    assert sum(len(text.encode()) for text in bundle.parts.values()) <= bundle.most
    assert bundle.dropped
    assert {*bundle.parts, *bundle.dropped} == {f"{number}.txt" for number in range(30)}
    assert bundle.packed() == bundle.packed(), "the same content is the same zip"


def test_what_is_collected_in_earnest_fits_an_issue() -> None:
    assert LARGEST_PART * 2 < LARGEST < 20 << 20
