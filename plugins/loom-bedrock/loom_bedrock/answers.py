"""What Bedrock answered, as a response or an error. Pure: no client, no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loom_bedrock.content import pack_reasoning
from loom_bedrock.wire import ConverseRequest
from loom_py.errors import (
    ContentFilterError,
    ContextLengthError,
    IncompleteResponseError,
    MalformedResponseError,
)
from loom_py.messages import Response, TokenUsage, ToolCall

__all__ = ["decode_response", "decode_usage", "response_of"]

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}
"""The common names of Bedrock's stop reasons; an unknown one stays as it is."""

FILTERED = frozenset({"guardrail_intervened", "content_filtered"})
MALFORMED = frozenset({"malformed_model_output", "malformed_tool_use"})


def decode_response(answer: Mapping[str, Any], request: ConverseRequest) -> Response:
    """The reply in a whole answer of Converse, as botocore parsed it.

    Raises `MalformedResponseError` where there is none, `ContentFilterError` where a guardrail or the
    model's filter stopped it, `IncompleteResponseError` and `ContextLengthError` where a limit left no
    text.
    """
    output = answer.get("output")
    message = output.get("message") if isinstance(output, Mapping) else None
    if not isinstance(message, Mapping) or not isinstance(answer.get("stopReason"), str):
        raise MalformedResponseError(
            "the answer has no message", hint="Look for a proxy between here and Bedrock that answers itself."
        )
    blocks = [block for block in message.get("content") or () if isinstance(block, Mapping)]
    return response_of(blocks, answer, request)


def response_of(
    blocks: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], request: ConverseRequest
) -> Response:
    """The reply that these content blocks are; ``facts`` are the answer's other members.

    Raises as `decode_response` does.
    """
    text = "".join(block["text"] for block in blocks if isinstance(block.get("text"), str))
    calls = () if request.drops_calls else tuple(_calls(blocks, request))
    usage = decode_usage(facts.get("usage"))
    stop = str(facts.get("stopReason"))
    metadata = _metadata(blocks, facts, request)
    _refuse(stop, text, usage, metadata)
    finish_reason = "tool_calls" if calls else FINISH_REASONS.get(stop, stop)
    if finish_reason == "tool_calls" and not calls:
        finish_reason = "stop"
    if finish_reason == "length" and not text and not calls:
        raise _out_of_room(stop, usage)
    return Response(
        text,
        usage,
        tool_calls=calls,
        finish_reason=finish_reason,
        metadata=metadata,
        provider_data={} if request.drops_calls else pack_reasoning(request.params["modelId"], blocks),
    )


def _calls(blocks: Sequence[Mapping[str, Any]], request: ConverseRequest) -> Iterator[ToolCall]:
    for block in blocks:
        if isinstance(use := block.get("toolUse"), Mapping):
            name = request.names.from_wire(str(use.get("name", "")))
            yield decode_call(str(use.get("toolUseId", "")), name, use.get("input"))


def decode_call(call_id: str, name: str, input_: Any) -> ToolCall:
    """The call with this ``input_``: an object as it should be, or the model's own text."""
    if isinstance(input_, dict):
        return ToolCall(call_id, name, input_)
    text = input_ if isinstance(input_, str) or input_ is None else json.dumps(input_, ensure_ascii=False)
    return ToolCall.parse(call_id, name, text)


def decode_usage(usage: Any) -> TokenUsage:
    """The tokens of an answer.

    ``inputTokens`` are those that were neither read from the cache nor written to it (AWS's documentation
    of prompt caching), so all three are the input; where a model's ``totalTokens`` says that they were
    counted in already, they are not added.
    """
    if not isinstance(usage, Mapping):
        return TokenUsage()
    input_, output, total, read, written = (
        _count(usage.get(name))
        for name in (
            *("inputTokens", "outputTokens", "totalTokens"),
            *("cacheReadInputTokens", "cacheWriteInputTokens"),
        )
    )
    if not (total == input_ + output and read + written <= input_ and read + written):
        input_ += read + written
    return TokenUsage(input_, output, read, written)


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


# ── what went wrong ──────────────────────────────────────────────────────────────────────


def _refuse(stop: str, text: str, usage: TokenUsage, metadata: Mapping[str, Any]) -> None:
    """Raise for an answer that is none."""
    if stop in MALFORMED:
        what = "a tool call" if stop == "malformed_tool_use" else "output"
        raise MalformedResponseError(
            f"the model wrote {what} that Bedrock could not read ({stop})",
            provider_code=stop,
            tokens_used=usage,
        )
    if stop not in FILTERED:
        return
    trace = metadata.get("guardrail") or {}
    categories = dict(_verdicts(trace))
    if categories and not any(verdict["filtered"] for verdict in categories.values()):
        return  # masked, not blocked
    is_prompt = stop == "guardrail_intervened" and _is_prompt(trace, usage)
    who = "the guardrail" if stop == "guardrail_intervened" else "the model's content filter"
    side = "prompt" if is_prompt else "completion"
    raise ContentFilterError(
        f"{who} blocked the {'prompt' if is_prompt else 'answer'}",
        side=side,
        categories=categories,
        partial_text="" if is_prompt else text,
        provider_code=stop,
        tokens_used=usage,
        hint="Rephrase the content, or adjust the guardrail.",
    )


def _is_prompt(trace: Mapping[str, Any], usage: TokenUsage) -> bool:
    """Whether it was the prompt that was blocked; without a trace, whether the model said nothing."""
    if any(verdict["filtered"] for _, verdict in _verdicts(trace, ("outputAssessments",))):
        return False
    if any(verdict["filtered"] for _, verdict in _verdicts(trace, ("inputAssessment",))):
        return True
    return usage.output == 0


def _verdicts(
    trace: Mapping[str, Any], sides: Sequence[str] = ("inputAssessment", "outputAssessments")
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each finding of a guardrail by its name, such as ``contentPolicy:VIOLENCE``."""
    for side in sides:
        for found in (trace.get(side) or {}).values():
            for assessment in found if isinstance(found, list) else [found]:
                for policy, parts in assessment.items() if isinstance(assessment, Mapping) else ():
                    yield from _findings(policy, parts)


def _findings(policy: str, parts: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for findings in parts.values() if isinstance(parts, Mapping) else ():
        for finding in findings if isinstance(findings, list) else ():
            if isinstance(finding, Mapping) and "action" in finding:
                name = finding.get("type") or finding.get("name") or finding.get("match") or "rule"
                verdict: dict[str, Any] = {"filtered": finding["action"] == "BLOCKED"}
                if isinstance(finding.get("confidence"), str):
                    verdict["severity"] = finding["confidence"].lower()
                yield f"{policy}:{name}", verdict


def _out_of_room(stop: str, usage: TokenUsage) -> Exception:
    if stop == "model_context_window_exceeded":
        return ContextLengthError(
            "the model's context window was full before it wrote any text",
            provider_code=stop,
            tokens_used=usage,
        )
    return IncompleteResponseError(
        f"the model used all {usage.output} output tokens and wrote no text",
        provider_code=stop,
        tokens_used=usage,
    )


# ── metadata ─────────────────────────────────────────────────────────────────────────────


def _metadata(
    blocks: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], request: ConverseRequest
) -> dict[str, Any]:
    trace = facts.get("trace") if isinstance(facts.get("trace"), Mapping) else {}
    metrics = facts.get("metrics") if isinstance(facts.get("metrics"), Mapping) else {}
    assert isinstance(trace, Mapping)
    assert isinstance(metrics, Mapping)
    tier = facts.get("serviceTier")
    found = {
        "stop_reason": facts.get("stopReason"),
        "model_latency_ms": metrics.get("latencyMs"),
        "reasoning": _reasoning(blocks) or None,
        "guardrail": trace.get("guardrail"),
        "routed_to": (trace.get("promptRouter") or {}).get("invokedModelId"),
        "service_tier": tier.get("type") if isinstance(tier, Mapping) else None,
        "cache_details": (facts.get("usage") or {}).get("cacheDetails") or None,
        "additional_fields": facts.get("additionalModelResponseFields"),
        "ignored_options": list(request.ignored) or None,
    }
    if request.drops_calls and (dropped := sum("toolUse" in block for block in blocks)):
        found["tool_calls_left_out"] = dropped
    present = {name: value for name, value in found.items() if value is not None}
    plain: dict[str, Any] = json.loads(json.dumps(present, default=_plain))
    return plain


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


def _reasoning(blocks: Sequence[Mapping[str, Any]]) -> str:
    texts = (block.get("reasoningContent", {}).get("reasoningText", {}).get("text", "") for block in blocks)
    return "".join(texts)
