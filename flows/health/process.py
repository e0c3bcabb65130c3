"""The program that a worker starts for a sweep: Prefect's engine, which it would start itself, but once and with less ado.

Where a deployment names no command, Prefect's worker starts a program that looks at the deployment, and this one starts the
engine: both import Prefect, which is most of what a sweep costs. And four fifths of a sweep are imports, in which the garbage
collector looks through half a million objects again and again that all stay; so it looks less often (`make bench`, sweep_cpu).
"""

from __future__ import annotations

import gc
import runpy

OBJECTS = 100_000
"""So many new objects, net, before the collector looks, in the place of 700."""

if __name__ == "__main__":
    gc.set_threshold(OBJECTS, 50, 50)
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
