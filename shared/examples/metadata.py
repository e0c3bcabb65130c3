"""Who asked, in which conversation, and what for: metadata that Langfuse shows and sums up.

Problem: in Langfuse every request looks the same.
Solution: `metadata` in the request's body. The gateway's callback understands `trace_id`, `trace_name`, `trace_user_id`,
`session_id`, `generation_name`, `trace_metadata` and `tags`; the SDK passes them in `extra_body`.

A trace's id is best 32 hex digits: every version of the callback takes those. Without `trace_id` each request has its own.

    export LITELLM_URL=https://... LITELLM_API_KEY=sk-...
    python shared/examples/metadata.py [model]
"""

from __future__ import annotations

import os
import sys
import uuid

from openai import OpenAI


def main(model: str) -> int:
    """Ask one question and say where its trace is; returns the exit status."""
    client = OpenAI(base_url=f"{os.environ['LITELLM_URL'].rstrip('/')}/v1", api_key=os.environ["LITELLM_API_KEY"], timeout=60)
    trace = uuid.uuid4().hex
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "My order has not arrived. What now?"}],
        max_tokens=100,
        user="customer-4711",  # the end user, in LiteLLM's own spend reports
        extra_body={
            "metadata": {
                "trace_id": trace,
                "trace_name": "support-chat",
                "trace_user_id": "customer-4711",
                "session_id": "conversation-17",
                "generation_name": "first-answer",
                "trace_metadata": {"release": "2026-11"},
            }
        },
        # where the callback is langfuse_otel, the trace has the id of this header
        extra_headers={"traceparent": f"00-{trace}-{trace[:16]}-01"},
    )
    print(answer.choices[0].message.content)
    print(f"trace {trace}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "gpt-4o-mini"))
