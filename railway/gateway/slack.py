"""Pressed buttons of Slack messages: POST /hooks/slack, which is the interactivity request URL of the Slack app.

Slack signs what it sends; older than five minutes, or a second time, it is refused or ignored. Only users who are named in
SLACK_USERS may press. Slack wants an answer within three seconds, so what is pressed is done after it, and what came of it is
said in the message's thread.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import parse_qs
from uuid import UUID

import httpx
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from blocks.alerts.slack_message import ACKNOWLEDGE, APPROVE, REJECT, RUNBOOK
from blocks.errors import StackError
from blocks.settings import Settings
from flows.runbook.desk import Working
from railway.gateway.answering import Answers
from railway.gateway.answers import body_of, problem, too_many
from railway.gateway.hooks import Seen
from railway.gateway.security import LARGEST_HOOK, Limiter, client_of
from railway.gateway.senders import Told, Unreadable, slack_signed
from railway.gateway.starting import Starter
from railway.gateway.telling import Teller, event_of, id_of

__all__ = ["Press", "Slack", "Speaker", "WebSpeaker", "read_press"]

DISPATCH = "runbook/dispatch"
_USER = re.compile(r"[A-Z0-9]{2,30}")
_TS = re.compile(r"\d{1,12}\.\d{1,8}")
_log = logging.getLogger("railway.gateway")


@dataclass(frozen=True)
class Press:
    """A pressed button.

    Attributes:
        action, value: of the button. user: its Slack id. reply: URL for an answer. thread: of the message.
    """

    action: str
    value: str
    user: str
    reply: str = ""
    thread: str = ""


class Speaker(Protocol):
    """Something that says a sentence where a button was pressed. It never fails: what cannot be said is logged."""

    async def say(self, press: Press, sentence: str, *, to_all: bool) -> None:
        """Say it, to everybody in the message's thread or to the user alone."""


class WebSpeaker:
    """Slack's response URLs (docs.slack.dev/interactivity/handling-user-interaction).

    Args:
        host: where they must be: a body must not make the gateway speak to anybody else.
    """

    def __init__(self, host: str = "hooks.slack.com") -> None:
        self._host = host

    async def say(self, press: Press, sentence: str, *, to_all: bool) -> None:
        """See `Speaker`."""
        if not press.reply.startswith(f"https://{self._host}/"):
            return
        content: dict[str, Any] = {"text": sentence, "replace_original": False}
        content |= {"response_type": "in_channel" if to_all else "ephemeral"}
        if press.thread:
            content["thread_ts"] = press.thread
        try:
            async with httpx.AsyncClient(timeout=10) as http:
                answer = await http.post(press.reply, json=content)
            if not answer.is_success:
                _log.warning("slack: a reply was answered %d", answer.status_code)
        except httpx.HTTPError as error:
            _log.warning("slack: a reply did not get through (%s)", type(error).__name__)


@dataclass
class Slack:
    """What the route works with.

    Attributes:
        settings: the signing secret, and who may press. starter: of the dispatcher. teller: takes events. answers: of runs.
        speaker: says what came of it. desk: takes people's word that they work on an incident.
        now: seconds since 1970. mistakes: wrong signatures by client.
    """

    settings: Settings
    starter: Starter
    teller: Teller
    answers: Answers
    speaker: Speaker
    desk: Working
    now: Callable[[], float] = time.time
    mistakes: Limiter = field(default_factory=lambda: Limiter(10, 6.0))
    seen: Seen = field(default_factory=Seen)

    @property
    def handlers(self) -> list[tuple[str, Callable[[Request], Awaitable[Response]], list[str]]]:
        """Path, handler and methods of the route."""
        return [("/hooks/slack", self.interact, ["POST"])]

    async def interact(self, request: Request) -> Response:
        """Take a pressed button."""
        if self.settings.slack_signing_secret is None:
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "set SLACK_SIGNING_SECRET on prefect-worker, from the Slack app's page"
            )
        try:
            body = await body_of(request, LARGEST_HOOK)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        if body is None:
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LARGEST_HOOK} bytes")
        stamp, signature = (request.headers.get(f"x-slack-{name}", "") for name in ("request-timestamp", "signature"))
        if not slack_signed(stamp, signature, body, self.settings.slack_signing_secret.get_secret_value(), self.now()):
            client = client_of(request)
            if seconds := self.mistakes.wait(client):
                return too_many("too many wrong signatures came from there", seconds)
            self.mistakes.count(client)
            return problem(HTTPStatus.UNAUTHORIZED, "not of slack, or too old: the signature or its time is wrong")
        event_id = id_of(self.settings.stack_name, "slack", stamp.encode() + b":" + body)
        if event_id in self.seen:
            return Response(status_code=HTTPStatus.OK)
        try:
            press = read_press(body)
        except Unreadable as error:
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"slack: {error}")
        self.seen.add(event_id)
        if press is None:
            return Response(status_code=HTTPStatus.OK)
        return Response(status_code=HTTPStatus.OK, background=BackgroundTask(self.carry_out, press, event_id))

    async def carry_out(self, press: Press, event_id: UUID) -> None:
        """Do what was pressed, and say what came of it; what fails is said as well."""
        if press.user not in self.settings.slack_users:
            _log.warning("slack: %s pressed %s and is not in SLACK_USERS", press.user, press.action)
            await self.speaker.say(press, "You are not among those who may do this (SLACK_USERS).", to_all=False)
            return
        _log.info("slack: %s pressed %s of %s", press.user, press.action, press.value)
        try:
            said = await self._do(press)
            told = Told(_EVENTS[press.action], {"of": press.value, "by": f"slack {press.user}", "result": said})
            await self.teller.tell(event_of(self.settings.stack_name, "slack", told, event_id))
        except StackError as error:
            await self.speaker.say(press, str(error), to_all=False)
            return
        to_all = press.action != ACKNOWLEDGE  # of which the next sweep tells every channel
        await self.speaker.say(press, f"<@{press.user}>: {said}", to_all=to_all)

    async def _do(self, press: Press) -> str:
        by = f"slack {press.user}"
        if press.action == RUNBOOK:
            run = await self.starter.start(DISPATCH, {"request": {"incident": press.value, "by": by}})
            return f"the runbook is asked for: {run.url or run.run_id}"
        if press.action == ACKNOWLEDGE:
            return await self.desk.acknowledge(press.value, by)
        return await self.answers.answer(UUID(press.value), approve=press.action == APPROVE, by=by)


_EVENTS: Mapping[str, str] = {
    ACKNOWLEDGE: "stack.acknowledgement.asked",
    RUNBOOK: "stack.runbook.asked",
    APPROVE: "stack.run.approved",
    REJECT: "stack.run.rejected",
}


def read_press(body: bytes) -> Press | None:
    """Read what Slack sends when something of a message is used.

    Returns: None for what is no button of ours, a link for example, which Slack tells of as well.
    Raises:
        Unreadable: it is no such body.
    """
    try:
        document = json.loads(parse_qs(body.decode(), max_num_fields=8)["payload"][0])
        user, actions = document["user"]["id"], document.get("actions") or [{}]
        action, value = actions[0].get("action_id"), actions[0].get("value", "")
        container = document.get("container")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise Unreadable("expected a form with a `payload` of a pressed button") from None
    if not isinstance(action, str) or action not in _EVENTS:
        return None
    if not isinstance(user, str) or not _USER.fullmatch(user) or not isinstance(value, str) or not _is_value(action, value):
        raise Unreadable("expected a button of ours, pressed by a user")
    where = container if isinstance(container, dict) else {}
    reply, thread = document.get("response_url"), where.get("thread_ts") or where.get("message_ts")
    return Press(
        action=action,
        value=value,
        user=user,
        reply=reply if isinstance(reply, str) else "",
        thread=thread if isinstance(thread, str) and _TS.fullmatch(thread) else "",
    )


def _is_value(action: str, value: str) -> bool:
    """An incident's key for what is about an incident, a run's id for what is about a run."""
    if action in (ACKNOWLEDGE, RUNBOOK):
        return value.count("/") >= 3 and len(value) <= 300 and value.isprintable()
    try:
        return str(UUID(value)) == value.lower()
    except ValueError:
        return False
