"""A completion through the gateway, with the OpenAI SDK as it is.

Problem: an application speaks OpenAI's API and should reach any provider's models, with one key, budgets and traces.
Solution: give its client the gateway's address. Nothing else changes; the model is whatever the gateway calls it.

    export LITELLM_URL=https://... LITELLM_API_KEY=sk-...
    python shared/examples/completion.py [model]
"""

from __future__ import annotations

import os
import sys

from openai import APIConnectionError, APIStatusError, OpenAI


def main(model: str) -> int:
    """Ask one question; returns the exit status."""
    client = OpenAI(
        base_url=f"{os.environ['LITELLM_URL'].rstrip('/')}/v1",
        api_key=os.environ["LITELLM_API_KEY"],
        timeout=60,  # seconds; the SDK's own default is ten minutes
        max_retries=2,  # of what can be repeated: the gateway has its own retries and fallbacks
    )
    try:
        answer = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "In one sentence: what is a gateway?"}],
            max_tokens=100,
        )
    except APIStatusError as error:
        # 401: the key; 400: no such model; 429: a limit or the key's budget. LiteLLM's message says which.
        print(f"the gateway answers {error.status_code}: {error.message}", file=sys.stderr)
        return 1
    except APIConnectionError as error:
        print(f"the gateway does not answer: {error.__cause__}", file=sys.stderr)
        return 1
    print(answer.choices[0].message.content)
    if answer.usage is not None:
        print(f"{answer.usage.total_tokens} tokens, answered by {answer.model}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "gpt-4o-mini"))
