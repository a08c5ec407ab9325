"""`AnthropicEmulator`: the Messages API on 127.0.0.1, in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self, cast

from loom_anthropic.emulator.app import AnthropicApp, Organization
from loom_anthropic.emulator.limits import RateLimits
from loom_anthropic.emulator.troubles import Cut, Fault, RawAnswer, StreamError
from loom_anthropic.profiles import MODELS, ClaudeModel, claude_model
from loom_py.emulator.echo import EchoProvider
from loom_py.emulator.limits import Limits
from loom_py.emulator.resource import RecordedRequest
from loom_py.emulator.server_thread import ServerThread
from loom_py.llm.provider import LLMProvider

__all__ = ["AnthropicEmulator"]

HOST = "127.0.0.1"
KEY = "sk-ant-emulator-key"


class AnthropicEmulator:
    """Anthropic's Messages API on loopback, for tests and for work without a network.

    Args:
        engine: the model behind it, any `LLMProvider` (such as a `ScriptedProvider`); it repeats what the
            user said if none is given.
        api_keys: the keys that are accepted.
        models: further models to serve, beside all Claude models: their names, or what they can do by name.
        thinking: what the model thinks before each reply in which it thinks at all; nothing by default.
        limits: the rate limits of a minute.
        port: the TCP port, a free one by default.

    ``with AnthropicEmulator() as api:`` serves until the end of the block; ``start`` and ``stop`` do as well.
    A request that the service would refuse is refused in its words; see `requests` for what came.
    """

    def __init__(
        self,
        engine: LLMProvider | None = None,
        *,
        api_keys: Iterable[str] = (KEY,),
        models: Mapping[str, ClaudeModel] | Iterable[str] = (),
        thinking: str | None = None,
        limits: RateLimits | None = None,
        port: int = 0,
    ) -> None:
        if isinstance(api_keys, str) or isinstance(models, str):
            raise TypeError("api_keys and models must be sequences of strings, not one string")
        named = models if isinstance(models, Mapping) else {name: claude_model(name) for name in models}
        self._organization = Organization(
            engine or EchoProvider(),
            tuple(api_keys),
            {**MODELS, **named},
            limits or RateLimits(),
            thinking=thinking,
        )
        if not self._organization.api_keys:
            raise ValueError("the emulator needs at least one key")
        self._port = port
        self._server: ServerThread | None = None

    def start(self) -> Self:
        """Serve; nothing happens if it serves already."""
        if self._server is None:
            app: Any = AnthropicApp(self._organization)
            self._server = ServerThread(cast("Any", app), HOST, self._port, Limits(1000, 64 * 2**10))
        return self

    def stop(self) -> None:
        """End the server and everything in flight; nothing happens if it is not serving."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """Where the API is. Raises `RuntimeError` while it is not served."""
        if self._server is None:
            raise RuntimeError("the emulator is not serving: use it in a with statement, or call start()")
        return f"http://{HOST}:{self._server.port}"

    @property
    def api_key(self) -> str:
        """A key that is accepted."""
        return self._organization.api_keys[0]

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests received so far, in order; credentials are masked."""
        return self._organization.log.entries()

    @property
    def engine(self) -> LLMProvider:
        """The model behind it; another may be put in its place."""
        return self._organization.engine

    @engine.setter
    def engine(self, engine: LLMProvider) -> None:
        self._organization.engine = engine

    # ── trouble ──────────────────────────────────────────────────────────────────────────

    def fail_next(
        self,
        status: int,
        *,
        type: str | None = None,
        message: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        times: int = 1,
    ) -> None:
        """Answer the next ``times`` requests with an error, the service's own for that ``status``.

        Raises `ValueError` below 400.
        """
        self._organization.troubles.add(Fault(status, type, message, dict(headers or {}), body), times)

    def answer_next(
        self,
        status: int = 200,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = b"",
        times: int = 1,
    ) -> None:
        """Answer the next ``times`` requests with exactly this ``body`` and these ``headers``."""
        self._organization.troubles.add(RawAnswer(status, dict(headers or {}), body), times)

    def cut_next_stream(self, after_events: int = 1, *, clean: bool = False, times: int = 1) -> None:
        """Break the next stream off after so many events; with ``clean`` the HTTP answer ends properly."""
        self._organization.troubles.add(Cut(after_events, clean), times)

    def error_next_stream(
        self,
        type: str = "overloaded_error",
        message: str = "Overloaded",
        *,
        after_events: int = 3,
        times: int = 1,
    ) -> None:
        """Put an error event into the next stream after so many events."""
        self._organization.troubles.add(StreamError(type, message, after_events), times)

    def delay_next(self, seconds: float, *, times: int = 1) -> None:
        """Let the next ``times`` requests wait first; whatever else is scripted follows."""
        self._organization.troubles.add(float(seconds), times)

    def reset(self) -> None:
        """Forget recorded requests, scripted troubles and used quota."""
        self._organization.log.clear()
        self._organization.troubles.clear()
        self._organization.limits.reset()
