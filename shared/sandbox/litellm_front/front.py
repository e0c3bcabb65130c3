"""The front's endpoints."""

from __future__ import annotations

import psycopg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.sandbox.litellm_front.answers import Refused
from shared.sandbox.litellm_front.callers import Callers, hashed
from shared.sandbox.litellm_front.configuration import Configuration
from shared.sandbox.litellm_front.keys import Keys, object_of
from shared.sandbox.litellm_front.models import Models
from shared.sandbox.litellm_front.passing import METERED, Passing
from shared.sandbox.litellm_front.spending import Ledger, Meter, Price
from shared.sandbox.litellm_front.store import Store

__all__ = ["Front"]

_ANY = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]
_DETAILS = "/health/readiness/details"
_MANAGED = ("/key/", "/model/", "/user/", "/team/", "/spend/", "/global/", "/config/", "/credentials")


class Front:
    """LiteLLM's API with a database."""

    def __init__(self, configuration: Configuration) -> None:
        self.store = Store(configuration.database_url)
        self.ledger = Ledger(self.store, configuration.batch)
        self.passing = Passing(configuration.upstream, configuration.master_key, self.ledger)
        self._callers = Callers(self.store, configuration.master_key)
        self._models = Models(self.store, self._callers, configuration)
        self._prices: dict[str, Price] = {}
        self._version = configuration.version

    def application(self) -> Starlette:
        """The routes."""
        keys, models = Keys(self.store, self._callers), self._models
        return Starlette(
            exception_handlers={Refused: _refused, psycopg.Error: _no_database},
            routes=[
                Route("/health/readiness", self.readiness),
                Route(_DETAILS, self.details),
                Route("/key/generate", keys.generate, methods=["POST"]),
                Route("/key/delete", keys.delete, methods=["POST"]),
                Route("/key/info", keys.info),
                Route("/key/list", keys.list),
                Route("/model/new", models.new, methods=["POST"]),
                Route("/model/update", models.update, methods=["POST"]),
                Route("/model/delete", models.delete, methods=["POST"]),
                Route("/model/{model_id}/update", models.patch, methods=["PATCH"]),
                *(Route(f"{version}/model/info", self.model_info) for version in ("", "/v1")),
                *(Route(f"{version}/models", self.model_names) for version in ("", "/v1")),
                *(Route(f"{version}{path}", self.costly, methods=["POST"]) for version in ("", "/v1") for path in METERED),
                Route("/spend/logs", self.spend_logs),
                Route("/{path:path}", self.anything, methods=_ANY),
            ],
        )

    async def readiness(self, request: Request) -> Response:
        """The gateway's own word, and the database's."""
        if await self.passing.ask("/health/readiness") is None:
            return JSONResponse({"status": "unhealthy", "db": "unknown"}, 503)
        connected = await self.store.answers()
        said = {"status": "healthy" if connected else "unhealthy", "db": "connected" if connected else "disconnected"}
        return JSONResponse(said, 200 if connected else 503)

    async def details(self, request: Request) -> Response:
        """The gateway's own word, with the database's, of the release that it is to be."""
        caller = await self._callers.of(request)
        said = None if caller is None else await self.passing.ask(_DETAILS)
        if not isinstance(said, dict):
            return await self.passing.on(request, caller)
        connected = "connected" if await self.store.answers() else "disconnected"
        release = {"litellm_version": self._version} if self._version else {}
        return JSONResponse({**said, "db": connected, **release})

    async def model_info(self, request: Request) -> Response:
        """The gateway's models and those in Postgres."""
        caller = await self._callers.of(request)
        if caller is None:
            return await self.passing.on(request, None)
        known = await self.passing.ask("/model/info") or {"data": []}
        entries = [*known["data"], *await self._models.entries()]
        return JSONResponse({"data": [one for one in entries if not caller.models or one["model_name"] in caller.models]})

    async def model_names(self, request: Request) -> Response:
        """The names of all of them that the key may ask for."""
        caller = await self._callers.of(request)
        if caller is None:
            return await self.passing.on(request, None)
        known = await self.passing.ask("/v1/models") or {"data": []}
        names = {str(one["id"]): one for one in known["data"]}
        for entry in await self._models.entries():
            name = str(entry["model_name"])
            names.setdefault(name, {"id": name, "object": "model", "created": 1677610602, "owned_by": "openai"})
        allowed = [one for name, one in names.items() if not caller.models or name in caller.models]
        return JSONResponse({"data": allowed, "object": "list"})

    async def spend_logs(self, request: Request) -> Response:
        """Rows of LiteLLM_SpendLogs; to a virtual key its own."""
        caller = await self._callers.of(request)
        if caller is None:
            return await self.passing.on(request, None)
        asked = request.query_params.get("api_key")
        key = (hashed(asked) if asked else None) if caller.is_master else caller.token
        rows = await self.store.spend(request_id=request.query_params.get("request_id"), api_key=key)
        times = ("startTime", "endTime")
        return JSONResponse(
            [{name: value.isoformat() if name in times and value else value for name, value in row.items()} for row in rows]
        )

    async def costly(self, request: Request) -> Response:
        """A request to a model."""
        caller = await self._callers.of(request)
        if caller is None:
            return await self.passing.on(request, None)
        try:
            body = await object_of(request)
        except Refused:
            return await self.passing.on(request, caller)
        group = str(body.get("model") or "")
        caller.need_model(group)
        meter = Meter(METERED[request.url.path.removeprefix("/v1")], caller.token, group, await self._price(group))
        stored = await self._models.named(group)
        if stored is not None:
            body, meter.model_id = {**body, "model": await self._mocked()}, str(stored["model_id"])
        return await self.passing.metered(request, caller, body, meter)

    async def anything(self, request: Request) -> Response:
        """Whatever else LiteLLM answers; not to a virtual key, where it is for administrators."""
        caller = await self._callers.of(request)
        if caller is not None and request.url.path.startswith(_MANAGED):
            caller.need_master(request.url.path)
        return await self.passing.on(request, caller)

    async def _mocked(self) -> str:
        """Who answers for a stored model: the first one of the gateway, whose models are mocked."""
        known = await self.passing.ask("/v1/models") or {"data": []}
        names = [str(one["id"]) for one in known["data"]]
        if not names:
            raise Refused(500, "the gateway has no mocked model that could answer for a stored one", "internal_server_error")
        return names[0]

    async def _price(self, group: str) -> Price | None:
        """What the gateway, or whoever stored the model, says about its price."""
        if group not in self._prices:
            known = await self.passing.ask("/model/info") or {"data": []}
            for entry in [*known["data"], *await self._models.entries()]:
                info = entry.get("model_info") or {}
                prompt, completion = info.get("input_cost_per_token"), info.get("output_cost_per_token")
                if prompt is not None and completion is not None:
                    self._prices[str(entry["model_name"])] = Price(float(prompt), float(completion))
        return self._prices.get(group)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - for the type
    return error.response()


def _no_database(request: Request, error: Exception) -> Response:
    return Refused(503, f"The database does not answer ({type(error).__name__})", "no_db_connection").response()
