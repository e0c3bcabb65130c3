"""LiteLLM's migrations, out of the wheel that has them: `litellm-proxy-extras`, from the package index, by its name.

Nothing of it is installed or executed but its SQL, and that on a scratch database only. pip compares what it fetches with the
hash that the index names. Another index, a mirror or a folder is chosen as pip always has it: PIP_INDEX_URL, PIP_FIND_LINKS.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.errors import IntegrityError, ServiceError, SettingsError

__all__ = ["Migration", "Wheel", "extras_of", "fetch", "read"]

PACKAGE = "litellm-proxy-extras"
_TIMEOUT_S = 300
_FILE = re.compile(r"litellm_proxy_extras/migrations/(?P<name>[^/]+)/migration\.sql")
_WANTS = re.compile(r"litellm[-_.]proxy[-_.]extras\s*\(?\s*==\s*(?P<version>[0-9][0-9A-Za-z.]*)", re.IGNORECASE)
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+){1,3}(?:[a-z]+[0-9]+)?")
_LARGEST = 8 * 1024 * 1024
_MOST = 5000
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Migration:
    """One migration.

    Attributes:
        name: of its folder, which begins with a time: the order in which they are applied. sql: its script.
    """

    name: str
    sql: bytes

    @property
    def checksum(self) -> str:
        """SHA-256 of the script, hex, as Prisma records it."""
        return hashlib.sha256(self.sql).hexdigest()


@dataclass(frozen=True)
class Wheel:
    """The migrations of a version.

    Attributes:
        version: of the package. sha256: of the file, hex. migrations: in order.
    """

    version: str
    sha256: str
    migrations: tuple[Migration, ...]


def extras_of(litellm: str) -> str:
    """Ask the package index which version of the package a LiteLLM comes with.

    Args:
        litellm: its version, `1.102.4`.
    Raises:
        SettingsError: the index has no such LiteLLM (some releases are images only), or it names no version.
        ServiceError: the index does not answer.
    """
    done = _pip("install", "--dry-run", "--ignore-installed", "--report", "-", f"litellm=={_valid(litellm)}")
    try:
        report: dict[str, Any] = json.loads(done)
        wanted = report["install"][0]["metadata"].get("requires_dist") or []
    except (ValueError, LookupError, AttributeError):
        raise ServiceError("rehearsal: pip's report is not what was expected; give extras_version yourself") from None
    found = {match["version"] for one in wanted if (match := _WANTS.match(one))}
    if len(found) != 1:
        raise SettingsError(
            f"rehearsal: litellm {litellm} names no single version of {PACKAGE}, expected one; give extras_version, as its "
            "pyproject.toml has it"
        )
    return found.pop()


def fetch(version: str, folder: Path) -> Wheel:
    """Fetch the wheel of a version, and read it.

    Args:
        version: of litellm-proxy-extras. folder: for the file.
    Raises:
        SettingsError: the index has no such version. ServiceError: it does not answer. IntegrityError: the file is damaged.
    """
    _pip("download", "--dest", str(folder), f"{PACKAGE}=={_valid(version)}")
    files = sorted(folder.glob("litellm_proxy_extras-*.whl"))
    if len(files) != 1:
        raise ServiceError(f"rehearsal: {len(files)} wheels of {PACKAGE} {version} came, expected one; see the package index")
    return read(files[0], version)


def read(file: Path, version: str) -> Wheel:
    """Read the migrations out of a wheel.

    Raises:
        IntegrityError: it is no wheel, or has no migrations.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = {match["name"]: info for info in archive.infolist() if (match := _FILE.fullmatch(info.filename))}
            if sum(info.file_size for info in members.values()) > _LARGEST or len(members) > _MOST:
                raise IntegrityError(f"rehearsal: the migrations in {file.name} are too large to be migrations; look at it")
            found = tuple(Migration(name, archive.read(members[name])) for name in sorted(members))
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise IntegrityError(f"rehearsal: {file.name} is no wheel ({type(error).__name__}); fetch it again") from None
    if not found:
        raise IntegrityError(f"rehearsal: {file.name} has no migrations, expected those of LiteLLM; is it {PACKAGE}?")
    return Wheel(version, hashlib.sha256(file.read_bytes()).hexdigest(), found)


def _pip(*arguments: str) -> str:
    """Run pip; returns what it printed. Wheels only, so that nothing that is fetched is executed."""
    command, *rest = arguments
    options = ["--no-deps", "--only-binary", ":all:", "--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    environment = {key: value for key, value in os.environ.items() if key in _INHERITED or key.startswith("PIP_")}
    argv = [sys.executable, "-m", "pip", command, *options, *rest]
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ServiceError(f"rehearsal: the package index did not answer within {_TIMEOUT_S} s; try again") from None
    if done.returncode == 0:
        return done.stdout
    if "(from versions: none)" in done.stderr:  # pip says the same of an index that does not answer
        raise ServiceError(
            f"rehearsal: the package index names no version of {rest[-1].partition('==')[0]} at all; is it reachable, are "
            "PIP_INDEX_URL and the like right?"
        )
    if "No matching distribution" in done.stderr:
        raise SettingsError(
            f"rehearsal: the package index has no {rest[-1]}, expected a release of it; some LiteLLMs are images only: then "
            "give extras_version"
        )
    said = done.stderr.strip().splitlines()
    raise ServiceError(
        f"rehearsal: pip could not fetch {rest[-1]}: {_scrubbed(said[-1]) if said else 'no reason given'}; try again"
    )


def _valid(version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise SettingsError(f"rehearsal: {version[:80]!r} is no version, expected one as 1.102.4")
    return version


def _scrubbed(text: str) -> str:
    """Without the password that an index's URL may have."""
    return re.sub(r"://[^/@\s]+@", "://...@", text)[:300]
