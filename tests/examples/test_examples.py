"""Every example is run as a person runs it, and does what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.sandbox.stack import ROOT, Sandbox

FOLDER = ROOT / "shared/examples"
SAYS = {
    "completion": r"^pong\n\d+ tokens, answered by ",
    "streaming": r"^pong\n[2-9] pieces, \d+ tokens$",
    "metadata": r"^pong\ntrace [0-9a-f]{32}$",
    "tracing": r"^trace [0-9a-f]{32}: answer, plan$",
    "virtual_keys": r"^made sk-\.{3}.{4}, good until .*\nmock-gpt: answered\nanother-model: refused.*\nspent .*\ndeleted",
}
WRONG = "completion, with a wrong key"

Outputs = dict[str, tuple[int, str, str]]


@pytest.fixture(scope="module")
def outputs(applications: Sandbox) -> Outputs:
    """Exit status, stdout and stderr of each example."""
    environment = applications.environment()
    variables = {
        "PATH": os.environ["PATH"],
        "LITELLM_URL": environment["LITELLM_URL"],
        "LITELLM_API_KEY": environment["LITELLM_MASTER_KEY"],
        "LITELLM_MASTER_KEY": environment["LITELLM_MASTER_KEY"],
        "LANGFUSE_HOST": environment["LANGFUSE_WEB_URL"],
        "LANGFUSE_PUBLIC_KEY": environment["LANGFUSE_PUBLIC_KEY"],
        "LANGFUSE_SECRET_KEY": environment["LANGFUSE_SECRET_KEY"],
    }
    programs: list[tuple[str, dict[str, str]]] = [(str(FOLDER / f"{name}.py"), {}) for name in SAYS]
    programs.append((str(FOLDER / "completion.py"), {"LITELLM_API_KEY": "sk-wrong-canary"}))
    command = [sys.executable, str(Path(__file__).with_name("programs.py")), "mock-gpt", json.dumps(programs)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=280, check=False, cwd=FOLDER)
    assert done.returncode == 0, done.stderr
    return dict(zip([*SAYS, WRONG], json.loads(done.stdout), strict=True))


def test_there_is_no_example_that_is_not_tested() -> None:
    assert sorted(SAYS) == sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", SAYS)
def test_an_example_does_what_it_says(name: str, outputs: Outputs) -> None:
    status, said, complained = outputs[name]
    assert (status, complained) == (0, "")
    assert re.search(SAYS[name], said.strip()), said


def test_an_example_says_why_it_does_not_work(outputs: Outputs) -> None:
    status, _, complained = outputs[WRONG]
    assert (status, complained.split(":")[0]) == (1, "the gateway answers 401")
    assert "canary" not in complained


def test_an_example_needs_nothing_of_this_project() -> None:
    for path in FOLDER.glob("*.py"):
        assert not re.search(r"^(from|import) (blocks|flows|shared|railway)", path.read_text(encoding="utf-8"), re.MULTILINE)
