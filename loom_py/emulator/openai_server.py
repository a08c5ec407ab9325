"""`OpenAIEmulator`: OpenAI's own API on loopback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from loom_py.clock import Clock, RealClock
from loom_py.emulator.echo import EchoProvider
from loom_py.emulator.fault_plan import FaultPlan, PlanRun
from loom_py.emulator.filters import ContentFilters
from loom_py.emulator.limits import Limits
from loom_py.emulator.openai_dialect import OpenAIDialect
from loom_py.emulator.quotas import Quota
from loom_py.emulator.resource import MAX_HEADER, RequestLog, Resource
from loom_py.emulator.server import Emulator, named, several
from loom_py.llm.provider import LLMProvider

__all__ = ["OpenAIEmulator"]

MAX_CONNECTIONS = 1000
"""How many connections may be open; one more is answered with 503."""

DEFAULT_MODELS = {"gpt-4o": "gpt-4o-2024-08-06", "gpt-5": "gpt-5-2025-08-07"}


class OpenAIClientSettings(TypedDict):
    """What an `OpenAIClient` needs to reach a model of the emulator."""

    base_url: str
    model: str
    api_key: str


class OpenAIEmulator(Emulator):
    """A loopback ``/v1`` of OpenAI's whose model is any `LLMProvider`.

    ::

        with OpenAIEmulator(ScriptedProvider(["Hello!"])) as openai:
            client = OpenAIClient(**openai.client_kwargs())

    It answers ``/v1/chat/completions``, ``/v1/responses`` and ``/v1/models`` for bearer keys, refuses in
    OpenAI's words, and leaves out what only Azure has. Faults are scripted as with `AzureEmulator`, where
    ``deployment`` is the model.

    Args:
        engine: the model that answers; without one the user's words are echoed.
        models: the names that may be asked for -> the snapshot each is served by, or only the names.
        engines: model -> its own engine.
        api_keys: accepted keys.
        quotas: model -> its `Quota`, enforced; without one nothing is refused.
        filters: words for which a prompt is refused (``invalid_prompt``) or an answer is stopped.

    The other arguments are those of `AzureEmulator`. ``app`` is the same as an ASGI application.
    """

    def __init__(
        self,
        engine: LLMProvider | None = None,
        *,
        models: Mapping[str, str] | Sequence[str] | None = None,
        engines: Mapping[str, LLMProvider] | None = None,
        api_keys: Iterable[str] = ("sk-emulator-key",),
        host: str = "127.0.0.1",
        port: int = 0,
        chunk_delay: float = 0.0,
        log_size: int = 10_000,
        quotas: Mapping[str, Quota] | None = None,
        filters: ContentFilters | None = None,
        faults: FaultPlan | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or RealClock()
        resource = Resource(
            engine=engine or EchoProvider(),
            deployments=named(DEFAULT_MODELS if models is None else models),
            engines=dict(engines or {}),
            api_keys=several("api_keys", api_keys),
            chunk_delay=chunk_delay,
            log=RequestLog(log_size),
            quotas=dict(quotas or {}),
            filters=filters or ContentFilters(),
            plan=None if faults is None else PlanRun(faults, clock, ""),
            clock=clock,
            dialect=OpenAIDialect(),
        )
        super().__init__(resource, host, port, Limits(MAX_CONNECTIONS, MAX_HEADER))

    @property
    def base_url(self) -> str:
        """Its URL, such as ``http://127.0.0.1:40321/v1``. Raises `RuntimeError` if it is not running."""
        return f"{self.endpoint}/v1"

    def client_kwargs(self, model: str | None = None) -> OpenAIClientSettings:
        """``base_url``, ``model`` and ``api_key`` for a client; the first model unless named."""
        return {
            "base_url": self.base_url,
            "model": model or next(iter(self._resource.deployments)),
            "api_key": self.api_key,
        }
