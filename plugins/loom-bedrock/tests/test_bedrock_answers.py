"""What Bedrock's answers and streams mean, without any network."""

from __future__ import annotations

import base64
from itertools import pairwise
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_bedrock.answers import decode_response, decode_usage
from loom_bedrock.config import BedrockConfig
from loom_bedrock.emulator.frames import event_frame, exception_frame
from loom_bedrock.stream import StreamAssembler
from loom_bedrock.wire import ConverseRequest, encode_request
from loom_py.errors import (
    ContentFilterError,
    ContextLengthError,
    IncompleteResponseError,
    MalformedResponseError,
    StreamInterruptedError,
)
from loom_py.events import StreamEvent
from loom_py.messages import Message, Response, TokenUsage, ToolSpec
from loom_py.options import ChatOptions

USAGE = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
CALL = {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"x": 1}}}


def request(**options: Any) -> ConverseRequest:
    config = BedrockConfig(model="us.anthropic.claude-sonnet-4-5-20250929-v1:0", region="us-east-1")
    return encode_request([Message.user("Hi")], [ToolSpec("look")], ChatOptions(**options), config)


def answer(*content: dict[str, Any], stop: str = "end_turn", **facts: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": list(content)}
    return {"output": {"message": message}, "stopReason": stop, "usage": USAGE, **facts}


def decode(*content: dict[str, Any], stop: str = "end_turn", **facts: Any) -> Response:
    return decode_response(answer(*content, stop=stop, **facts), request())


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("something_new", "something_new"),
    ],
)
def test_stop_reasons_have_their_common_names(stop: str, reason: str) -> None:
    response = decode({"text": "Hi"}, stop=stop)
    assert (response.finish_reason, response.metadata["stop_reason"]) == (reason, stop)


def test_a_call_is_a_call_whatever_the_stop_reason_says() -> None:
    assert decode(CALL, stop="tool_use").finish_reason == "tool_calls"
    assert decode(CALL, stop="end_turn").finish_reason == "tool_calls"


def test_calls_that_were_forbidden_are_left_out_and_counted() -> None:
    response = decode_response(answer({"text": "Hm."}, CALL, stop="tool_use"), request(tool_choice="none"))
    assert (response.message, response.tool_calls, response.finish_reason) == ("Hm.", (), "stop")
    assert response.metadata["tool_calls_left_out"] == 1


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        (USAGE, TokenUsage(10, 5)),
        (
            {**USAGE, "totalTokens": 3015, "cacheReadInputTokens": 2000, "cacheWriteInputTokens": 1000},
            TokenUsage(3010, 5, 2000, 1000),
        ),
        ({**USAGE, "cacheReadInputTokens": 2000}, TokenUsage(2010, 5, 2000)),
        (
            {"inputTokens": 3010, "outputTokens": 5, "totalTokens": 3015, "cacheReadInputTokens": 2000},
            TokenUsage(3010, 5, 2000),
        ),
        (None, TokenUsage()),
        ({"inputTokens": "10", "outputTokens": -3}, TokenUsage()),
    ],
    ids=["plain", "apart from the cache", "total without the cache", "cache counted in", "none", "nonsense"],
)
def test_cached_tokens_are_part_of_the_input_exactly_once(usage: Any, wanted: TokenUsage) -> None:
    assert decode_usage(usage) == wanted


def test_facts_of_the_answer_are_kept_as_json() -> None:
    response = decode(
        {"reasoningContent": {"reasoningText": {"text": "Hm. ", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": b"\0"}},
        {"text": "Hi"},
        metrics={"latencyMs": 321},
        trace={"promptRouter": {"invokedModelId": "arn:x"}, "guardrail": {"modelOutput": ["Hi"]}},
        serviceTier={"type": "priority"},
        additionalModelResponseFields={"stop": b"\1"},
    )
    assert response.metadata["reasoning"] == "Hm. "
    assert response.metadata["model_latency_ms"] == 321
    assert response.metadata["routed_to"] == "arn:x"
    assert response.metadata["service_tier"] == "priority"
    assert response.metadata["additional_fields"] == {"stop": base64.b64encode(b"\1").decode()}
    assert Response.from_json(response.to_json()) == response


# ── what is no answer ────────────────────────────────────────────────────────────────────


def assessment(action: str) -> dict[str, Any]:
    return {
        "g1": {
            "contentPolicy": {"filters": [{"type": "VIOLENCE", "confidence": "HIGH", "action": action}]},
            "sensitiveInformationPolicy": {
                "piiEntities": [{"type": "EMAIL", "match": "a@b", "action": "NONE"}]
            },
        }
    }


def test_a_prompt_a_guardrail_blocked_is_told_with_what_was_found() -> None:
    trace = {"guardrail": {"inputAssessment": assessment("BLOCKED")}}
    with pytest.raises(ContentFilterError) as caught:
        decode({"text": "Sorry."}, stop="guardrail_intervened", trace=trace)
    error = caught.value
    assert (error.side, error.partial_text) == ("prompt", "")
    assert error.filtered == ("contentPolicy:VIOLENCE",)
    assert error.severities == {"contentPolicy:VIOLENCE": "high"}
    assert error.tokens_used == TokenUsage(10, 5)


def test_an_answer_a_guardrail_blocked_has_its_text() -> None:
    trace = {"guardrail": {"outputAssessments": {"g1": [assessment("BLOCKED")["g1"]]}}}
    with pytest.raises(ContentFilterError) as caught:
        decode({"text": "Once"}, stop="guardrail_intervened", trace=trace)
    assert (caught.value.side, caught.value.partial_text) == ("completion", "Once")


def test_without_a_trace_the_side_is_told_by_whether_the_model_spoke() -> None:
    silent = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
    for usage, side in ((silent, "prompt"), (USAGE, "completion")):
        with pytest.raises(ContentFilterError) as caught:
            decode({"text": "Sorry."}, stop="guardrail_intervened", usage=usage)
        assert caught.value.side == side


def test_what_a_guardrail_only_masked_is_an_answer() -> None:
    trace = {"guardrail": {"outputAssessments": {"g1": [assessment("ANONYMIZED")["g1"]]}}}
    response = decode({"text": "{EMAIL}"}, stop="guardrail_intervened", trace=trace)
    assert response.message == "{EMAIL}"
    assert "outputAssessments" in response.metadata["guardrail"]


@pytest.mark.parametrize(
    ("stop", "kind"),
    [
        ("content_filtered", ContentFilterError),
        ("max_tokens", IncompleteResponseError),
        ("model_context_window_exceeded", ContextLengthError),
        ("malformed_tool_use", MalformedResponseError),
        ("malformed_model_output", MalformedResponseError),
    ],
)
def test_a_stop_without_an_answer_is_typed_and_says_its_tokens(stop: str, kind: type[Any]) -> None:
    with pytest.raises(kind) as caught:
        decode(stop=stop)
    assert caught.value.tokens_used == TokenUsage(10, 5)
    assert caught.value.provider_code == stop


@pytest.mark.parametrize("data", [{}, {"message": "<html>"}, {"output": {}}, {"output": {"message": {}}}])
def test_an_answer_without_a_message_is_malformed(data: dict[str, Any]) -> None:
    with pytest.raises(MalformedResponseError):
        decode_response(data, request())


# ── streams ──────────────────────────────────────────────────────────────────────────────

EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "sig"}}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Grüße "}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "👩‍👩‍👧"}, "p": "abc"}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    (
        "contentBlockStart",
        {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "look"}}},
    ),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"x"'}}}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": ": 1}"}}}),
    ("contentBlockStop", {"contentBlockIndex": 2}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 5}}),
    ("somethingNew", {"x": 1}),
]


def assembled(events: list[tuple[str, dict[str, Any]]]) -> tuple[list[StreamEvent], Response]:
    assembler = StreamAssembler(request())
    seen = [ours for kind, body in events for ours in assembler.feed({kind: body})]
    return seen, assembler.finish()


def test_a_stream_is_the_reply_it_would_have_been_at_once() -> None:
    seen, response = assembled(EVENTS)
    assert [event.type for event in seen] == [
        "text_delta",
        "text_delta",
        "tool_call_started",
        "tool_call_completed",
    ]
    said = {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "sig"}}}
    whole = decode_response(
        answer(said, {"text": "Grüße 👩‍👩‍👧"}, CALL, stop="tool_use", metrics={"latencyMs": 5}), request()
    )
    assert (response.message, response.metadata) == (whole.message, whole.metadata)
    assert response.provider_data == whole.provider_data
    assert [call.arguments for call in response.tool_calls] == [{"x": 1}]


RAW = b"".join(event_frame(kind, body) for kind, body in EVENTS)
RAW += exception_frame("throttlingException", {"message": "slow"})


@settings(deadline=None)
@given(st.lists(st.integers(0, len(RAW)), max_size=40))
def test_however_the_bytes_are_cut_botocore_reads_the_same_frames(cuts: list[int]) -> None:
    buffer, found = EventStreamBuffer(), []
    for start, end in pairwise([0, *sorted(cuts), len(RAW)]):
        buffer.add_data(RAW[start:end])
        found += [message.to_response_dict() for message in buffer]
    assert [one["headers"].get(":event-type") for one in found] == [*(kind for kind, _ in EVENTS), None]
    assert found[-1]["headers"][":exception-type"] == "throttlingException"


@pytest.mark.parametrize("upto", range(11))
def test_a_stream_that_ends_early_is_interrupted_with_what_it_had(upto: int) -> None:
    assembler = StreamAssembler(request())
    seen = [ours for kind, body in EVENTS[:upto] for ours in assembler.feed({kind: body})]
    with pytest.raises(StreamInterruptedError) as caught:
        assembler.finish()
    assert caught.value.partial_text == "".join(event.delta for event in seen)
    assert len(caught.value.partial_tool_calls) == 0


def test_an_answer_whose_tokens_never_came_is_an_answer_all_the_same() -> None:
    _, response = assembled(EVENTS[:12])
    assert response.tokens_used == TokenUsage()
    assert response.finish_reason == "tool_calls"
