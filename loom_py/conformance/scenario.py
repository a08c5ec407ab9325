"""A scenario, what it can do while it runs, and the register of all of them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from loom_py.conformance.adapter import FEATURES, Adapter
from loom_py.conformance.script import Answer, Script, SeenRequest
from loom_py.errors import LoomError
from loom_py.events import StreamEvent
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Message, Response, ToolSpec
from loom_py.options import ChatOptions

__all__ = [
    "STREAMS",
    "VERBS",
    "WHOLE",
    "AdapterFault",
    "Mismatch",
    "Outcome",
    "Scenario",
    "Stage",
    "acall",
    "aclose_stream",
    "call",
    "close",
    "close_stream",
    "described",
    "expect",
    "expect_equal",
    "register",
    "scenario",
]

T = TypeVar("T")
E = TypeVar("E", bound=LoomError)

WHOLE = ("chat", "achat")
STREAMS = ("stream_chat", "astream_chat")
VERBS = (*WHOLE, *STREAMS)

SHOWN = 300
"""Characters of a value in a report."""


class Mismatch(Exception):  # noqa: N818 - not an error of ours: the finding of a scenario
    """The provider did something other than what is ``expected``."""

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}; saw {seen}")
        self.expected = expected
        self.seen = seen


class AdapterFault(Exception):  # noqa: N818 - it wraps the error it tells of
    """The adapter or its fake service failed, so nothing is known of the provider."""

    def __init__(self, doing: str, error: Exception) -> None:
        super().__init__(f"{doing}: {described(error)}")


def shown(value: object) -> str:
    """``value`` for a report, cut where it is long."""
    text = value if isinstance(value, str) and "\n" not in value else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


def expect(holds: object, expected: str, seen: object) -> None:
    """Raises `Mismatch` unless it ``holds``."""
    if not holds:
        raise Mismatch(expected, shown(seen))


def expect_equal(seen: object, expected: object, what: str) -> None:
    """Raises `Mismatch` unless both are equal; ``what`` names the thing."""
    if seen != expected:
        raise Mismatch(f"{what} {shown(repr(expected))}", shown(repr(seen)))


@dataclass(slots=True)
class Outcome:
    """What one call of a provider came to: a response or an error, and the events of a stream."""

    verb: str
    response: Response | None = None
    error: BaseException | None = None
    events: list[StreamEvent] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The deltas of the stream, joined."""
        return "".join(event.delta for event in self.events)

    def whole(self) -> Response:
        """The response. Raises `Mismatch` where there is none."""
        if self.error is not None:
            raise Mismatch(f"a response from {self.verb}", described(self.error))
        if self.response is None:
            last = self.events[-1] if self.events else "no event at all"
            raise Mismatch(f"a final response from {self.verb}", f"the stream ended with {last!r}")
        return self.response

    def failure(self, kind: type[E]) -> E:
        """The error. Raises `Mismatch` unless it is a ``kind``."""
        if isinstance(self.error, kind):
            return self.error
        seen = f"the response {self.response!r}" if self.error is None else described(self.error)
        raise Mismatch(f"{kind.__name__} from {self.verb}", shown(seen))


def described(error: BaseException) -> str:
    """An error's type and text, for a report."""
    return shown(f"{type(error).__name__}: {error}")


class Stage:
    """What a scenario works with: the adapter, providers on scripts, and calls of any verb.

    All async calls of a scenario run on one event loop of its own.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._task: asyncio.Task[Any] | None = None

    @property
    def requests(self) -> Sequence[SeenRequest]:
        """What the service saw."""
        try:
            return self.adapter.requests()
        except Exception as exc:
            raise AdapterFault("the adapter's requests() failed", exc) from exc

    @property
    def last_request(self) -> SeenRequest:
        """What the service saw last. Raises `Mismatch` where it saw nothing."""
        seen = self.requests
        expect(seen, "a request at the service", "none")
        return seen[-1]

    @contextmanager
    def provider(self, *answers: Answer, script: Script | None = None) -> Iterator[LLMProvider]:
        """A provider whose service gives these answers, closed at the end."""
        with contextlib.ExitStack() as stack:
            try:
                provider = stack.enter_context(self.adapter.provider(script or Script(answers)))
            except Exception as exc:
                raise AdapterFault("the adapter's provider() failed", exc) from exc
            try:
                yield provider
            except BaseException:
                with contextlib.suppress(Exception):  # what went wrong first is what is told
                    self.run(close(provider))
                raise
            try:
                self.run(close(provider))
            except Exception as exc:
                raise Mismatch("the provider to close", described(exc)) from exc

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run async code of the scenario."""

        async def noted() -> T:
            self._task = asyncio.current_task()
            return await coroutine

        return self._runner.run(noted())

    def call(
        self,
        provider: LLMProvider,
        verb: str,
        messages: Sequence[Message] | str = "Hello",
        tools: Sequence[ToolSpec] = (),
        options: ChatOptions | None = None,
    ) -> Outcome:
        """One call by ``verb``; what it raises is in the outcome."""
        if verb in {"achat", "astream_chat"}:
            return self.run(acall(provider, verb, messages, tools, options))
        return call(provider, verb, messages, tools, options)

    def abandon(self) -> None:
        """Cancel what the scenario waits for; from another thread."""
        with contextlib.suppress(RuntimeError):  # its loop has ended by itself
            if self._task is not None:
                self._loop.call_soon_threadsafe(self._task.cancel)

    def close(self) -> None:
        """End the event loop."""
        self._runner.close()


async def close(provider: LLMProvider) -> None:
    """Close ``provider`` in whichever way it has."""
    aclose = getattr(provider, "aclose", None)
    if aclose is not None:
        await aclose()
    elif (plain := getattr(provider, "close", None)) is not None:
        plain()


def call(
    provider: LLMProvider,
    verb: str,
    messages: Sequence[Message] | str,
    tools: Sequence[ToolSpec] = (),
    options: ChatOptions | None = None,
) -> Outcome:
    """One blocking call; what it raises is in the outcome."""
    outcome = Outcome(verb)
    try:
        if verb == "chat":
            outcome.response = provider.chat(conversation(messages), tools, options=options)
        else:
            for event in provider.stream_chat(conversation(messages), tools, options=options):
                outcome.events.append(event)
                outcome.response = event.response
    except Exception as exc:  # noqa: BLE001 - the finding is the scenario's to judge
        outcome.error = exc
    return outcome


async def acall(
    provider: LLMProvider,
    verb: str,
    messages: Sequence[Message] | str,
    tools: Sequence[ToolSpec] = (),
    options: ChatOptions | None = None,
) -> Outcome:
    """`call`, async."""
    outcome = Outcome(verb)
    try:
        if verb == "achat":
            outcome.response = await provider.achat(conversation(messages), tools, options=options)
        else:
            events: AsyncIterator[StreamEvent] = provider.astream_chat(
                conversation(messages), tools, options=options
            )
            async for event in events:
                outcome.events.append(event)
                outcome.response = event.response
    except Exception as exc:  # noqa: BLE001 - the finding is the scenario's to judge
        outcome.error = exc
    return outcome


def close_stream(events: Any) -> None:
    """Close a stream, if it is of a kind that can be."""
    close = getattr(events, "close", None)
    if close is not None:
        close()


async def aclose_stream(events: Any) -> None:
    """`close_stream`, async."""
    aclose = getattr(events, "aclose", None)
    if aclose is not None:
        await aclose()


def conversation(messages: Sequence[Message] | str) -> Sequence[Message]:
    """The messages; of a text, the user saying it."""
    return [Message.user(messages)] if isinstance(messages, str) else messages


# ── the register ─────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Scenario:
    """One promise of a provider: its stable ``id``, a sentence, and the function that tries it.

    ``needs`` are the `FEATURES` without which it is skipped. The function raises `Mismatch` where
    the promise is broken.
    """

    id: str
    sentence: str
    function: Callable[[Stage], None] = field(repr=False)
    needs: AbstractSet[str] = frozenset()

    @property
    def group(self) -> str:
        """The part of the id before the slash."""
        return self.id.partition("/")[0]


_register: dict[str, Scenario] = {}


def register() -> dict[str, Scenario]:
    """Every scenario by its id, in the order of a scorecard."""
    from loom_py.conformance import suite

    suite.load()
    return dict(_register)


def scenario(id: str, *needs: str) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Register a function as the scenario ``id``; the first line of its docstring is the sentence.

    Raises `ValueError` for an id that is taken, an unknown need, or a missing sentence.
    """

    def add(function: Callable[[Stage], None]) -> Callable[[Stage], None]:
        sentence = (inspect.getdoc(function) or "").partition("\n")[0]
        if not sentence or id in _register or not set(needs) <= set(FEATURES):
            raise ValueError(f"scenario {id!r}: the id is taken, a need is unknown, or it has no sentence")
        _register[id] = Scenario(id, sentence, function, frozenset(needs))
        return function

    return add
