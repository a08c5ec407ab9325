"""What happens in a stream, event by event.

A provider's stream yields text deltas, tool calls, usage and at last the whole response. An
agent's stream adds the results of the tools it ran between its model calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from loom_py.messages import JSONForm, JSONObject, Response, TokenUsage, ToolCall, ToolResult

__all__ = [
    "FinalResponse",
    "StreamEvent",
    "StreamRestarted",
    "TextDelta",
    "ToolCallCompleted",
    "ToolCallStarted",
    "ToolResultEvent",
    "UsageEvent",
    "event_from_dict",
]


class StreamEvent(JSONForm):
    """Something that happened in a stream. Every event answers ``delta`` and ``response``.

    So the common loop needs no type test::

        for event in agent.stream_chat("Hello"):
            print(event.delta, end="")
        print(event.response.cost_usd)
    """

    __slots__ = ()
    type: ClassVar[str] = ""

    @property
    def delta(self) -> str:
        """New text of the answer; empty for events that carry none."""
        return ""

    @property
    def response(self) -> Response | None:
        """The whole response; only the last event of a stream has it."""
        return None


@dataclass(frozen=True, slots=True)
class TextDelta(StreamEvent):
    """A piece of the answer's text."""

    type: ClassVar[str] = "text_delta"
    delta: str = field()  # pyright: ignore[reportIncompatibleMethodOverride] - a constant here

    def to_dict(self) -> JSONObject:
        return {"type": self.type, "delta": self.delta}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["delta"])


@dataclass(frozen=True, slots=True)
class ToolCallStarted(StreamEvent):
    """The model has begun to ask for a tool; its arguments are still arriving."""

    type: ClassVar[str] = "tool_call_started"
    call_id: str
    name: str

    def to_dict(self) -> JSONObject:
        return {"type": self.type, "call_id": self.call_id, "name": self.name}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["call_id"], data["name"])


@dataclass(frozen=True, slots=True)
class ToolCallCompleted(StreamEvent):
    """A tool call is complete, with its arguments; it has not run yet."""

    type: ClassVar[str] = "tool_call_completed"
    call: ToolCall

    def to_dict(self) -> JSONObject:
        return {"type": self.type, "call": self.call.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(ToolCall.from_dict(data["call"]))


@dataclass(frozen=True, slots=True)
class ToolResultEvent(StreamEvent):
    """A tool has run; only an agent's stream has these."""

    type: ClassVar[str] = "tool_result"
    result: ToolResult

    def to_dict(self) -> JSONObject:
        return {"type": self.type, "result": self.result.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(ToolResult.from_dict(data["result"]))


@dataclass(frozen=True, slots=True)
class UsageEvent(StreamEvent):
    """What one model call used."""

    type: ClassVar[str] = "usage"
    usage: TokenUsage

    def to_dict(self) -> JSONObject:
        return {"type": self.type, "usage": self.usage.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(TokenUsage.from_dict(data["usage"]))


@dataclass(frozen=True, slots=True)
class StreamRestarted(StreamEvent):
    """The reply broke off and begins anew: forget its text, ``discarded``, and its tool calls so far.

    Only an agent that was built with ``restart_streams=True`` has these. What was shown before this reply
    began, and the results of tools, stay.
    """

    type: ClassVar[str] = "stream_restarted"
    reason: str
    discarded: str = ""

    def to_dict(self) -> JSONObject:
        return {"type": self.type, "reason": self.reason, "discarded": self.discarded}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["reason"], data["discarded"])


@dataclass(frozen=True, slots=True)
class FinalResponse(StreamEvent):
    """The last event of every stream that ends well."""

    type: ClassVar[str] = "final_response"
    response: Response = field()  # pyright: ignore[reportIncompatibleMethodOverride] - a constant here

    def to_dict(self) -> JSONObject:
        return {"type": self.type, "response": self.response.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(Response.from_dict(data["response"]))


_EVENTS: dict[str, type[StreamEvent]] = {
    cls.type: cls
    for cls in (
        TextDelta,
        ToolCallStarted,
        ToolCallCompleted,
        ToolResultEvent,
        UsageEvent,
        StreamRestarted,
        FinalResponse,
    )
}


def event_from_dict(data: Mapping[str, Any]) -> StreamEvent:
    """The stream event whose ``to_dict`` wrote ``data``. Raises `KeyError` for an unknown type."""
    return _EVENTS[data["type"]].from_dict(data)
