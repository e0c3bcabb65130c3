"""`make bench`: speed, size and memory against plain tools; writes bench-report.json."""

from __future__ import annotations

import argparse
import sys

from shared.sandbox.bench.clickhouse import ClickHouseRows
from shared.sandbox.bench.copies import copy_row
from shared.sandbox.bench.gateway import gateway_load
from shared.sandbox.bench.measure import Measurements
from shared.sandbox.bench.postgres import PostgresRows
from shared.sandbox.bench.sweep import watch_rows
from shared.sandbox.bench.vault import VaultRows
from shared.sandbox.stack import ROOT, Sandbox

PARTS = ("postgres", "memory", "clickhouse", "buckets", "catalogue", "copies", "gateway", "watch")


def main() -> int:
    """Run the measurements; returns the exit status: 0 when every goal holds."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the Postgres database")
    parser.add_argument("--million-rows", type=float, default=10.0, help="rows of the ClickHouse database")
    parser.add_argument("--thousand-objects", type=int, default=100, help="objects of the bucket")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    options = parser.parse_args()
    with Sandbox(ROOT / ".sandbox" / "bench", prefect=False) as sandbox:
        bench = Measurements(sandbox, repeats=options.repeats)
        postgres = PostgresRows(bench)
        vault = VaultRows(bench, options.thousand_objects * 1000)
        if {"postgres", "memory"} & {*options.only}:
            postgres.load(options.gigabytes)
        if "postgres" in options.only:
            postgres.speed()
        if "memory" in options.only:
            postgres.memory("memory_1gb")
            postgres.load(4 * options.gigabytes)
            postgres.memory("memory_4gb")
        if "clickhouse" in options.only:
            ClickHouseRows(bench, options.million_rows).speed()
        if "copies" in options.only:
            copy_row(bench.stack, bench.compare, gigabytes=options.gigabytes)
        if "buckets" in options.only:
            vault.buckets()
        if "catalogue" in options.only:
            vault.catalogue()
        if "gateway" in options.only:
            gateway_load(bench)
        if "watch" in options.only:
            watch_rows(bench)
        return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
