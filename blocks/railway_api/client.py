"""One GraphQL document to Railway and its answer back (facts: railway.md, appendix B).

Errors come with HTTP 200, too. What only reads is tried again. A change is tried again only where it cannot have arrived: the
connection was never made, or the API refused it with 429. Where its answer was lost the caller gets `Uncertain` and must look.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from blocks.errors import RailwayDenied, RailwayError, RailwayRefused, RateLimited, SettingsError, StackError, Uncertain
from blocks.railway_api.access import TokenKind, headers
from blocks.railway_api.budget import Budget
from blocks.railway_api.documents import Document
from blocks.railway_api.redaction import Secrets
from blocks.retry import retrying

__all__ = ["CHANGE_TIMEOUT", "READ_TIMEOUT", "GraphQL"]

READ_TIMEOUT = 30.0
CHANGE_TIMEOUT = 90.0
"""Seconds without an answer; Railway's own command line waits as long."""

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_VAGUE = re.compile(r"problem processing request|internal server error|\btimed out\b|\btimeout\b", re.IGNORECASE)
"""Answers that do not say whether anything was done."""
_LIMIT = re.compile(r"rate.?limit|too many requests", re.IGNORECASE)
_DENIED = re.compile(r"not authorized|unauthorized|not authenticated", re.IGNORECASE)
_LONGEST = 300
"""Characters of a message of the API that are repeated."""


class GraphQL:
    """Sends documents; a context manager that keeps its connections.

    Args:
        url: of the endpoint. token, kind: what it is shown. secrets: what is cut out of messages; the token is added.
        read_timeout, change_timeout: seconds. patience: seconds that a request may wait because of the rate limit.
    """

    def __init__(
        self,
        url: str,
        token: SecretStr,
        kind: TokenKind,
        secrets: Secrets,
        *,
        read_timeout: float = READ_TIMEOUT,
        change_timeout: float = CHANGE_TIMEOUT,
        patience: float = 60.0,
    ) -> None:
        if not token.get_secret_value():
            raise SettingsError("railway: there is no token; set RAILWAY_TOKEN (of a project) or RAILWAY_API_TOKEN")
        if not urlsplit(url).netloc:
            raise SettingsError("railway: RAILWAY_API_URL is no http(s)://host/path")
        secrets.learn({"RAILWAY_TOKEN": token.get_secret_value()})
        self.budget = Budget(patience)
        self.secrets = secrets
        self._kind: TokenKind = kind
        self._timeouts = {False: read_timeout, True: change_timeout}
        secure = url.startswith("https://")  # httpx reads all authorities' certificates otherwise too: a tenth of a second
        self._url = url  # as it is: httpx would put a slash after a base, and Railway has no such address
        self._client = httpx.Client(headers=headers(token, kind), trust_env=False, verify=secure)

    def __enter__(self) -> GraphQL:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def run(self, document: Document, **variables: Any) -> dict[str, Any]:
        """Send a document.

        Args:
            variables: of the document, by their GraphQL names.
        Returns: what stands below `data`.
        Raises:
            RailwayDenied: the token may not. RailwayRefused: it will not, and why. RateLimited: not now; nothing was done.
            Uncertain: a change may have been made. RailwayError: no answer to a question.
        """
        return retrying(lambda: self._once(document, variables))

    def _once(self, document: Document, variables: Mapping[str, Any]) -> dict[str, Any]:
        self.budget.take(change=document.changes)
        answer = self._post(document, variables)
        if isinstance(answer, StackError):  # raised out here, so that it does not carry the request with it
            raise answer
        self.budget.learn(answer.headers)
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            wait = self.budget.refused(answer.headers)
            raise RateLimited(
                f"railway: {document.name} was refused, too many requests; expected to go on in {wait:.0f} s; nothing was done",
                retry_after=wait,
            )
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise self._denied(document, f"HTTP {answer.status_code}")
        if answer.is_redirect or answer.status_code == httpx.codes.NOT_FOUND:
            raise SettingsError(f"railway: HTTP {answer.status_code} where the API should be; correct RAILWAY_API_URL")
        if answer.is_server_error:
            raise self._lost(document, f"the answer is HTTP {answer.status_code}")
        body = _body(answer)
        if errors := body.get("errors"):
            raise self._error(document, errors)
        data = body.get("data")
        if answer.is_success and isinstance(data, dict):
            return data
        if answer.is_client_error:
            raise RailwayRefused(f"railway: {document.name} was refused with HTTP {answer.status_code} and no reason")
        raise self._lost(document, f"the answer is HTTP {answer.status_code} and no result")

    def _post(self, document: Document, variables: Mapping[str, Any]) -> httpx.Response | StackError:
        request = {"query": document.text, "variables": dict(variables), "operationName": document.name}
        try:
            return self._client.post(self._url, json=request, timeout=self._timeouts[document.changes])
        except _NEVER_SENT as error:
            return RailwayError(
                f"railway: {document.name}: the API cannot be reached ({type(error).__name__}), so nothing was done; "
                "see status.railway.com and RAILWAY_API_URL"
            )
        except httpx.UnsupportedProtocol:
            return SettingsError("railway: RAILWAY_API_URL is no http(s)://host/path")
        except httpx.HTTPError as error:
            return self._lost(document, f"the answer was lost ({type(error).__name__})")

    def _error(self, document: Document, errors: Any) -> StackError:
        """Choose the error for what GraphQL says went wrong."""
        said = "; ".join(str(one.get("message", one)) if isinstance(one, dict) else str(one) for one in _listed(errors))
        what = " ".join(self.secrets.scrub(said).split())[:_LONGEST]
        if _DENIED.search(said):
            return self._denied(document, what)
        if _LIMIT.search(said):
            wait = self.budget.refused({"retry-after": "30"})
            return RateLimited(f"railway: {document.name} was refused: {what}; nothing was done", retry_after=wait)
        if _VAGUE.search(said):
            return self._lost(document, f"the answer is: {what}")
        return RailwayRefused(f"railway: {document.name} was refused: {what}")

    def _denied(self, document: Document, what: str) -> RailwayDenied:
        return RailwayDenied(
            f"railway: {document.name} is not allowed with this {self._kind} token ({what}): it is dead, or its scope is too "
            "small; expected a living token of the workspace; make one in Railway's account settings and set RAILWAY_API_TOKEN"
        )

    def _lost(self, document: Document, what: str) -> RailwayError:
        if document.changes:
            return Uncertain(
                f"railway: {document.name}: {what}; it may have been done: read the state before it is tried again"
            )
        return RailwayError(f"railway: {document.name}: {what}; see status.railway.com, and try again")

    def __repr__(self) -> str:
        return f"GraphQL({self._url}, {self._kind} token)"


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _listed(errors: Any) -> list[Any]:
    return errors if isinstance(errors, list) else [errors]
