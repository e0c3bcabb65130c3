"""Several requests as one trace, read back from Langfuse.

Problem: one question of a user takes several requests to models, and they should be seen, timed and paid for together.
Solution: the same `trace_id` in each of them, and a `generation_name` that tells them apart. Langfuse's API has what was
recorded.

    export LITELLM_URL=https://... LITELLM_API_KEY=sk-...
    export LANGFUSE_HOST=https://... LANGFUSE_PUBLIC_KEY=pk-lf-... LANGFUSE_SECRET_KEY=sk-lf-...
    python shared/examples/tracing.py [model]

Recording is not immediate: queue and worker take some seconds, and half a minute around midnight UTC.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from typing import Any

import httpx
from openai import OpenAI

DEADLINE = 90.0
"""Seconds until both requests must be there."""


def main(model: str) -> int:
    """Ask twice within one trace and wait until Langfuse shows both; returns the exit status."""
    client = OpenAI(base_url=f"{os.environ['LITELLM_URL'].rstrip('/')}/v1", api_key=os.environ["LITELLM_API_KEY"], timeout=60)
    trace = uuid.uuid4().hex
    asked = ask(client, model, trace, "plan", "Name three things to check when a parcel is late.")
    ask(client, model, trace, "answer", f"Write a kind answer to the customer, from: {asked}")
    login = (os.environ["LANGFUSE_PUBLIC_KEY"], os.environ["LANGFUSE_SECRET_KEY"])
    with httpx.Client(base_url=os.environ["LANGFUSE_HOST"], auth=login, timeout=10) as langfuse:
        end = time.monotonic() + DEADLINE
        while len(names := recorded(langfuse, trace)) < 2:
            if time.monotonic() > end:
                print(f"trace {trace}: {len(names)} of 2 requests after {DEADLINE:.0f} s", file=sys.stderr)
                return 1
            time.sleep(1)
    print(f"trace {trace}: {', '.join(sorted(names))}")
    return 0


def ask(client: OpenAI, model: str, trace: str, name: str, question: str) -> str:
    """Ask a model as a named part of a trace."""
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=100,
        extra_body={"metadata": {"trace_id": trace, "trace_name": "late-parcel", "generation_name": name}},
        extra_headers={"traceparent": f"00-{trace}-{trace[:16]}-01"},
    )
    return answer.choices[0].message.content or ""


def recorded(langfuse: httpx.Client, trace: str) -> list[str]:
    """The names of what Langfuse has recorded of a trace: version 4 by observations, version 3 by traces."""
    answer = langfuse.get("/api/public/v2/observations", params={"traceId": trace})
    if answer.is_success:
        found: list[dict[str, Any]] = answer.json()["data"]
    else:
        answer = langfuse.get(f"/api/public/traces/{trace}")
        found = answer.json()["observations"] if answer.is_success else []
    return [str(one["name"]) for one in found]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "gpt-4o-mini"))
