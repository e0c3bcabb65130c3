"""A sweep runs every minute in a process of its own: what it imports is paid 1,440 times a day."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "boto3",
    "botocore",
    "prefect_aws",
    "prefect.server",
    "fastapi",
    "sqlalchemy",
    "clickhouse_connect",
    "pandas",
    "jinja2",
)


def test_a_sweep_imports_no_library_that_it_can_do_without() -> None:
    program = f"import sys, flows.health.flow; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
