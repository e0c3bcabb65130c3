"""Runs programs one after the other, as `python <file> <model>` would: importing the OpenAI SDK takes two seconds each time.

    python programs.py <model> '[["<file>", {"VARIABLE": "value"}], ...]'

Prints a JSON list: exit status, stdout and stderr of each.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import sys


def run(path: str, variables: dict[str, str], model: str) -> tuple[int, str, str]:
    """Run one program with some variables changed."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    before = dict(os.environ)
    os.environ.update(variables)
    sys.argv = [path, model]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(path, run_name="__main__")
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return status, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    programs = json.loads(sys.argv[2])
    model = sys.argv[1]
    found = [run(path, variables, model) for path, variables in programs]
    sys.stdout.write(json.dumps(found))
