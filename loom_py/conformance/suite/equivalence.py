"""The four verbs do one and the same thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from loom_py.conformance.scenario import VERBS, Stage, expect, scenario
from loom_py.conformance.script import Answer
from loom_py.conformance.suite.streaming import BESIDE
from loom_py.conformance.suite.tools import CLOCK, WEATHER
from loom_py.errors import LoomError
from loom_py.messages import Message, Response, TokenUsage
from loom_py.options import ChatOptions


@scenario("equivalence/responses")
def responses(stage: Stage) -> None:
    """The four verbs give equal responses: text, finish reason and model."""
    _compare(stage, Answer("It rains in Oslo."), lambda r: (r.message, r.finish_reason, r.model))


@scenario("equivalence/tool-calls", "call_ids", "tools")
def tool_calls(stage: Stage) -> None:
    """The four verbs give equal tool calls."""
    _compare(stage, BESIDE, lambda r: (r.message, r.tool_calls, r.finish_reason))


@scenario("equivalence/usage-and-cost", "usage")
def usage_and_cost(stage: Stage) -> None:
    """The four verbs count the same tokens and the same money."""
    answer = Answer("Hello.", usage=TokenUsage(1000, 200))
    _compare(stage, answer, lambda r: (r.tokens_used, r.cost_usd))


@scenario("equivalence/metadata")
def metadata(stage: Stage) -> None:
    """The four verbs give metadata with the same keys."""
    _compare(stage, Answer("Hello."), lambda r: sorted(r.metadata))


@scenario("equivalence/errors", "server_error")
def errors(stage: Stage) -> None:
    """The four verbs raise the same error for the same failure."""
    for kind in (
        "unauthorized",
        "not_found",
        "rate_limited(retry_after=2)",
        "server_error",
        "context_length",
    ):
        if kind.partition("(")[0] not in stage.adapter.capabilities:
            continue
        seen: list[tuple[str, Any]] = []
        for verb in VERBS:
            with stage.provider(Answer.fails(kind)) as provider:
                error = stage.call(provider, verb).failure(LoomError)
                facts = (type(error).__name__, error.code, error.http_status, error.retryable)
                seen.append((verb, (*facts, error.retry_after)))
        _all_equal(seen, f"the same error for {kind}")


@scenario("equivalence/requests", "requests")
def requests(stage: Stage) -> None:
    """The four verbs ask the service for the same thing."""
    messages = [Message.system("Be brief."), Message.user("Hello")]
    tools = (WEATHER, CLOCK) if "tools" in stage.adapter.capabilities else ()
    seen: list[tuple[str, Any]] = []
    for verb in VERBS:
        with stage.provider(Answer("Hello.")) as provider:
            stage.call(provider, verb, messages, tools, ChatOptions(max_tokens=99)).whole()
            request = stage.last_request
            texts = [(message.role, message.text) for message in request.messages]
            offered = [(tool.name, tool.description, dict(tool.parameters)) for tool in request.tools]
            seen.append((verb, (texts, offered, replace(request.options, extra_body={}))))
    _all_equal(seen, "the same request")


def _compare(stage: Stage, answer: Answer, part: Any) -> None:
    seen = []
    tools = (WEATHER, CLOCK) if answer.calls else ()
    for verb in VERBS:
        with stage.provider(answer) as provider:
            response: Response = stage.call(provider, verb, "Hello", tools).whole()
            seen.append((verb, part(response)))
    _all_equal(seen, "equal responses")


def _all_equal(seen: list[tuple[str, Any]], what: str) -> None:
    verb, first = seen[0]
    for other, value in seen[1:]:
        expect(value == first, f"{what} from {verb} and {other}", f"{first!r} and {value!r}")
