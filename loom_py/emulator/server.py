"""`AzureEmulator`: the emulator's public face, and its server thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from loom_py.emulator.echo import EchoProvider
from loom_py.emulator.faults import Answer, Cut, Delay, Fault
from loom_py.emulator.resource import MAX_BODY, RecordedRequest, RequestLog, Resource
from loom_py.errors import MissingDependencyError
from loom_py.llm.provider import LLMProvider

try:
    import starlette  # noqa: F401  what the application needs
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"the emulator needs the package {error.name!r}, which is not installed",
        hint="pip install 'loom-py[emulator]'",
    ) from error

from loom_py.emulator.app import EmulatorApp

__all__ = ["AzureEmulator"]

DEFAULT_DEPLOYMENTS = {"gpt-4o-deployment": "gpt-4o-2024-11-20"}
KEEP_ALIVE = 75
"""Seconds an idle connection stays open: longer than any client's pool keeps it."""

_quiet = logging.getLogger("loom_py.emulator.http")
_quiet.disabled = True  # a stream that is cut on purpose is no error to report


class AzureEmulator:
    """A loopback Azure OpenAI resource whose model is any `LLMProvider`.

    ::

        with AzureEmulator(ScriptedProvider(["Hello!"])) as azure:
            client = AzureOpenAI(azure_endpoint=azure.endpoint, api_key=azure.api_key, ...)

    Args:
        engine: the model that answers; without one the user's words are echoed.
        deployments: deployment name -> model name, or only the names.
        engines: deployment name -> its own engine.
        api_keys: accepted keys.
        entra_tokens: accepted bearer tokens.
        host: where to listen; loopback by default, and there is no encryption.
        port: where to listen; 0 takes a free port.
        region: what the headers call the Azure region.
        quirks: also do what only the real service does: an empty first chunk, padding, 404s without
            a Content-Type, ``Retry-After-Ms: 0``.
        chunk_delay: seconds to wait after each chunk of a stream.
        max_body: the largest request body in bytes.
        log_size: how many requests ``requests`` remembers.

    ``app`` is the same resource as an ASGI application, for use without a socket. Raises
    `ValueError` for an engine without a deployment, and `OSError` if the port is taken.
    """

    def __init__(
        self,
        engine: LLMProvider | None = None,
        *,
        deployments: Mapping[str, str] | Sequence[str] | None = None,
        engines: Mapping[str, LLMProvider] | None = None,
        api_keys: Iterable[str] = ("emulator-key",),
        entra_tokens: Iterable[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        region: str = "eastus",
        quirks: bool = True,
        chunk_delay: float = 0.0,
        max_body: int = MAX_BODY,
        log_size: int = 10_000,
    ) -> None:
        self.host = host
        self._port = port
        self._resource = Resource(
            engine=engine or EchoProvider(),
            deployments=_named(DEFAULT_DEPLOYMENTS if deployments is None else deployments),
            engines=dict(engines or {}),
            api_keys=_several("api_keys", api_keys),
            entra_tokens=_several("entra_tokens", entra_tokens),
            region=region,
            quirks=quirks,
            chunk_delay=chunk_delay,
            max_body=max_body,
            log=RequestLog(log_size),
        )
        unknown = sorted(set(self._resource.engines) - set(self._resource.deployments))
        if unknown:
            raise ValueError(f"engines names deployments that do not exist: {', '.join(unknown)}")
        self.app = EmulatorApp(self._resource)
        self._lock = threading.Lock()
        self._server: _ServerThread | None = None

    def __repr__(self) -> str:
        where = self.endpoint if self.running else "not running"
        return f"AzureEmulator({where}, deployments={list(self._resource.deployments)})"

    # ── life ─────────────────────────────────────────────────────────────────────────────

    @property
    def running(self) -> bool:
        """Whether the server listens."""
        return self._server is not None

    def start(self) -> Self:
        """Listen; nothing happens if it already does. Requests are served when this returns."""
        with self._lock:
            if self._server is None:
                self.app.resume()
                self._server = _ServerThread(self.app, self.host, self._port)
        return self

    def stop(self) -> None:
        """Stop listening and end requests in flight; nothing happens if it is not running.

        A request without an answer yet gets a 503; a stream is cut off.
        """
        with self._lock:
            server, self._server = self._server, None
            if server is not None:
                server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # ── what a client needs ──────────────────────────────────────────────────────────────

    @property
    def port(self) -> int:
        """The port it listens on. Raises `RuntimeError` if it is not running."""
        server = self._server
        if server is None:
            raise RuntimeError("the emulator is not running: use it in a with block, or call start()")
        return server.port

    @property
    def endpoint(self) -> str:
        """Its URL, such as ``http://127.0.0.1:40321``. Raises `RuntimeError` if it is not running."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def api_key(self) -> str:
        """The first accepted key. Raises `RuntimeError` if there is none."""
        if not self._resource.api_keys:
            raise RuntimeError("the emulator was given no api_keys")
        return self._resource.api_keys[0]

    @property
    def deployments(self) -> dict[str, str]:
        """Deployment names and the models they serve."""
        return dict(self._resource.deployments)

    def client_kwargs(self, deployment: str | None = None) -> dict[str, str]:
        """``endpoint``, ``deployment_id`` and ``api_key`` for a client; the first deployment unless named."""
        return {
            "endpoint": self.endpoint,
            "deployment_id": deployment or next(iter(self._resource.deployments)),
            "api_key": self.api_key,
        }

    # ── what a test needs ────────────────────────────────────────────────────────────────

    @property
    def engine(self) -> LLMProvider:
        """The model that answers; may be set at any time."""
        return self._resource.engine

    @engine.setter
    def engine(self, engine: LLMProvider) -> None:
        self._resource.engine = engine

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests received so far, in order."""
        return self._resource.log.entries()

    def fail_next(
        self,
        status: int,
        *,
        code: str | None = None,
        message: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        times: int = 1,
        deployment: str | None = None,
    ) -> None:
        """Answer the next ``times`` chat requests with an error. Raises `ValueError` below 400.

        The body is Azure's own for ``status``, with ``code`` and ``message`` put in; or ``body``, raw if
        text or bytes and as JSON otherwise.
        """
        fault = Fault(status, code, message, dict(headers or {}), body, deployment)
        self._resource.faults.answers.add(fault, times)

    def answer_next(
        self,
        status: int = 200,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = b"",
        times: int = 1,
        deployment: str | None = None,
    ) -> None:
        """Answer the next ``times`` chat requests with exactly this ``body`` and these ``headers``."""
        self._resource.faults.answers.add(Answer(status, dict(headers or {}), body, deployment), times)

    def cut_next_stream(
        self, after_chunks: int = 1, *, clean: bool = False, times: int = 1, deployment: str | None = None
    ) -> None:
        """Break the next stream off after ``after_chunks`` events, the empty first one included.

        The connection is dropped; with ``clean`` the answer ends properly, but without a finish reason.
        """
        self._resource.faults.cuts.add(Cut(after_chunks, clean, deployment), times)

    def delay_next(self, seconds: float, *, times: int = 1, deployment: str | None = None) -> None:
        """Let the next ``times`` chat requests wait ``seconds`` first; whatever else is scripted follows."""
        self._resource.faults.delays.add(Delay(seconds, deployment), times)

    def reset(self) -> None:
        """Forget recorded requests and scripted faults."""
        self._resource.log.clear()
        self._resource.faults.clear()


def _named(deployments: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    if isinstance(deployments, str):
        raise TypeError(f"deployments must be a mapping or a sequence of names: write [{deployments!r}]")
    named = dict(
        deployments if isinstance(deployments, Mapping) else zip(deployments, deployments, strict=True)
    )
    if not named:
        raise ValueError("the emulator needs at least one deployment")
    return named


def _several(name: str, values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError(f"{name} must be a sequence of strings, not one string")
    return tuple(values)


# ── the thread ───────────────────────────────────────────────────────────────────────────


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, with its complaints about cut streams kept out of everybody's logs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _quiet


class _Server(uvicorn.Server):
    """uvicorn's server, told to stop by an event rather than by polling."""

    def __init__(self, config: uvicorn.Config, app: EmulatorApp, ready: threading.Event) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        self._ready.set()
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        self._app.abort()
        deadline = asyncio.get_running_loop().time() + 2.0
        while self._busy() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)  # uvicorn has no event for this
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await asyncio.sleep(0)

    def _busy(self) -> bool:
        return bool(self.server_state.tasks or self.server_state.connections)


def _listening(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    The protocol is named, for asyncio switches off the delay of small writes only where it is; a
    keep-alive connection would wait 40 ms for each answer otherwise.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


class _ServerThread:
    """A thread with its own event loop that serves ``app``; it serves when the constructor returns."""

    def __init__(self, app: EmulatorApp, host: str, port: int) -> None:
        self._socket = _listening(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._app = app
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._run, name=f"azure-emulator-{self.port}", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self.stop()
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  raised again in the thread that waits for us
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        config = uvicorn.Config(
            self._app,
            http=_Protocol,
            loop="asyncio",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        self._loop = asyncio.get_running_loop()
        self._server = _Server(config, self._app, self._ready)
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        if self._loop is not None and self._server is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._server.stopping.set)
        self._thread.join()
        self._socket.close()
