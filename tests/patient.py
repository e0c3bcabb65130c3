"""A client of the Prefect server that waits its turn: on SQLite the server answers 503 while somebody else writes."""

from __future__ import annotations

import httpx

from shared.engines.process import wait_until

__all__ = ["patient_client"]

PATIENCE = 120.0


def patient_client(url: str) -> httpx.Client:
    """Return a client with the server's API as its base.

    Args:
        url: PREFECT_API_URL.
    """
    return httpx.Client(base_url=url, timeout=60.0, trust_env=False, transport=_Patient())


class _Patient(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answers: list[httpx.Response] = []

        def is_answered() -> bool:
            for refused in answers:
                refused.close()
            answers[:] = [super(_Patient, self).handle_request(request)]
            return answers[0].status_code != httpx.codes.SERVICE_UNAVAILABLE

        wait_until(
            is_answered, timeout=PATIENCE, what=f"the Prefect server to take {request.method} {request.url.path}", pause=0.2
        )
        return answers[0]
