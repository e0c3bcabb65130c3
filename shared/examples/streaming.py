"""An answer word by word.

Problem: people should see the answer as it is written.
Solution: `stream=True`; the pieces come through the gateway as the provider sends them. What it cost comes with the last event,
where it is asked for.

    export LITELLM_URL=https://... LITELLM_API_KEY=sk-...
    python shared/examples/streaming.py [model]
"""

from __future__ import annotations

import os
import sys

from openai import OpenAI


def main(model: str) -> int:
    """Print an answer as it comes; returns the exit status."""
    client = OpenAI(base_url=f"{os.environ['LITELLM_URL'].rstrip('/')}/v1", api_key=os.environ["LITELLM_API_KEY"], timeout=60)
    pieces, tokens = 0, 0
    with client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Count from one to ten, in words."}],
        max_tokens=100,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for event in stream:
            if event.choices and event.choices[0].delta.content:
                pieces += 1
                print(event.choices[0].delta.content, end="", flush=True)
            if event.usage is not None:  # the last event; it has no choices
                tokens = event.usage.total_tokens
    print(f"\n{pieces} pieces, {tokens} tokens")
    return 0 if pieces else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "gpt-4o-mini"))
