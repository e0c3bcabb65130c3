"""The commands that the operators' documents tell people to type."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["DOCUMENTS", "Command", "commands"]

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted((ROOT / "railway/production/docs").glob("*.md"))
_BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_RUN = ["prefect", "deployment", "run"]


@dataclass(frozen=True)
class Command:
    """One line of a block."""

    document: str
    text: str

    @property
    def deployment(self) -> str:
        """The deployment that it runs; empty where it does something else."""
        words = shlex.split(self.text)
        return words[3] if words[:3] == _RUN else ""

    @property
    def parameters(self) -> dict[str, Any]:
        """What it gives the flow."""
        rest = shlex.split(self.text)[4:]
        assert [word for word in rest if word != "--watch"][::2] in ([], ["--params"]), f"{self.text}: read this by hand"
        found: dict[str, Any] = json.loads(rest[rest.index("--params") + 1]) if "--params" in rest else {}
        return found

    @property
    def parameters_of_the_run(self) -> dict[str, Any]:
        """What the flow gets: those of the deployment, and what is given here in their place."""
        given: dict[str, Any] = self._deployment().get("parameters", {})
        return {**given, **self.parameters}

    def flow(self) -> Any:
        """Import the flow that its deployment is of."""
        path, _, function = self._deployment()["entrypoint"].partition(":")
        return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)

    def _deployment(self) -> dict[str, Any]:
        deployments: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
        for one in deployments:
            path, _, function = one["entrypoint"].partition(":")
            flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)
            if f"{flow.name}/{one['name']}" == self.deployment:
                return one
        raise AssertionError(f"{self.document}: there is no deployment {self.deployment}")


def commands() -> list[Command]:
    """Return every line in a block of `sh` of the documents, each once, without what only sets a variable."""
    found = [
        Command(document.name, line.strip())
        for document in DOCUMENTS
        for block in _BLOCK.findall(document.read_text(encoding="utf-8"))
        for line in block.splitlines()
        if line.strip() and not line.strip().startswith("export ")
    ]
    return list({command.text: command for command in found}.values())
