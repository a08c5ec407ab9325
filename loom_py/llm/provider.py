"""The contract between agents and models: `LLMProvider`, and `BaseProvider` for plugin authors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

from loom_py._concurrency import aiter_in_thread, iter_from_async, run_coroutine, run_in_thread
from loom_py.errors import StreamInterruptedError
from loom_py.events import (
    FinalResponse,
    StreamEvent,
    TextDelta,
    ToolCallCompleted,
    ToolCallStarted,
    UsageEvent,
)
from loom_py.llm.costs.cost import Cost
from loom_py.llm.profiles import UNKNOWN_PROFILE, ModelProfile
from loom_py.messages import Message, Response, TokenUsage, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["BaseProvider", "LLMProvider", "events_of"]


@runtime_checkable
class LLMProvider(Protocol):
    """A model an agent can talk to.

    The four verbs do one and the same thing: one model call. ``messages`` is the whole
    conversation, ``tools`` what the model may ask for, ``options`` the settings of this call.
    All raise errors of the tree in `loom_py.errors` and nothing else. The last event of a stream
    is a `FinalResponse`; a stream that cannot give one raises `StreamInterruptedError`.
    """

    @property
    def name(self) -> str:
        """The provider's name, such as ``"azure-openai"``."""
        ...

    @property
    def model(self) -> str:
        """The model or deployment that is called."""
        ...

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response: ...

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response: ...

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]: ...

    def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]: ...


def events_of(response: Response) -> Iterator[StreamEvent]:
    """The stream a whole ``response`` would have been."""
    if response.message:
        yield TextDelta(response.message)
    for call in response.tool_calls:
        yield ToolCallStarted(call.id, call.name)
        yield ToolCallCompleted(call)
    yield UsageEvent(response.tokens_used)
    yield FinalResponse(response)


class BaseProvider:
    """Implement one verb, get the other three.

    A subclass defines ``chat``, ``achat``, ``stream_chat`` or ``astream_chat`` (or several: each
    that is defined is used as it is) and inherits the rest, built from what it defined. Blocking
    verbs are run in threads for async callers, and the reverse on a background event loop::

        class EchoProvider(BaseProvider):
            name = "echo"
            model = "echo-1"

            def chat(self, messages, tools=(), *, options=None):
                return Response(messages[-1].text)

    Defining none of them is a `TypeError` when the class is made.
    """

    name: str = "provider"
    model: str = "unknown"
    endpoint: str | None = None
    """Where the model is: with ``model`` it tells one deployment from another, for limits and breakers."""
    account: str | None = None
    """Whose quota calls count against, where endpoint and model do not tell; it is no secret."""
    timeout: float | None = None
    """Seconds that one call may take where no option says it; ``None`` where there is no bound."""
    keeps_timeouts: bool = False
    """Whether every verb ends by itself in the time that its options give it: ``timeout``, ``total_timeout``.
    One that does not is cut off from outside; that takes a thread or a task for each call with a bound."""
    VERBS: ClassVar[tuple[str, ...]] = ("chat", "achat", "stream_chat", "astream_chat")
    _own_verbs: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = frozenset(verb for verb in cls.VERBS if getattr(cls, verb) is not getattr(BaseProvider, verb))
        if not own:
            raise TypeError(f"{cls.__name__} must define one of {', '.join(cls.VERBS)}")
        cls._own_verbs = own

    @property
    def profile(self) -> ModelProfile:
        """What the model can do."""
        return UNKNOWN_PROFILE

    def output_limit(self, options: ChatOptions | None = None) -> int | None:
        """The most tokens the reply to a call with ``options`` can have; ``None`` where nothing limits it."""
        return None if options is None else options.max_tokens

    def worst_cost(
        self, input_tokens: int, output_tokens: int, *, options: ChatOptions | None = None
    ) -> Cost:
        """The most a call of so many tokens can cost, in USD, whatever is reported of it afterwards.

        A provider that knows no prices says so with `Cost.unknown`, as this one does.
        """
        return Cost.unknown(
            f"the provider {self.name} states no prices",
            model=self.model,
            usage=TokenUsage(input_tokens, output_tokens),
        )

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """One model call, blocking."""
        if "stream_chat" in self._own_verbs:
            return _last(self, self.stream_chat(messages, tools, options=options))
        return run_coroutine(self.achat(messages, tools, options=options))

    async def achat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """One model call, async."""
        if "astream_chat" in self._own_verbs:
            last = None
            async for event in self.astream_chat(messages, tools, options=options):
                last = event
            return _final(self, last)
        return await run_in_thread(self.chat, messages, tools, options=options)

    def stream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Iterator[StreamEvent]:
        """One model call as events, blocking."""
        if "astream_chat" in self._own_verbs:
            return iter_from_async(lambda: self.astream_chat(messages, tools, options=options))
        return _replay(self, messages, tools, options)

    def astream_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> AsyncIterator[StreamEvent]:
        """One model call as events, async."""
        if "stream_chat" in self._own_verbs:
            return aiter_in_thread(lambda: iter(self.stream_chat(messages, tools, options=options)))
        return _areplay(self, messages, tools, options)


def _replay(
    provider: LLMProvider,
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    options: ChatOptions | None,
) -> Iterator[StreamEvent]:
    yield from events_of(provider.chat(messages, tools, options=options))


async def _areplay(
    provider: LLMProvider,
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    options: ChatOptions | None,
) -> AsyncIterator[StreamEvent]:
    for event in events_of(await provider.achat(messages, tools, options=options)):
        yield event


def _last(provider: LLMProvider, events: Iterator[StreamEvent]) -> Response:
    last = None
    for event in events:
        last = event
    return _final(provider, last)


def _final(provider: LLMProvider, last: StreamEvent | None) -> Response:
    response = None if last is None else last.response
    if response is None:
        raise StreamInterruptedError(
            f"the stream of provider {provider.name!r} ended without a final response",
            deployment=provider.model,
        )
    return response
