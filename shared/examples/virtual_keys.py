"""A key for a team: for some models, with a budget, for some time.

Problem: several teams use the gateway, and none of them should have the master key, or spend more than is theirs.
Solution: virtual keys. Whoever has the master key makes them; the gateway keeps only their SHA-256, so the key is shown once.

    export LITELLM_URL=https://... LITELLM_MASTER_KEY=sk-...
    python shared/examples/virtual_keys.py [model]
"""

from __future__ import annotations

import os
import sys
import uuid

import httpx
from openai import AuthenticationError, OpenAI, PermissionDeniedError


def main(model: str) -> int:
    """Make a key, use it, look at what it spent, delete it; returns the exit status."""
    url = os.environ["LITELLM_URL"].rstrip("/")
    master = {"Authorization": f"Bearer {os.environ['LITELLM_MASTER_KEY']}"}
    with httpx.Client(base_url=url, headers=master, timeout=30) as admin:
        made = admin.post(
            "/key/generate",
            json={
                "key_alias": f"example-{uuid.uuid4().hex[:8]}",
                "models": [model],
                "max_budget": 1.0,  # dollars
                "duration": "1h",
                "metadata": {"team": "support"},
            },
        ).raise_for_status()
        key = made.json()["key"]
        print(f"made {made.json()['key_name']}, good until {made.json()['expires']}")
        try:
            use(url, key, model)
            info = admin.get("/key/info", params={"key": made.json()["token_id"]}).raise_for_status().json()["info"]
            print(f"spent ${info['spend']:.6f} of ${info['max_budget']:.2f}")  # written in batches, so it may lag a minute
        finally:
            admin.post("/key/delete", json={"keys": [key]}).raise_for_status()
    try:
        use(url, key, model)
    except AuthenticationError:
        print("deleted, and refused")
        return 0
    print("deleted, and still good: another replica may remember it for a minute", file=sys.stderr)
    return 1


def use(url: str, key: str, model: str) -> None:
    """Ask with a key, for what it may and for what it may not."""
    client = OpenAI(base_url=f"{url}/v1", api_key=key, timeout=60, max_retries=0)
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "ping"}], max_tokens=20)
    print(f"{model}: answered")
    try:
        client.chat.completions.create(model="another-model", messages=[{"role": "user", "content": "ping"}], max_tokens=20)
    except PermissionDeniedError:
        print("another-model: refused, the key is not for it")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "gpt-4o-mini"))
