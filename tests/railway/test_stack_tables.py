"""The tables of the documentation are those of the stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from railway.rules import RULES
from railway.stack import PRODUCTION
from railway.tables import fill, main, tables
from shared.sandbox.stack import ROOT
from tests.railway.stacks import shipped

MARKED = "# Text\n\n<!-- table: services-production -->\nold\n<!-- end of table -->\n\nmore\n"


def test_every_service_and_every_rule_is_in_its_table_once() -> None:
    made = tables()
    for name in PRODUCTION:
        assert made["services-production"].count(f"| `{name}` |") == 1
        assert f"variables-{name}" in made
    assert [made["rules"].count(f"| `{rule.name}` |") for rule in RULES] == [1] * len(RULES)


def test_every_table_is_whole() -> None:
    for table in tables().values():
        head, line, *rows = table.splitlines()
        assert rows
        assert set(line) == {"|", "-"}
        for row in (head, *rows):
            assert row.replace("\\|", "").count("|") == line.count("|")


def test_the_table_of_a_service_s_variables_says_what_only_langfuse_4_has() -> None:
    table = tables()["variables-langfuse-web"]
    assert "| `LANGFUSE_MIGRATION_V4_WRITE_MODE` | `events_only` | Langfuse 4 only |" in table
    assert all(f"| `{name}` |" in table for name in shipped().services["langfuse-web"].variables)


def test_a_text_is_filled_once_and_then_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "RUNBOOK.md"
    file.write_text(MARKED)
    assert main([str(file), "--check"]) == 1
    assert "python -m railway.tables" in capsys.readouterr().err
    assert main([str(file)]) == 0
    filled = file.read_text()
    assert "`clickhouse/clickhouse-server:" in filled
    assert "old" not in filled
    assert filled.startswith("# Text\n")
    assert filled.endswith("\nmore\n")
    assert main([str(file), "--check"]) == 0
    assert fill(filled) == filled


@pytest.mark.parametrize("file", [ROOT / "README.md", *sorted((ROOT / "railway").rglob("*.md"))], ids=lambda file: file.name)
def test_the_tables_in_the_documentation_are_up_to_date(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert fill(text) == text, f"python -m railway.tables {file.relative_to(ROOT)}"


def test_a_text_that_asks_for_no_such_table_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "UPGRADE.md"
    file.write_text("<!-- table: nothing -->\n<!-- end of table -->\n")
    assert main([str(file)]) == 1
    assert "there is no table 'nothing'" in capsys.readouterr().err
