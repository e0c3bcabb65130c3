"""No secret of the stack is seen anywhere but where it belongs: not in logs, artifacts, arguments, errors or the store."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.nights.night import Night


@pytest.fixture
def canaries(night: Night) -> dict[str, str]:
    """Every secret of the stack by name; each is random, so that finding it anywhere is proof of a leak."""
    environment = night.environment
    secrets = {
        name: environment[name]
        for name in (
            "CLICKHOUSE_PASSWORD",
            "MINIO_SECRET_KEY",
            "BACKUP_AGE_IDENTITY",
            "BACKUP_SIGNING_KEY",
            "LITELLM_SALT_KEY",
            "ENCRYPTION_KEY",
        )
    }
    for role, password in night.sandbox.keys.postgres_passwords.items():
        secrets[f"password of {role}"] = password
    assert all(len(secret) >= 16 for secret in secrets.values())
    return secrets


@contextmanager
def watched_arguments() -> Iterator[set[bytes]]:
    """Collect the command lines of all processes, again and again, while the body runs."""
    seen: set[bytes] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            for entry in os.scandir("/proc"):  # psutil would take a quarter of a core
                if entry.name.isdigit():
                    with suppress(OSError):  # it ended meanwhile
                        seen.add(Path(entry.path, "cmdline").read_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.mark.long
def test_no_secret_appears_in_logs_arguments_artifacts_or_the_store(night: Night, canaries: dict[str, str]) -> None:
    with watched_arguments() as arguments:
        result = night.sandbox.run_deployment("backup/on-demand", {"request": {"label": "canary"}})
        assert result.ok, result.message
        night.run("drill")
        request = {"components": ["postgres/langfuse"], "replace": True, "confirm": night.stack.name}
        restored = night.run("restore", request)
        failed = night.start("restore", {**request, "set_id": "nosuch"})
        assert failed.wait() != 0
    artifacts = [night.sandbox.artifact(f"{key}-{night.stack.name}") for key in ("backup", "catalogue", "drill", "restore")]
    manifest = night.newest()
    prefix = f"{night.store.root}sets/{manifest.id}/"
    readable = [night.store.get(key).decode(errors="replace") for key in night.objects() if is_readable(key)]
    places = {
        "process arguments": b"\n".join(arguments).decode(errors="replace"),
        "the run's logs": night.sandbox.flow_logs(result.id),
        "a flow's output": restored.output + failed.output,
        "artifacts": "\n".join(text or "" for text in artifacts),
        "readable objects of the store": "\n".join(readable),
        "logs of the Prefect programs": "\n".join(p.read_text(errors="replace") for p in night.sandbox.logs.rglob("*.log")),
    }
    assert any(b"pg_dump" in line for line in arguments), "the watch saw no pg_dump, so it proved nothing"
    assert prefix + "manifest.json" in night.objects()
    leaks = [f"{name} in {place}" for name, secret in canaries.items() for place, text in places.items() if secret in text]
    assert leaks == []


def is_readable(key: str) -> bool:
    """Whether an object of the store is text that anybody with the store's keys can read."""
    return key.endswith((".json", ".md", ".sh", "/.backup"))
