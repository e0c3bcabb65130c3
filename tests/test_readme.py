"""The README says what is so: its tables are compared with the code."""

from __future__ import annotations

import re
import tomllib

import pytest

from blocks.settings import Settings
from shared.sandbox.stack import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_table_with_its_description(name: str) -> None:
    rows = [line for line in README.splitlines() if line.startswith(f"| `{name.upper()}` |")]
    assert len(rows) == 1, f"{name.upper()} needs one row in the README's settings table"
    assert rows[0].endswith(f"| {Settings.model_fields[name].description} |")


def test_every_dependency_has_a_row_that_says_what_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    grouped = [item for group in project["dependency-groups"].values() for item in group if isinstance(item, str)]
    wanted = [*project["project"]["dependencies"], *grouped]
    names = {re.split(r"[\[<>=~]", item)[0] for item in wanted}
    table = README.split("## Dependencies")[1].split("## ")[0]
    assert [name for name in sorted(names) if name not in table and not name.startswith("types-")] == []


def test_no_placeholder_is_left() -> None:
    assert re.findall(r"^@[A-Z_]+@$", README, flags=re.MULTILINE) == []
