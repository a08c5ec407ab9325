"""`AzureEmulator`: the emulator's public face; and what it shares with OpenAI's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypedDict

from loom_py.clock import Clock, RealClock
from loom_py.emulator.echo import EchoProvider
from loom_py.emulator.fault_plan import FaultPlan, PlanRun
from loom_py.emulator.faults import Answer, Cut, Delay, Fault
from loom_py.emulator.filters import ContentFilters
from loom_py.emulator.limits import Limits, check_installed
from loom_py.emulator.quotas import Ptu, Quota
from loom_py.emulator.resource import MAX_BODY, MAX_HEADER, RecordedRequest, RequestLog, Resource
from loom_py.emulator.tokens import DEFAULT_SCOPE
from loom_py.emulator.upstream import AzureUpstream
from loom_py.llm.provider import LLMProvider

if TYPE_CHECKING:
    from loom_py.emulator.app import EmulatorApp
    from loom_py.emulator.server_thread import ServerThread

__all__ = ["AzureEmulator", "Emulator", "Engine"]

DEFAULT_DEPLOYMENTS = {"gpt-4o-deployment": "gpt-4o-2024-11-20"}

Engine: TypeAlias = LLMProvider | AzureUpstream
"""What answers: any model, or a real endpoint."""


class ClientSettings(TypedDict):
    """What a client needs to reach a deployment of the emulator."""

    endpoint: str
    deployment_id: str
    api_key: str


class Emulator:
    """A loopback server with OpenAI's wire: what `AzureEmulator` and `OpenAIEmulator` have in common.

    Raises `ValueError` for an engine or a quota without a deployment, `OSError` if the port is taken, and
    `MissingDependencyError` where the extra ``emulator`` is not installed.
    """

    def __init__(self, resource: Resource, host: str, port: int, limits: Limits) -> None:
        check_installed()
        from loom_py.emulator.app import EmulatorApp

        self.host = host
        self._port = port
        self._limits = limits
        self._resource = resource
        for name, named in (("engines", resource.engines), ("quotas", resource.quotas)):
            unknown = sorted(set(named) - set(resource.deployments))
            if unknown:
                raise ValueError(f"{name} names deployments that do not exist: {', '.join(unknown)}")
        self.app: EmulatorApp = EmulatorApp(resource)
        self._lock = threading.Lock()
        self._server: ServerThread | None = None

    def __repr__(self) -> str:
        where = self.endpoint if self.running else "not running"
        return f"{type(self).__name__}({where}, {list(self._resource.deployments)})"

    # ── life ─────────────────────────────────────────────────────────────────────────────

    @property
    def running(self) -> bool:
        """Whether the server listens."""
        return self._server is not None

    def start(self) -> Self:
        """Listen; nothing happens if it already does. Requests are served when this returns."""
        from loom_py.emulator.server_thread import ServerThread

        with self._lock:
            if self._server is None:
                self.app.resume()
                self._server = ServerThread(self.app, self.host, self._port, self._limits)
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

    def quota_of(self, deployment: str) -> str:
        """What of a deployment's quota is used in this minute, in words; empty without a quota."""
        return self._resource.meter_for(deployment).standing()

    # ── what a test needs ────────────────────────────────────────────────────────────────

    @property
    def engine(self) -> Engine:
        """The model that answers; may be set at any time."""
        return self._resource.engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
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

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        server = self._server
        return 0 if server is None else server.connections

    @property
    def clock(self) -> Clock:
        """What the emulator's time goes by."""
        return self._resource.clock

    @property
    def faults(self) -> FaultPlan | None:
        """The fault plan; setting one begins it."""
        return None if self._resource.plan is None else self._resource.plan.plan

    @faults.setter
    def faults(self, plan: FaultPlan | None) -> None:
        resource = self._resource
        resource.plan = None if plan is None else PlanRun(plan, resource.clock, resource.region)

    def reset(self) -> None:
        """Forget recorded requests, scripted faults, used quota, and begin the fault plan again."""
        self._resource.reset()


class AzureEmulator(Emulator):
    """A loopback Azure OpenAI resource whose model is any `LLMProvider`.

    ::

        with AzureEmulator(ScriptedProvider(["Hello!"])) as azure:
            client = AzureOpenAI(azure_endpoint=azure.endpoint, api_key=azure.api_key, ...)

    Args:
        engine: the model that answers, or an `AzureUpstream` to pass requests on to; without one the
            user's words are echoed.
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
        max_connections: how many connections may be open; one more is answered with 503.
        max_header: the largest request head (request line and headers) in bytes.
        log_size: how many requests ``requests`` remembers.
        quotas: deployment name -> its `Quota` or `Ptu`, enforced; without one nothing is refused.
        filters: words that set the content filter off.
        faults: a plan of what goes wrong, by rules and chance.
        clock: what quotas, delays, token lifetimes and outages go by, such as a `VirtualClock`.

    ``app`` is the same resource as an ASGI application, for use without a socket. Raises
    `ValueError` for an engine without a deployment, and `OSError` if the port is taken.
    """

    def __init__(
        self,
        engine: Engine | None = None,
        *,
        deployments: Mapping[str, str] | Sequence[str] | None = None,
        engines: Mapping[str, Engine] | None = None,
        api_keys: Iterable[str] = ("emulator-key",),
        entra_tokens: Iterable[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        region: str = "eastus",
        quirks: bool = True,
        chunk_delay: float = 0.0,
        max_body: int = MAX_BODY,
        max_connections: int = 1000,
        max_header: int = MAX_HEADER,
        log_size: int = 10_000,
        quotas: Mapping[str, Quota | Ptu] | None = None,
        filters: ContentFilters | None = None,
        faults: FaultPlan | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or RealClock()
        resource = Resource(
            engine=engine or EchoProvider(),
            deployments=named(DEFAULT_DEPLOYMENTS if deployments is None else deployments),
            engines=dict(engines or {}),
            api_keys=several("api_keys", api_keys),
            entra_tokens=several("entra_tokens", entra_tokens),
            region=region,
            quirks=quirks,
            chunk_delay=chunk_delay,
            max_body=max_body,
            max_header=max_header,
            log=RequestLog(log_size),
            quotas=dict(quotas or {}),
            filters=filters or ContentFilters(),
            plan=None if faults is None else PlanRun(faults, clock, region),
            clock=clock,
        )
        super().__init__(resource, host, port, Limits(max_connections, max_header))

    def __repr__(self) -> str:
        where = self.endpoint if self.running else "not running"
        return f"AzureEmulator({where}, deployments={list(self._resource.deployments)})"

    def client_kwargs(self, deployment: str | None = None) -> ClientSettings:
        """``endpoint``, ``deployment_id`` and ``api_key`` for a client; the first deployment unless named."""
        return {
            "endpoint": self.endpoint,
            "deployment_id": deployment or next(iter(self._resource.deployments)),
            "api_key": self.api_key,
        }

    def issue_token(self, lifetime: float = 3600, scope: str = DEFAULT_SCOPE) -> str:
        """An Entra token, as a JWT this emulator alone accepts, good for ``lifetime`` seconds.

        One for a ``scope`` other than ``https://cognitiveservices.azure.com/.default`` or
        ``https://ai.azure.com/.default`` is issued, and refused with 401.
        """
        return self._resource.issuer.issue(lifetime, scope)


def named(deployments: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Names and the models behind them. Raises `TypeError` and `ValueError` for what is none."""
    if isinstance(deployments, str):
        raise TypeError(f"deployments must be a mapping or a sequence of names: write [{deployments!r}]")
    named = dict(
        deployments if isinstance(deployments, Mapping) else zip(deployments, deployments, strict=True)
    )
    if not named:
        raise ValueError("the emulator needs at least one deployment")
    return named


def several(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """``values`` as a tuple. Raises `TypeError` for one string, whose letters nobody means."""
    if isinstance(values, str):
        raise TypeError(f"{name} must be a sequence of strings, not one string")
    return tuple(values)
