"""RUNBOOK.md against the runbooks: it is made from them, and says what the checks say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.health.checks import redis
from flows.health.findings import Findings
from flows.health.observation import Status
from flows.health.targets import Limits
from flows.runbook.book import BOOK, HEADINGS, fill, main, paragraphs, pieces
from flows.runbook.catalogue import entries
from flows.runbook.sentences import GAP, sentence_of, spoken

TEXT = BOOK.read_text(encoding="utf-8")


def test_the_document_says_what_the_runbooks_do() -> None:
    assert main(["--check"]) == 0, "run: python -m flows.runbook.book"


def test_every_incident_that_a_runbook_answers_is_in_the_index_with_what_people_see() -> None:
    index = TEXT.split("<!-- runbooks: symptoms -->")[1].split("<!-- end of runbooks -->")[0]
    for one in entries():
        for aspect in one.aspects if one.service else ():
            (row,) = [line for line in index.splitlines() if f"`{one.service}/{aspect}`" in line]
            assert f"[{one.name}](#{one.name})" in row
            assert len(row.split("|")[2].strip()) > 10


@pytest.mark.parametrize("name", sorted({one.name for one in entries()}))
def test_every_runbook_has_a_section_with_its_four_parts_which_links_find(name: str) -> None:
    section = TEXT.split(f"\n### {name}\n")[1].split("\n### ")[0]
    for heading in HEADINGS:
        assert f"**{heading}:** " in section
    assert f"`{name}/runbook`" in section


def test_what_is_out_of_step_is_said_and_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "RUNBOOK.md"
    file.write_text(TEXT.replace("**Remedy:**", "**Cure:**", 1))
    assert main(["--check", "--file", str(file)]) == 1
    assert "run python -m flows.runbook.book" in capsys.readouterr().out
    assert "**Cure:**" in file.read_text(), "looking changes nothing"
    assert [main(["--file", str(file)]), main(["--check", "--file", str(file)])] == [0, 0]
    assert file.read_text() == TEXT


@pytest.mark.parametrize("text", ["", "<!-- runbooks: symptoms -->\n<!-- end of runbooks -->\n"])
def test_a_document_without_its_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected one each of symptoms, runbooks"):
        fill(text, dict.fromkeys(pieces(), "x"))


def test_a_docstring_is_read_by_its_headings_and_one_that_lacks_a_heading_is_refused() -> None:
    whole = """Mend it.

    Symptom: it is
    broken.

    Diagnosis: look.

    Remedy: mend.

    And again: mend.

    When not to: never.

    Args:
        request: what.
    """
    assert paragraphs(whole) == {
        "": "Mend it.",
        "Symptom": "it is broken.",
        "Diagnosis": "look.",
        "Remedy": "mend. And again: mend.",
        "When not to": "never.",
    }
    with pytest.raises(ValueError, match="no paragraph 'When not to'"):
        paragraphs(whole.replace("When not to", "Never"))


def test_what_the_index_says_is_what_the_check_says() -> None:
    found = Findings("redis", redis.MAIN)
    redis._judge({"used_memory": 91e6, "maxmemory": 100e6, "maxmemory_policy": "allkeys-lru"}, found, Limits())
    bad = [one for one in found.observations if one.status is Status.DEGRADED]
    assert {one.aspect for one in bad} == {"memory", "eviction-policy", "persistence"}
    said = spoken()
    for one in bad:
        sentences = [each.sentence for each in said if each.module == "redis" and each.aspect == one.aspect]
        patterns = [".+".join(re.escape(part) for part in sentence.split(GAP)) for sentence in sentences]
        assert any(re.match(pattern, one.sentence) for pattern in patterns), one.sentence
    memory = sentence_of(said, "redis", "memory")
    assert memory.startswith("Redis uses "), "it is degraded before it is down"
    assert memory.partition("; or: ")[2].startswith("Redis is full")
    disk = sentence_of(said, "clickhouse", "disk")
    assert "; or: " not in disk, "the same sentence, with more, is shown once"
    assert disk.endswith("inserts fail and events are lost")
    assert sentence_of(said, "langfuse-worker", "ready").startswith("Langfuse worker is not ready")
    assert sentence_of(said, "langfuse-web", "ready").startswith("Langfuse web is not ready")
    assert sentence_of(said, "minio", "bucket-events").startswith("the object store refuses to "), "whatever the bucket's name"
    assert sentence_of(said, "redis", "no-such-aspect") == ""
