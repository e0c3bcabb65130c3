"""The operators' documents: their tables are the stack's, and every command in them is one that a test executes."""

from __future__ import annotations

import pytest

from railway import tables
from tests.documents import DOCUMENTS, ROOT, Command, commands

ELSEWHERE = {
    "prefect deployment ls": "tests/nights/test_documents.py",
    "python -m blocks.alerts": "tests/alerts/test_main.py",
    "python -m flows.runbook.acknowledge": "tests/health/test_acknowledging.py",
    "python -m flows.runbook.answer": "tests/runbook/test_answering.py",
    'python shared/scripts/test_setup.py --litellm-url "$LITELLM_URL" --langfuse-url "$LANGFUSE_WEB_URL"': "tests/smoke",
}
"""Commands that are no run of a deployment, and where they are executed; runs are in tests/nights and tests/deploy."""


def test_there_are_the_three_documents() -> None:
    assert [document.name for document in DOCUMENTS] == ["COMPARISON.md", "RUNBOOK.md", "UPGRADE.md"]
    assert len(commands()) > 12


def test_their_tables_are_those_of_the_stack() -> None:
    assert tables.main(["--check", *map(str, DOCUMENTS)]) == 0, "run: python -m railway.tables railway/production/docs/*.md"


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.text[:60])
def test_every_command_is_known_and_its_parameters_fit(command: Command) -> None:
    if command.deployment:
        flow = command.flow()
        flow.validate_parameters(command.parameters_of_the_run)
    else:
        assert (ROOT / ELSEWHERE[command.text]).exists()
