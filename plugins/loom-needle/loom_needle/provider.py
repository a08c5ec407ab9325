"""`NeedleProvider`: the model chooses the tools, rules write the text."""

from __future__ import annotations

import math
import uuid
from collections.abc import Collection, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

from loom_needle.answer import compose, decline
from loom_needle.engine import ENGINE, MODEL, Decision, check_installed
from loom_needle.schema import engine_tools
from loom_py.errors import ConfigError, ContextLengthError, InvalidRequestError
from loom_py.llm.costs import Cost
from loom_py.llm.estimates import estimate_usage
from loom_py.llm.profiles import ModelProfile
from loom_py.llm.provider import BaseProvider
from loom_py.messages import ImagePart, Message, Response, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["MAX_QUESTION_CHARACTERS", "MAX_TOOLS", "NeedleProvider"]

MAX_TOOLS = 10
"""Beyond this the model chooses badly and takes long: 35 tools took 15 s to load, and missed."""

MAX_QUESTION_CHARACTERS = 8000
"""The engine reads about 1,200 characters a second, and nobody else is served meanwhile."""

DEFAULT_MIN_CONFIDENCE = 0.3
"""What the model chose wrongly in trials scored below this."""

PROFILE = ModelProfile(max_output=512, vision=False)
_OWN_MACHINE = "this machine: nobody bills it"


class NeedleProvider(BaseProvider):
    """A local model of 121 million parameters that turns a question into tool calls.

    It reads the last user message and the tools, nothing else: no system prompt, no history. Once the
    tools have answered, the reply is composed of their results by rule, and where it is not sure which
    tool fits, it says so and lists what it can do. The same question and tools give the same calls.

    A call costs nothing: ``cost_usd`` is 0. ``metadata`` of a response holds ``composed`` (whether the
    text was made by rule), ``usage_estimated`` (always true: four characters are counted as one token)
    and, where the model was asked, ``confidence``, ``reasoning`` and ``ungrounded``.

    Args:
        min_confidence: 0.0 to 1.0; calls the model is less sure of are not made.
        offer: names of the tools the model may choose from; ``None`` for all. The rest of an agent's
            tools stay unknown to it, so that general ones don't crowd out narrow ones.
        model: only ``needle-3``.
        name: the provider's name.

    Of the options ``tool_choice``, ``parallel_tool_calls`` and ``timeout`` (seconds of waiting for the
    engine) are followed; the others do not apply. Safe for threads: the engine serves one call at a
    time in a process, whatever the number of providers.

    Raises `ConfigError` for settings out of range and `MissingDependencyError` where the engine is
    not installed.
    """

    def __init__(
        self,
        *,
        min_confidence: float = DEFAULT_MIN_CONFIDENCE,
        offer: Collection[str] | None = None,
        model: str = MODEL,
        name: str = "needle",
    ) -> None:
        if model != MODEL:
            raise ConfigError(f"unknown model {model!r}: there is only {MODEL!r}", field="model")
        if not _is_share(min_confidence):
            raise ConfigError(
                f"min_confidence must be between 0.0 and 1.0, not {min_confidence!r}", field="min_confidence"
            )
        if isinstance(offer, str):
            raise ConfigError(
                f"offer takes several names, not the text {offer!r}: offer=[{offer!r}]", field="offer"
            )
        check_installed()
        self.name = name
        self.model = model
        self.min_confidence = float(min_confidence)
        self.offer = None if offer is None else frozenset(offer)
        self._engine = ENGINE

    def __repr__(self) -> str:
        return f"NeedleProvider(model={self.model!r}, min_confidence={self.min_confidence:g})"

    def output_limit(self, options: ChatOptions | None = None) -> int | None:
        """The most tokens of the model's reply; text that is composed of tool results has no limit."""
        return PROFILE.max_output

    def worst_cost(
        self, input_tokens: int, output_tokens: int, *, options: ChatOptions | None = None
    ) -> Cost:
        """Nothing: the model runs on this machine."""
        return self._cost(TokenUsage(input_tokens, output_tokens))

    def _cost(self, usage: TokenUsage) -> Cost:
        return Cost(Decimal(0), model=self.model, usage=usage, source=_OWN_MACHINE)

    @property
    def profile(self) -> ModelProfile:
        """Tools and several calls at once, text only; at most 512 tokens of output."""
        return PROFILE

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        options: ChatOptions | None = None,
    ) -> Response:
        """The tool calls for the last user message, or the answer its tool results give.

        Raises `InvalidRequestError` for more than `MAX_TOOLS` tools, images or no user message,
        `ContextLengthError` for more than `MAX_QUESTION_CHARACTERS`, `MissingDependencyError`,
        `RequestTimeoutError`, `IncompleteResponseError` and `ServiceUnavailableError` as the engine does.
        """
        options = options or ChatOptions()
        position = self._last_user(messages)
        turn = messages[position + 1 :]
        if any(message.role == "tool" for message in turn):
            return self._text(compose(turn), messages, tools)
        question = self._question(messages[position])
        offered = self._offered(tools, options.tool_choice)
        if not offered or not question.strip():
            return self._text(decline(offered), messages, tools)
        decision = self._engine.decide(question, engine_tools(offered), timeout=options.timeout)
        calls = self._calls(decision, options)
        if not calls:
            return self._text(decline(offered), messages, tools, decision)
        return self._response("", calls, messages, tools, decision)

    # ── the request ──────────────────────────────────────────────────────────────────────

    def _last_user(self, messages: Sequence[Message]) -> int:
        for position in range(len(messages) - 1, -1, -1):
            if messages[position].role == "user":
                return position
        raise self._invalid("there is no user message to answer", "messages")

    def _question(self, message: Message) -> str:
        if any(isinstance(part, ImagePart) for part in message.content):
            raise self._invalid("the model reads text only, and the message holds an image", "messages")
        text = message.text
        if len(text) > MAX_QUESTION_CHARACTERS:
            raise ContextLengthError(
                f"the question has {len(text)} characters and the limit is {MAX_QUESTION_CHARACTERS}",
                param="messages",
                deployment=self.model,
                hint="Shorten the question: this model is for single requests.",
            )
        return text

    def _offered(self, tools: Sequence[ToolSpec], choice: str | None) -> list[ToolSpec]:
        offered = [tool for tool in tools if self.offer is None or tool.name in self.offer]
        if choice == "none":
            return []
        if choice not in (None, "auto", "required"):
            offered = [tool for tool in tools if tool.name == choice]
            if not offered:
                raise self._invalid(f"tool_choice names {choice!r}, which is not a tool here", "tool_choice")
        if len(offered) > MAX_TOOLS:
            raise self._invalid(
                f"{len(offered)} tools are offered and the model chooses well among {MAX_TOOLS} at most",
                "tools",
                hint="Name the tools it may choose from: NeedleProvider(offer=[...]).",
            )
        return offered

    def _invalid(self, message: str, param: str, hint: str | None = None) -> InvalidRequestError:
        return InvalidRequestError(message, param=param, deployment=self.model, hint=hint)

    # ── the reply ────────────────────────────────────────────────────────────────────────

    def _calls(self, decision: Decision, options: ChatOptions) -> tuple[ToolCall, ...]:
        if options.tool_choice in (None, "auto"):
            found = decision.calls if decision.confidence >= self.min_confidence else ()
        else:  # a call is demanded: the model's best guess, sure or not
            found = decision.calls or decision.suppressed
        if options.parallel_tool_calls is False:
            found = found[:1]
        return tuple(ToolCall.parse(f"call_{uuid.uuid4().hex[:24]}", name, text) for name, text in found)

    def _text(
        self,
        text: str,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        decision: Decision | None = None,
    ) -> Response:
        return self._response(text, (), messages, tools, decision)

    def _response(
        self,
        text: str,
        calls: tuple[ToolCall, ...],
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        decision: Decision | None,
    ) -> Response:
        metadata: dict[str, Any] = {"provider": self.name, "composed": not calls, "usage_estimated": True}
        if decision is not None:
            metadata["confidence"] = decision.confidence
            metadata["reasoning"] = decision.reasoning
            metadata["ungrounded"] = list(decision.ungrounded)
        cost = self._cost(estimate_usage(messages, tools, Message.assistant(text, calls)))
        metadata["cost"] = cost.to_dict()
        return Response(
            message=text,
            tokens_used=cost.usage,
            cost_usd=cost.usd,
            tool_calls=calls,
            finish_reason="tool_calls" if calls else "stop",
            model=self.model,
            metadata=metadata,
        )

    # ── the end ──────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Nothing: the engine stays loaded for the process's other providers, and for a later call."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_share(value: object) -> bool:
    """Whether ``value`` is a number from 0.0 to 1.0."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= 1
    )
