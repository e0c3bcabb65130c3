"""What `railway/worker/Dockerfile` and `.dockerignore` say, read as Docker does, as far as they go; it builds nothing."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shared.sandbox.environment import ROOT

DOCKERFILE = ROOT / "railway" / "worker" / "Dockerfile"
IGNORE = ROOT / ".dockerignore"


@dataclass(frozen=True)
class Instruction:
    """One instruction: its word in capitals, and the rest with continued lines joined."""

    word: str
    rest: str


@dataclass(frozen=True)
class Copy:
    """A COPY from the build context: paths in it, and where they go."""

    sources: tuple[str, ...]
    target: str


def stages() -> list[list[Instruction]]:
    """The stages in order, each beginning with its FROM."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.M)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    found: list[list[Instruction]] = []
    for line in filter(str.strip, lines):
        word, _, rest = line.strip().partition(" ")
        if word.upper() == "FROM":
            found.append([])
        found[-1].append(Instruction(word.upper(), rest.strip()))
    return found


def copies(stage: list[Instruction]) -> list[Copy]:
    """What a stage takes from the build context."""
    words = [shlex.split(one.rest) for one in stage if one.word == "COPY" and "--from=" not in one.rest]
    return [Copy(tuple(sources), target) for *sources, target in words]


def only(word: str) -> str:
    """The rest of the one instruction of this word in the last stage."""
    (found,) = [one.rest for one in stages()[-1] if one.word == word]
    return found


def entrypoint() -> list[str]:
    """The command that the image starts."""
    command: list[str] = json.loads(only("ENTRYPOINT"))
    return command


def environment() -> dict[str, str]:
    """The variables that the image sets."""
    return dict(pair.split("=", 1) for pair in shlex.split(only("ENV")))


def is_ignored(path: str) -> bool:
    """Whether `.dockerignore` keeps a path of the context out: the last pattern that fits it or a folder above decides."""
    names = PurePosixPath(path)
    candidates = [str(names), *(str(parent) for parent in names.parents if str(parent) != ".")]
    ignored = False
    for line in IGNORE.read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            excepted = pattern.startswith("!")
            fits = re.compile(_regex(pattern.lstrip("!")))
            if any(fits.fullmatch(candidate) for candidate in candidates):
                ignored = not excepted
    return ignored


def lay_out(folder: Path) -> None:
    """Copy what the last stage copies into its working directory to a folder."""
    for copy in copies(stages()[-1]):
        if copy.target.startswith("/"):
            continue
        for source in copy.sources:
            present = ROOT / source
            for path in [present] if present.is_file() else sorted(present.rglob("*")):
                name = path.relative_to(ROOT).as_posix()
                if path.is_file() and not is_ignored(name):
                    target = folder / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target)


def _regex(pattern: str) -> str:
    """As Go's filepath.Match, and `**` for any folders, which Docker adds."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.rstrip("/"))
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(meaning.get(part, re.escape(part)) for part in parts)
