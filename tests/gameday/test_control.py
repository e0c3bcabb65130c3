"""What Prefect's server says of runs, as a game day reads it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.gameday.control import run_of

AT = "2026-11-26T12:32:12.983081Z"
LATER = "2026-11-26T12:32:31.100000Z"


@pytest.mark.parametrize(
    ("state", "start", "end", "has_begun"),
    [
        ("SCHEDULED", None, None, False),
        ("RUNNING", AT, None, True),
        ("COMPLETED", AT, LATER, True),
        ("CANCELLED", AT, LATER, True),
        ("CANCELLED", AT, AT, False),
    ],
    ids=["waits", "runs", "has ended", "somebody ended it", "its deployment's limit did not let it begin"],
)
def test_a_run_that_never_began_is_no_sweep_that_looked(
    state: str, start: str | None, end: str | None, has_begun: bool
) -> None:
    said: dict[str, Any] = {"id": "r", "flow_id": "f", "parameters": {}, "state_type": state, "state": None}
    run = run_of({**said, "start_time": start, "end_time": end}, {"f": "health"})
    assert (run.begun is not None) is has_begun
