"""The gateway's routes for what others tell it.

POST /hooks/railway        header X-Webhook-Secret
POST /hooks/pagerduty      header X-PagerDuty-Signature
POST /hooks/alertmanager   bearer token of its own

Each becomes a Prefect event, once for a body. What comes of it is the automations' business; only that somebody works on an
incident, or does not any more, as PagerDuty tells it, is taken down here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from uuid import UUID

from pydantic import SecretStr
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from blocks.errors import GuardRefused, IntegrityError, ServiceError
from blocks.settings import Settings
from flows.runbook.desk import Working
from railway.gateway import senders
from railway.gateway.answers import body_of, problem, too_many
from railway.gateway.security import LARGEST_HOOK, Limiter, client_of
from railway.gateway.senders import Told, Unreadable
from railway.gateway.telling import Teller, event_of, id_of

__all__ = ["Hooks", "Seen"]

_ACKNOWLEDGED = "stack.pagerduty.incident.acknowledged"
_GIVEN_UP = {f"stack.pagerduty.incident.{kind}" for kind in ("unacknowledged", "reopened", "resolved")}
_REMEMBERED = 5000
"""Bodies that are known as seen; the server drops those that are older."""


class Seen:
    """What came before, so that it is not told again; forgets the oldest."""

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._most = most
        self._known: OrderedDict[UUID, None] = OrderedDict()

    def __contains__(self, one: UUID) -> bool:
        return one in self._known

    def add(self, one: UUID) -> None:
        """Remember it."""
        self._known[one] = None
        while len(self._known) > self._most:
            self._known.popitem(last=False)


@dataclass
class Hooks:
    """What the routes work with.

    Attributes:
        settings: secrets of the senders, and which project and environment are ours.
        teller: takes events. desk: takes people's word that they work on an incident.
        mistakes: wrong secrets by client. rate: of bodies by sender.
    """

    settings: Settings
    teller: Teller
    desk: Working
    mistakes: Limiter = field(default_factory=lambda: Limiter(10, 6.0))
    rate: Limiter = field(default_factory=lambda: Limiter(60, 1.0))
    seen: Seen = field(default_factory=Seen)

    @property
    def handlers(self) -> list[tuple[str, Callable[[Request], Awaitable[Response]], list[str]]]:
        """Path, handler and methods of each route."""
        return [
            ("/hooks/railway", self.railway, ["POST"]),
            ("/hooks/pagerduty", self.pagerduty, ["POST"]),
            ("/hooks/alertmanager", self.alertmanager, ["POST"]),
        ]

    async def railway(self, request: Request) -> Response:
        """Take a webhook of Railway's."""
        ours = self.settings.railway_project_id, self.settings.railway_environment_id
        return await self._take(
            request,
            "railway",
            self.settings.railway_webhook_secret,
            lambda secret, _: senders.same(request.headers.get("x-webhook-secret", ""), secret),
            lambda body: senders.of_railway(body, project=ours[0], environment=ours[1]),
        )

    async def pagerduty(self, request: Request) -> Response:
        """Take a v3 webhook of PagerDuty's."""
        header = request.headers.get("x-pagerduty-signature", "")
        return await self._take(
            request,
            "pagerduty",
            self.settings.pagerduty_webhook_secret,
            lambda secret, body: senders.pagerduty_signed(header, body, secret),
            senders.of_pagerduty,
            self._of_people,
        )

    async def alertmanager(self, request: Request) -> Response:
        """Take a notification of Alertmanager's."""
        header = request.headers.get("authorization", "")
        return await self._take(
            request,
            "alertmanager",
            self.settings.alertmanager_webhook_token,
            lambda token, _: senders.bearer_is(header, token),
            senders.of_alertmanager,
        )

    async def _take(
        self,
        request: Request,
        sender: str,
        secret: SecretStr | None,
        is_theirs: Callable[[str, bytes], bool],
        read: Callable[[bytes], Told | None],
        act: Callable[[Told], Awaitable[None]] | None = None,
    ) -> Response:
        """Verify, read, tell, act. What is known already or about somebody else is answered 200: it is not sent again then."""
        if secret is None:
            name = "ALERTMANAGER_WEBHOOK_TOKEN" if sender == "alertmanager" else f"{sender.upper()}_WEBHOOK_SECRET"
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"set {name} on prefect-worker (openssl rand -hex 32)")
        client = client_of(request)
        try:
            body = await body_of(request, LARGEST_HOOK)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        if body is None:
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LARGEST_HOOK} bytes")
        if not is_theirs(secret.get_secret_value(), body):
            if seconds := self.mistakes.wait(client):
                return too_many("too many wrong secrets came from there", seconds)
            self.mistakes.count(client)
            return problem(HTTPStatus.UNAUTHORIZED, f"not of {sender}: the secret or the signature is wrong or missing")
        event_id = id_of(self.settings.stack_name, sender, body)
        if event_id in self.seen:
            return JSONResponse({"status": "known"})
        if seconds := self.rate.wait(sender):
            return too_many(f"{sender} tells too much", seconds)
        self.rate.count(sender)
        try:
            told = read(body)
            if told is None:
                return JSONResponse({"status": "not ours"})
            await self.teller.tell(event_of(self.settings.stack_name, sender, told, event_id))
            if act is not None:
                await act(told)
        except Unreadable as error:
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{sender}: {error}")
        except ServiceError as error:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        self.seen.add(event_id)
        return JSONResponse({"status": "told", "event": told.event}, HTTPStatus.ACCEPTED)

    async def _of_people(self, told: Told) -> None:
        """Take down what a person did in PagerDuty. What is not open here is another service's business, or over.

        Resolved there is not over here: the sweeps say when it is. Until then people are reminded again.
        """
        incident = told.payload.get("incident")
        if not isinstance(incident, str):
            return
        by = f"pagerduty {told.payload.get('by', '')}".strip()
        with suppress(GuardRefused, IntegrityError):
            if told.event == _ACKNOWLEDGED:
                await self.desk.acknowledge(incident, by)
            elif told.event in _GIVEN_UP:
                await self.desk.withdraw(incident, by)
