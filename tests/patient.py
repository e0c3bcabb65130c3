"""A client of a Prefect server that waits its turn: on SQLite the server answers 503, at once, where two write at a time."""

from __future__ import annotations

import httpx

from shared.engines.process import wait_until

__all__ = ["patient_client"]

PATIENCE = 120.0
PAUSE = 0.2


def patient_client(url: str, auth: str = "") -> httpx.Client:
    """Return a client with the server's API as its base.

    Args:
        url: PREFECT_API_URL. auth: `user:password` of a server that has one.
    """
    user, _, password = auth.partition(":")
    # the server closes connections that are idle whenever it likes, so none is kept
    transport = _Patient(limits=httpx.Limits(max_keepalive_connections=0))
    return httpx.Client(
        base_url=url, auth=(user, password) if auth else None, timeout=60.0, trust_env=False, transport=transport
    )


class _Patient(httpx.HTTPTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answers: list[httpx.Response] = []

        def is_answered() -> bool:
            for refused in answers:
                refused.close()
            answers[:] = [super(_Patient, self).handle_request(request)]
            return answers[0].status_code != httpx.codes.SERVICE_UNAVAILABLE

        what = f"the Prefect server to take {request.method} {request.url.path}"
        wait_until(is_answered, timeout=PATIENCE, what=what, pause=PAUSE)
        return answers[0]
