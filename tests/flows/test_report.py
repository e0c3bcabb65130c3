"""How flows speak to people."""

from __future__ import annotations

import logging
import tomllib
from pathlib import Path

import pytest

from flows.report import Summary, flow_run_id, line, timed
from flows.stack import VERSION


def test_a_summary_is_a_markdown_table_with_notes() -> None:
    summary = Summary("Backup set X", ("component", "rows"))
    summary.row("postgres litellm", 3)
    summary.row("clickhouse langfuse", None)
    summary.note("Committed.")
    summary.note("Not taken: passwords")
    assert summary.markdown() == (
        "# Backup set X\n\n"
        "| component | rows |\n"
        "| --- | --- |\n"
        "| postgres litellm | 3 |\n"
        "| clickhouse langfuse | None |\n"
        "\n"
        "Committed.\n\n"
        "Not taken: passwords\n"
    )


def test_a_summary_without_rows_is_still_a_table() -> None:
    assert Summary("Nothing", ("a",)).markdown() == "# Nothing\n\n| a |\n| --- |\n"


@pytest.mark.parametrize(("cell", "shown"), [("a|b", "a\\|b"), ("two\nlines", "two lines"), ('odd "name"', 'odd "name"')])
def test_a_cell_stays_a_cell_whatever_is_in_it(cell: str, shown: str) -> None:
    summary = Summary("T", ("a", "b"))
    summary.row(cell, "x")
    assert summary.markdown().splitlines()[4] == f"| {shown} | x |"


def test_outside_a_run_lines_go_to_the_plain_logger(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="stack-operations"):
        line("100 % of %s done")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("stack-operations", "100 % of %s done")]
    assert flow_run_id() == ""


def test_time_is_taken_also_of_what_fails() -> None:
    with pytest.raises(RuntimeError), timed() as watch:
        raise RuntimeError
    assert watch.seconds > 0


def test_the_version_in_manifests_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
