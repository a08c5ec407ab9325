"""The agent loop: one generator that decides, and does nothing itself.

It yields what it wants done, `AskModel` or `RunTools`, and is sent the outcome. It knows no
network, thread, clock or ``await``; the agent's four verbs are thin drivers of it::

    run = AgentRun(history, limits)
    step = run.begin()
    while step is not None:
        outcome = ask_model(step) if isinstance(step, AskModel) else run_tools(step)
        step = run.send(outcome)
    run.response, run.messages
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import count
from typing import Any, Literal, TypeAlias, cast

from loom_py.errors import (
    ConfigError,
    ContentFilterError,
    LimitExceededError,
    LoomError,
    OutputValidationError,
    RefusalError,
)
from loom_py.llm.costs import added
from loom_py.messages import Message, Response, TokenUsage, ToolCall, ToolResult
from loom_py.output import OutputSpec

__all__ = ["AgentRun", "AskModel", "Limits", "RunTools", "Step"]

ANSWER_NOW = (
    "You have reached the limit of tool use for this question. Give your final answer now, from what"
    " you have found so far, and say what is missing."
)
CORRECT = "Your answer does not fit the schema: {problem}. Give the whole answer again, corrected."
NUDGE = "Your last reply was empty. Please answer the question, or call a tool."


@dataclass(frozen=True, slots=True)
class Limits:
    """How far one chat may go.

    ``max_turns`` model calls, ``max_tool_executions`` tool calls in all and
    ``max_tool_calls_per_reply`` of one reply. At a limit the model gets one last call without
    tools to answer with what it has; with ``on_limit="raise"`` a `LimitExceededError` is raised
    instead. Where a type was asked for, an answer that does not fit is sent back
    ``max_output_corrections`` times. Raises `ConfigError` for limits below 1 (corrections: 0).
    """

    max_turns: int = 25
    max_tool_executions: int = 50
    max_tool_calls_per_reply: int = 10
    on_limit: Literal["answer", "raise"] = "answer"
    max_output_corrections: int = 2

    def __post_init__(self) -> None:
        least = {"max_turns": 1, "max_tool_executions": 1, "max_tool_calls_per_reply": 1}
        for name, lowest in (least | {"max_output_corrections": 0}).items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
                message = f"{name} must be a whole number of at least {lowest}, not {value!r}"
                raise ConfigError(message, field=name)
        if self.on_limit not in {"answer", "raise"}:
            raise ConfigError(
                f"on_limit must be 'answer' or 'raise', not {self.on_limit!r}", field="on_limit"
            )


@dataclass(frozen=True, slots=True)
class AskModel:
    """Send ``messages`` to the model, with the tools or without; wants a `Response`.

    ``output`` is the type the answer must fit, where one was asked for.
    """

    messages: tuple[Message, ...]
    with_tools: bool
    output: OutputSpec[Any] | None = None


@dataclass(frozen=True, slots=True)
class RunTools:
    """Run ``calls``; wants their results in the same order."""

    calls: tuple[ToolCall, ...]


Step: TypeAlias = AskModel | RunTools
_Loop: TypeAlias = Generator[Step, Any, Response]


class AgentRun:
    """One chat on its way through the loop.

    ``messages`` are the messages it has added to the history, from the assistant's first reply to
    its last. ``response`` is the answer, there once `send` has returned ``None``.

    A call of a tool named in ``foreign`` ends the chat: it is for the caller to run.
    """

    def __init__(
        self,
        history: Sequence[Message],
        limits: Limits | None = None,
        output: OutputSpec[Any] | None = None,
        foreign: frozenset[str] = frozenset(),
    ) -> None:
        self._history = tuple(history)
        self._foreign = foreign
        self._limits = limits or Limits()
        self._output = output
        self._shown: list[Message] = []  # what the model has seen since, corrections included
        self.messages: list[Message] = []
        self.response: Response | None = None
        self._usage = TokenUsage()
        self._cost: Decimal | None = Decimal(0)
        self._turns = 0
        self._calls: list[ToolCall] = []
        self._results: list[ToolResult] = []
        self._notes: dict[str, Any] = {}
        self._loop: _Loop = self._run()

    @property
    def has_run_tools(self) -> bool:
        """Whether a tool of this chat has run, or was tried."""
        return bool(self._results)

    def begin(self) -> Step | None:
        """The first step."""
        return self._advance(None)

    def send(self, outcome: Response | Sequence[ToolResult]) -> Step | None:
        """The next step, given what came of the last; ``None`` when the chat is over."""
        return self._advance(outcome)

    def account(self, error: LoomError) -> None:
        """Let ``error``, which ends the chat, say what the whole of it had spent by then."""
        spent = error.cost_usd if error.tokens_used or _is_billed(error) else Decimal(0)
        error.tokens_used = self._usage + (error.tokens_used or TokenUsage())
        error.cost_usd = added(self._cost, spent)

    def _advance(self, outcome: Any) -> Step | None:
        try:
            return self._loop.send(outcome)
        except StopIteration as stop:
            self.response = cast("Response", stop.value)
            return None

    # ── the loop itself ──────────────────────────────────────────────────────────────────

    def _run(self) -> _Loop:
        nudge: tuple[Message, ...] = ()
        while (limit := self._limit_reached()) is None:
            reply = yield from self._ask(nudge, with_tools=True)
            nudge = ()
            if handed_over := self._for_the_caller(reply):
                return self._hand_over(reply, handed_over)
            if reply.tool_calls and not self._gives_output(reply):
                yield from self._run_tools(reply)
            elif self._output is not None:
                if (answer := self._structured(reply)) is not None:
                    return answer
            elif reply.message.strip() or "empty_retried" in self._notes:
                return self._answer(reply)
            else:
                self._notes["empty_retried"] = True
                nudge = (Message.user(NUDGE),)
        if self._limits.on_limit == "raise":
            raise LimitExceededError(
                f"the chat reached {limit} = {getattr(self._limits, limit)}",
                hint=f"Raise {limit} with with_limits(), or let the model answer with what it has.",
            )
        self._notes |= {f"{limit}_hit": True, "synthesized": True}
        while True:
            reply = yield from self._ask((Message.user(ANSWER_NOW),), with_tools=False)
            answer = self._answer(reply) if self._output is None else self._structured(reply)
            if answer is not None:
                return answer

    def _limit_reached(self) -> str | None:
        if self._turns >= self._limits.max_turns:
            return "max_turns"
        if len(self._results) >= self._limits.max_tool_executions:
            return "max_tool_executions"
        return None

    def _ask(self, extra: tuple[Message, ...], *, with_tools: bool) -> Generator[Step, Any, Response]:
        messages = (*self._history, *self._shown, *extra)
        reply: Response = yield AskModel(messages, with_tools, self._output)
        self._turns += 1
        self._usage += reply.tokens_used
        self._cost = added(self._cost, reply.cost_usd)
        return reply

    def _run_tools(self, reply: Response) -> Generator[Step, Any, None]:
        calls = _with_distinct_ids(reply.tool_calls)
        asked = replace(reply.to_message(), tool_calls=calls)
        left = self._limits.max_tool_executions - len(self._results)
        allowed = min(left, self._limits.max_tool_calls_per_reply)
        run, refused = calls[:allowed], calls[allowed:]
        results: Sequence[ToolResult] = yield RunTools(run)
        self._calls += run
        self._results += results
        answered = (*results, *(self._refused(call) for call in refused))
        told = [Message.tool(result.content, result.call_id, result.name) for result in answered]
        self.messages += (asked, *told)
        self._shown += (asked, *told)

    def _refused(self, call: ToolCall) -> ToolResult:
        per_reply = self._limits.max_tool_calls_per_reply
        text = (
            f"Error (limit_reached): this call was not run; at most {per_reply} tool calls of one reply and"
            f" {self._limits.max_tool_executions} in all are. Suggestion: ask again for what you still need."
        )
        return ToolResult(call.id, call.name, text, is_error=True, error_code="limit_reached")

    # ── tools of the caller ──────────────────────────────────────────────────────────────

    def _for_the_caller(self, reply: Response) -> tuple[ToolCall, ...]:
        """The calls that the caller has to run. Its own ones the agent leaves out then: the model cannot
        be told their results before the caller's, and will ask again."""
        if not self._foreign or not reply.tool_calls:
            return ()
        return tuple(call for call in _with_distinct_ids(reply.tool_calls) if call.name in self._foreign)

    def _hand_over(self, reply: Response, calls: tuple[ToolCall, ...]) -> Response:
        self.messages.append(replace(reply.to_message(), tool_calls=calls))
        return replace(self._response(reply, reply.message), tool_calls=(*self._calls, *calls))

    # ── structured output ────────────────────────────────────────────────────────────────

    def _gives_output(self, reply: Response) -> bool:
        """Whether ``reply`` is the answer in the form of a call, and no call to run."""
        return self._output is not None and self._output.call_in(reply) is not None

    def _structured(self, reply: Response) -> Response | None:
        """The answer with its value; ``None`` where it does not fit and is sent back.

        Corrections are shown to the model and leave no trace in the history. Raises `RefusalError`,
        and `OutputValidationError` once an answer has been sent back often enough.
        """
        assert self._output is not None
        call = self._output.call_in(reply)
        if call is None and reply.metadata.get("refusal"):
            raise RefusalError(f"the model declined: {reply.metadata['refusal']}")
        text = reply.message if call is None else call.arguments_json
        try:
            value = self._output.parse(text)
        except OutputValidationError as error:
            tried = self._notes.get("output_corrections", 0)
            was_cut = reply.finish_reason == "length"
            if was_cut or tried >= self._limits.max_output_corrections:
                raise _final(error, self._output.name, was_cut=was_cut) from None
            self._notes["output_corrections"] = tried + 1
            self._shown += _correction(reply, CORRECT.format(problem=error.message))
            return None
        return self._answer(replace(reply, message=text), value)

    def _answer(self, reply: Response, value: Any = None) -> Response:
        text = reply.message
        if not text.strip():
            text = f"Completed {len(self._results)} tool executions across {self._turns} turns."
            self._notes["empty_reply"] = True
        self.messages.append(replace(reply.to_message(), content=text, tool_calls=()))
        return self._response(reply, text, value)

    def _response(self, reply: Response, text: str, value: Any = None) -> Response:
        """The chat as a whole, which ends with ``reply``."""
        return Response(
            message=text,
            tokens_used=self._usage,
            cost_usd=self._cost,
            tool_calls=tuple(self._calls),
            finish_reason=reply.finish_reason,
            model=reply.model,
            metadata={
                **{key: value for key, value in reply.metadata.items() if key != "cost"},
                "turns": self._turns,
                "tool_executions": len(self._results),
                **self._notes,
            },
            tool_results=tuple(self._results),
            output=value,
        )


def _final(error: OutputValidationError, name: str, *, was_cut: bool) -> OutputValidationError:
    """The error for an answer that is not sent back again; one that was cut off would be once more."""
    cut = ", for it was cut off at the token limit" if was_cut else ""
    hint = "Raise max_tokens, so that the whole answer has room." if was_cut else error.hint
    return OutputValidationError(
        f"the answer does not fit {name}{cut}: {error.message}", text=error.text, hint=hint
    )


def _correction(reply: Response, text: str) -> tuple[Message, ...]:
    """What the model is shown of an answer that did not fit: the answer, and what is wrong with it."""
    if not reply.tool_calls:
        return (reply.to_message(), Message.user(text))
    calls = _with_distinct_ids(reply.tool_calls)
    results = (Message.tool(f"Error (invalid_output): {text}", call.id, call.name) for call in calls)
    return (replace(reply.to_message(), tool_calls=calls), *results)


def _is_billed(error: LoomError) -> bool:
    """Whether the failed call cost something, though nobody says how much: a prompt that the content
    filter blocked is charged for its evaluation (Azure's documentation of content streaming)."""
    return isinstance(error, ContentFilterError)


def _with_distinct_ids(calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
    """The calls with an id each: a result must find its call, also for models that repeat ids."""
    given = {call.id for call in calls}
    seen: set[str] = set()
    distinct = []
    for call in calls:
        if not call.id or call.id in seen:
            base = call.id or "call"
            fresh = (f"{base}_{number}" for number in count(1))
            call = replace(call, id=next(name for name in fresh if name not in given | seen))
        seen.add(call.id)
        distinct.append(call)
    return tuple(distinct)
