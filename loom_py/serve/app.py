"""The server as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loom_py._version import __version__
from loom_py.agent import Agent
from loom_py.errors import AuthenticationError, LoomError
from loom_py.resilience.health import Health
from loom_py.serve.chat import ChatEndpoint
from loom_py.serve.config import ServeConfig
from loom_py.serve.door import Door
from loom_py.serve.failures import HTTPError, failure_of
from loom_py.serve.metrics import CONTENT_TYPE
from loom_py.serve.openapi import document
from loom_py.serve.service import Service
from loom_py.serve.sessions import checked_id

__all__ = ["app_of", "create_app"]

PAGE = Path(__file__).with_name("page")
"""The chat page's files; ``index.html`` is served at ``/``, all of them below ``/page/``."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page may load and call what comes from this server, and nothing else."""


def create_app(agents: Agent | Mapping[str, Agent], config: ServeConfig | None = None) -> Starlette:
    """An ASGI application that serves ``agents``: one, or several by the names of their models.

    It runs under any ASGI server; what needs the connection itself (time for headers, many connections,
    a drain on SIGTERM) only `serve` and `run_server` bring along. The agents stay the caller's to
    close, on the event loop that served them.

    Raises `ConfigError` for agents, keys or a ledger that cannot be used.
    """
    return app_of(Service(agents, config or ServeConfig()))


def app_of(service: Service) -> Starlette:
    """The application of a service."""
    config = service.config

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await service.aclose()

    middleware = [Middleware(Door, hosts=config.hosts, max_header=config.max_header)]
    if config.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(config.cors_origins),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],  # clients for browsers send headers of their own
                expose_headers=["x-request-id", "retry-after"],
            )
        )
    app = Starlette(
        routes=_routes(service),
        middleware=middleware,
        exception_handlers={HTTPException: _http_problem, LoomError: _problem},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


def _routes(service: Service) -> list[BaseRoute]:
    api = _API(service)
    routes: list[BaseRoute] = [
        Route("/v1/chat/completions", ChatEndpoint(service), methods=["POST"]),
        Route("/v1/models", api.models, methods=["GET"]),
        Route("/v1/models/{model:path}", api.model, methods=["GET"]),
        Route("/v1/sessions/{session}", api.forget, methods=["DELETE"]),
        Route("/health", api.health, methods=["GET"]),
        Route("/health/live", api.live, methods=["GET"]),
        Route("/health/ready", api.ready, methods=["GET"]),
        Route("/metrics", api.metrics, methods=["GET"]),
        Route("/openapi.json", api.openapi, methods=["GET"]),
    ]
    if (PAGE / "index.html").is_file():
        routes.append(Route("/", _index, methods=["GET"]))
        routes.append(Mount("/page", _Guarded(StaticFiles(directory=PAGE))))
    else:
        routes.append(Route("/", api.root, methods=["GET"]))
    return routes


class _API:
    """The endpoints beside the chat."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._document = document()

    def _is_known(self, request: Request) -> bool:
        try:
            self._service.caller(request.headers)
        except AuthenticationError:
            return False
        return True

    def _caller(self, request: Request) -> str:
        return self._service.caller(request.headers).name

    async def root(self, _: Request) -> Response:
        """Where to go from here."""
        return JSONResponse(
            {
                "service": "loom_py",
                "version": __version__,
                "api": "/v1/chat/completions",
                "models": "/v1/models",
                "health": "/health",
                "openapi": "/openapi.json",
            }
        )

    async def models(self, request: Request) -> Response:
        """The models, as OpenAI lists them."""
        self._caller(request)
        return JSONResponse({"object": "list", "data": [_model(name) for name in self._service.agents]})

    async def model(self, request: Request) -> Response:
        """One model."""
        self._caller(request)
        name = request.path_params["model"]
        self._service.agent(name)
        return JSONResponse(_model(name))

    async def forget(self, request: Request) -> Response:
        """Forget a session."""
        caller = self._caller(request)
        name = checked_id(request.path_params["session"])
        sessions = self._service.sessions
        if sessions is None or not sessions.forget(caller, name):
            raise HTTPError(404, "there is no session of that name", code="session_not_found")
        return JSONResponse({"id": name, "object": "session.deleted", "deleted": True})

    async def live(self, _: Request) -> Response:
        """The process runs."""
        return JSONResponse({"status": "live"})

    async def ready(self, _: Request) -> Response:
        """Whether chats should be sent here."""
        if self._service.is_draining:
            return JSONResponse({"status": "draining"}, 503)
        states = await asyncio.to_thread(self._service.states)
        is_ready = any(health.status != "down" for health in states.values())
        return JSONResponse({"status": "ready" if is_ready else "down"}, 200 if is_ready else 503)

    async def health(self, request: Request) -> Response:
        """How the agents stand; in detail for those who may call them."""
        states = await asyncio.to_thread(self._service.states)
        found = {health.status for health in states.values()}
        status = "ok" if found == {"ok"} else "down" if found == {"down"} else "degraded"
        if self._service.is_draining:
            status = "draining"
        body: dict[str, object] = {"status": status}
        if self._is_known(request):
            body["models"] = {name: _told(health) for name, health in states.items()}
        return JSONResponse(body, 503 if status in ("down", "draining") else 200)

    async def metrics(self, request: Request) -> Response:
        """The figures for Prometheus."""
        if not self._service.config.public_metrics:
            self._caller(request)
        text = await asyncio.to_thread(self._service.metrics.text)
        return Response(text, media_type=CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        """The description of this API."""
        return JSONResponse(self._document)


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "loom_py"}


async def _index(_: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers={"content-security-policy": CONTENT_SECURITY_POLICY})


class _Guarded:
    """The page's files, with the policy that holds for the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
                message["headers"] = [*message["headers"], policy]
            await send(message)

        await self._app(scope, receive, marked)


# ── errors ───────────────────────────────────────────────────────────────────────────────


async def _problem(request: Request, error: Exception) -> Response:
    service: Service = request.app.state.service
    failure = failure_of(error, from_agent=False)
    service.metrics.refused.labels(failure.error["code"]).inc()
    return Response(failure.body, failure.status, failure.headers)


def _hint(request: Request) -> str | None:
    """What a client that asks for another API of OpenAI's can use here."""
    is_api = request.url.path.startswith("/v1/")
    return "Chats go to /v1/chat/completions." if is_api else None


async def _http_problem(request: Request, error: Exception) -> Response:
    """What starlette refuses, in our words: its own might quote the request."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    found = {
        404: HTTPError(404, "there is nothing at this path", code="not_found", hint=_hint(request)),
        405: HTTPError(405, "this path does not take that method", code="method_not_allowed"),
    }
    answer = await _problem(request, found.get(status) or HTTPError(status, "refused", code="refused"))
    if isinstance(error, HTTPException) and error.headers and "Allow" in error.headers:
        answer.headers["allow"] = error.headers["Allow"]
    return answer


def _told(health: Health) -> dict[str, Any]:
    """How an agent stands, without the money of chats and sessions, which is their callers' business."""
    told = health.to_dict()
    told["budgets"] = [each for each in told["budgets"] if each["per"] in ("agent", "day")]
    return told
