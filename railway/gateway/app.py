"""The gateway's routes.

GET  /livez            the gateway itself; what Railway's health check asks
GET  /health           the stack's state, 200 or 503
GET  /metrics          for Prometheus
GET  /                 the status page
POST /login            the token, for a session cookie
POST /check            starts health/sweep             bearer token
POST /backup, GET too  starts backup/on-demand         bearer token
POST /hooks/...        what others tell: see hooks.py   a secret of each
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from blocks.errors import SettingsError, StackError
from railway.gateway import health, metrics, pages
from railway.gateway.answers import body_of, problem, too_many
from railway.gateway.security import COOKIE, LARGEST_BODY, SESSION_SECONDS, Access, Gate, Guard, Limiter, client_of, is_secure
from railway.gateway.starting import Starter
from railway.gateway.state import Body, Keeper, now_utc

__all__ = ["Gateway", "Handler", "make_app"]

FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#2b9a5b"/>'
    '<path d="M6 17h5l3-8 4 15 3-7h5" fill="none" stroke="#fff" stroke-width="2.5" stroke-linecap="round" '
    'stroke-linejoin="round"/></svg>'
)
Handler = tuple[str, Callable[[Request], Awaitable[Response]], list[str]]
"""Path, what answers, methods."""
_UNSET = "the gateway has no token; set GATEWAY_TOKEN (openssl rand -hex 32) on prefect-worker"
_HINT = "send `Authorization: Bearer <GATEWAY_TOKEN>`"


@dataclass
class Gateway:
    """What the routes work with.

    Attributes:
        stack: name. keeper: of the snapshot. starter: of deployments. gate: of tokens. public: the page needs no token.
        starts: how often each deployment may be started.
    """

    stack: str
    keeper: Keeper
    starter: Starter
    gate: Gate
    public: bool
    starts: dict[str, Limiter]

    async def livez(self, _request: Request) -> Response:
        """Say that the gateway runs, and that the thread that looks at Prefect does."""
        alive = self.keeper.alive
        return PlainTextResponse(
            "ok\n" if alive else "the refreshing thread has ended; restart the container\n", 200 if alive else 503
        )

    async def health(self, request: Request) -> Response:
        """Say how the stack is. What is wrong is told to those who may see the page."""
        in_full = self._may_see(request) is Access.ALLOWED
        status, document = health.answer(self.keeper.snapshot.known, now_utc(), in_full=in_full)
        return JSONResponse(document, status)

    async def metrics(self, request: Request) -> Response:
        """Hand out the metrics."""
        access = self._may_see(request)
        if access is not Access.ALLOWED:
            return self._refusal(access, request)
        return self._body(request, self.keeper.snapshot.metrics, metrics.CONTENT_TYPE)

    async def page(self, request: Request) -> Response:
        """Hand out the status page, or ask for the token."""
        access = self._may_see(request)
        if access is Access.ALLOWED:
            return self._body(request, self.keeper.snapshot.page, "text/html; charset=utf-8")
        if access is Access.UNSET:
            sentence = "The gateway has no token yet: set GATEWAY_TOKEN, or GATEWAY_PUBLIC=true to show this page to everybody."
            return HTMLResponse(pages.message_page(self.stack, "Not set up", sentence), HTTPStatus.SERVICE_UNAVAILABLE)
        return self._form(access)

    async def login(self, request: Request) -> Response:
        """Exchange the token for a session cookie; the token itself goes into no cookie and no URL."""
        try:
            body = await body_of(request, LARGEST_BODY)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        if body is None:
            return PlainTextResponse("the form is too large\n", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            fields = parse_qs(body.decode(errors="replace"), max_num_fields=8)
        except ValueError:
            return PlainTextResponse("not the form of this page\n", HTTPStatus.BAD_REQUEST)
        given = fields.get("token", [""])[0].strip()
        access = self.gate.by_text(request, given)
        if access is Access.UNSET:
            return RedirectResponse("/", HTTPStatus.SEE_OTHER)
        if access is not Access.ALLOWED:
            return self._form(access, self._wait(request))
        answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        secure = is_secure(request)
        session = self.gate.session(time.time())
        answer.set_cookie(COOKIE, session, max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=secure)
        return answer

    async def check(self, request: Request) -> Response:
        """Start a sweep."""
        return await self._start(request, "health/sweep")

    async def backup(self, request: Request) -> Response:
        """Start a backup."""
        return await self._start(request, "backup/on-demand")

    async def style(self, _request: Request) -> Response:
        """Hand out the style sheet, whose name changes with its content."""
        return Response(pages.STYLE, media_type="text/css", headers={"Cache-Control": "public, max-age=31536000, immutable"})

    async def favicon(self, _request: Request) -> Response:
        """Hand out the icon."""
        return Response(FAVICON, media_type="image/svg+xml", headers={"Cache-Control": "public, max-age=86400"})

    def _may_see(self, request: Request) -> Access:
        if self.public or self.gate.by_session(request, time.time()):
            return Access.ALLOWED
        return self.gate.by_bearer(request)

    async def _start(self, request: Request, deployment: str) -> Response:
        access = self.gate.by_bearer(request)
        if access is not Access.ALLOWED:
            return self._refusal(access, request)
        limiter = self.starts[deployment]
        if seconds := limiter.wait(deployment):
            return too_many(f"{deployment} was started too often", seconds)
        limiter.count(deployment)
        try:
            run = await self.starter.start(deployment)
        except SettingsError as error:
            return problem(HTTPStatus.NOT_FOUND, str(error))
        except StackError as error:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        document = {"status": "started", "deployment": deployment, "run_id": run.run_id, "url": run.url}
        return JSONResponse(document, HTTPStatus.ACCEPTED, {"Location": run.url} if run.url else None)

    def _refusal(self, access: Access, request: Request) -> Response:
        if access is Access.UNSET:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, _UNSET)
        if access is Access.LIMITED:
            return too_many(access.value, self._wait(request))
        answer = problem(HTTPStatus.UNAUTHORIZED, f"{access.value}; {_HINT}")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _form(self, access: Access, seconds: float = 60) -> Response:
        if access is Access.LIMITED:
            page = pages.login_page(self.stack, f"Too many wrong tokens. Try again in {seconds:.0f} seconds.")
            return HTMLResponse(page, HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": f"{seconds:.0f}"})
        problem = "That is not the token." if access is Access.WRONG else ""
        return HTMLResponse(pages.login_page(self.stack, problem), HTTPStatus.UNAUTHORIZED)

    def _wait(self, request: Request) -> float:
        return max(1.0, self.gate.mistakes.wait(client_of(request)))

    def _body(self, request: Request, body: Body, content_type: str) -> Response:
        headers = {
            "ETag": body.etag,
            "Cache-Control": "public, max-age=5" if self.public else "private, no-cache",
            "Vary": "Accept-Encoding" if self.public else "Accept-Encoding, Cookie, Authorization",
            "Content-Type": content_type,
        }
        if body.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(body.packed, headers={**headers, "Content-Encoding": "gzip"})
        return Response(body.plain, headers=headers)


def make_app(
    stack: str, keeper: Keeper, starter: Starter, token: SecretStr | None, *, public: bool, routes: Sequence[Handler] = ()
) -> ASGIApp:
    """Put the gateway together.

    Args:
        stack: name. keeper: started. token: None where none is set. public: the page needs no token.
        routes: more of them, which see to their own secrets.
    """
    starts = {"health/sweep": Limiter(6, 10.0), "backup/on-demand": Limiter(4, 120.0)}
    gateway = Gateway(stack, keeper, starter, Gate(token, Limiter(10, 6.0)), public, starts)
    handlers: list[Handler] = [
        ("/livez", gateway.livez, ["GET"]),
        ("/health", gateway.health, ["GET"]),
        ("/metrics", gateway.metrics, ["GET"]),
        ("/", gateway.page, ["GET"]),
        ("/login", gateway.login, ["POST"]),
        ("/check", gateway.check, ["POST"]),
        ("/backup", gateway.backup, ["GET", "POST"]),
        (pages.style_path(), gateway.style, ["GET"]),
        ("/favicon.svg", gateway.favicon, ["GET"]),
        *routes,
    ]
    return Guard(Starlette(routes=[Route(path, handler, methods=methods) for path, handler, methods in handlers]))
