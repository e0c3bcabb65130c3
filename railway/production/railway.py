"""The production stack, nine services, for Railway's own CLI: `railway config plan --file railway/production/railway.py`.

WORKER_IMAGE names the image of the worker, which you have built from `railway/worker/Dockerfile` and pushed.

The CLI runs this file with the first `python3` of PATH, so activate `.venv` before. It needs a CLI newer than 5.43.1, which
takes services that have Postgres' and Redis' images for something else. Read a plan before you apply it: services and variables
of the environment that are not in this file are planned for deletion, and secrets must be there before (README).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the CLI imports this file by its path, from anywhere

from railway.graph import planned

KEPT = {"litellm": ["GEMINI_API_KEY", "AZURE_API_KEY"]}
"""Variables that you have set by hand, by service: they stay as they are. Settings of the project on its worker always do."""


def main() -> object:
    """Return the project; the CLI passes no context."""
    return planned("production", langfuse_major=3, object_store="minio", kept=KEPT)
