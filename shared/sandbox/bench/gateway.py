"""The row about the gateway: requests at a fixed rate, whatever the answers do, and how long the slowest of them wait."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

from blocks.s3_light import LightStore
from flows.health.history_store import history_prefix
from flows.health.targets import Targets
from shared.engines.process import ManagedProcess, free_port
from shared.sandbox.bench.measure import Measurements
from shared.sandbox.sample_history import days, published
from shared.sandbox.stack import ROOT

__all__ = ["gateway_load"]

RATE = 200
"""Requests a second."""
SECONDS = 20
CONNECTIONS = 20
P99_MS = 50.0
"""Goal."""
MEMORY_MB = 200.0
_PATHS = ("/", "/", "/", "/metrics", "/health")


def gateway_load(bench: Measurements) -> None:
    """Serve ninety days of nine services to 200 requests a second, while a sweep a second publishes anew."""
    environment = bench.sandbox.environment()
    _store_days(bench)
    folder = Path(environment["TMPDIR"]) / "gateway"
    folder.mkdir(exist_ok=True)
    state, port = folder / "state.json", free_port()
    _publish(state)
    gateway = ManagedProcess(
        "gateway",
        [sys.executable, "-m", "railway.gateway", "--host", "127.0.0.1", "--port", str(port), "--state", str(state)],
        log=folder / "gateway.log",
        env={**environment, "GATEWAY_PUBLIC": "true"},
        cwd=ROOT,
    )
    gateway.start(lambda: _shows_history(port), timeout=60)
    try:
        times = sorted(asyncio.run(_load(port, state)))
        memory = psutil.Process(gateway.pid).memory_info().rss / 1e6
    finally:
        gateway.stop()
    p50, p99 = statistics.median(times), times[len(times) * 99 // 100]
    said = f"{len(times)} requests at {RATE}/s: median {p50:.1f} ms, p99 {p99:.1f} ms, slowest {times[-1]:.1f} ms"
    bench.console.print(f"gateway: {said}", highlight=False)
    bench.add("gateway_load", p99, P99_MS, "ms", at_most=1.0)
    bench.add("gateway_memory", memory, MEMORY_MB, "MB", at_most=1.0)


def _store_days(bench: Measurements) -> None:
    target = Targets.from_settings(bench.stack.settings).store
    if target is None:
        raise AssertionError("the sandbox has a store")
    with LightStore(target.place, target.root) as store:
        for day, made in days(datetime.now(UTC)).items():
            store.put(f"{history_prefix(store)}{day}.json.zst", made.pack())


def _publish(state: Path) -> None:
    draft = state.with_suffix(".new")
    draft.write_text(published(datetime.now(UTC), {"redis": "degraded"}).model_dump_json())
    draft.replace(state)


def _shows_history(port: int) -> bool:
    try:
        page = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False, timeout=5).text
    except httpx.TransportError:
        return False
    return "99.9" in page and "no data yet" not in page


async def _load(port: int, state: Path) -> list[float]:
    """Send requests at their times, each on whichever connection is free; returns ms from that time to the whole answer."""
    connections: asyncio.Queue[_Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        connections.put_nowait(_Connection(*await asyncio.open_connection("127.0.0.1", port)))
    begun = time.perf_counter() + 0.1
    publishing = asyncio.create_task(_publish_every_second(state))
    times = await asyncio.gather(*(_request(connections, begun + number / RATE, number) for number in range(RATE * SECONDS)))
    publishing.cancel()
    while not connections.empty():
        connections.get_nowait().close()
    return list(times)


async def _request(connections: asyncio.Queue[_Connection], due: float, number: int) -> float:
    await asyncio.sleep(due - time.perf_counter())
    connection = await connections.get()  # waiting for a free one is waiting for an answer
    await connection.get(_PATHS[number % len(_PATHS)])
    connections.put_nowait(connection)
    return (time.perf_counter() - due) * 1000


async def _publish_every_second(state: Path) -> None:
    while True:
        await asyncio.to_thread(_publish, state)
        await asyncio.sleep(1)


class _Connection:
    """One kept-alive HTTP/1.1 connection: less work than a client's, which would be measured as the gateway's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def get(self, path: str) -> None:
        """Ask, and read the whole answer.

        Raises:
            AssertionError: it is not 200.
        """
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        if " 200 " not in head[0]:
            raise AssertionError(f"{path}: {head[0]}")
        await self._reader.readexactly(_length(head))

    def close(self) -> None:
        """Close it."""
        self._writer.close()


def _length(head: Sequence[str]) -> int:
    return next(int(line.partition(":")[2]) for line in head if line.startswith("content-length:"))
