"""The nouns of a conversation: messages, tool calls, usage and responses.

Everything here is an immutable slotted dataclass with a lossless JSON form::

    message = Message.user("Which product lost the most money?")
    assert Message.from_json(message.to_json()) == message

The classes know nothing of any provider's wire format; each provider maps them
to its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, Literal, Self, TypeAlias, cast

from typing_extensions import TypeVar

from loom_py.content import ContentPart, ImagePart, JSONForm, JSONObject, TextPart, part_from_dict

__all__ = [
    "ContentPart",
    "ImagePart",
    "JSONForm",
    "JSONObject",
    "Message",
    "Response",
    "Role",
    "TextPart",
    "TokenUsage",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
ROLES: frozenset[str] = frozenset({"system", "user", "assistant", "tool"})

# ── tools ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told of a tool: its name, what it is for, and its arguments.

    ``parameters`` is the JSON schema of the arguments, an object schema.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True)
class ToolCall(JSONForm):
    """A model's request to run a tool.

    ``arguments`` are the parsed arguments. ``arguments_json`` is the model's own text, kept so
    that a history is sent back byte for byte. Where that text was not a JSON object,
    ``arguments`` is empty and ``error`` says why; such a call is never run.
    """

    id: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    arguments_json: str = ""
    error: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.arguments, dict):
            raise TypeError(
                f"the arguments of tool call {self.name!r} must be a dict, not"
                f" {type(self.arguments).__name__}; for JSON text use ToolCall.parse(id, name, text)"
            )
        if not self.arguments_json and self.error is None:
            object.__setattr__(self, "arguments_json", json.dumps(self.arguments, ensure_ascii=False))

    @classmethod
    def parse(cls, id: str, name: str, text: str | None) -> Self:
        """The call a model asked for with ``text`` as its arguments.

        No text (or only white space) means no arguments.
        """
        if text is None or not text.strip():
            return cls(id, name, {}, "{}")
        try:
            arguments = json.loads(text)
        except (ValueError, RecursionError) as exc:
            return cls(id, name, {}, text, f"the arguments are not valid JSON: {exc}")
        if not isinstance(arguments, dict):
            kind = type(arguments).__name__
            return cls(id, name, {}, text, f"the arguments must be a JSON object, not {kind}")
        return cls(id, name, arguments, text)

    def to_dict(self) -> JSONObject:
        data: JSONObject = {"id": self.id, "name": self.name, "arguments_json": self.arguments_json}
        if self.error is None:
            data["arguments"] = self.arguments
        else:
            data["error"] = self.error
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            data["id"], data["name"], data.get("arguments", {}), data["arguments_json"], data.get("error")
        )


@dataclass(frozen=True, slots=True)
class ToolResult(JSONForm):
    """What came of one tool call.

    ``content`` is what the model reads: text, or parts where the tool gave images. For a failure
    ``is_error`` is true and ``error_code`` one of ``invalid_arguments``, ``unknown_tool``,
    ``tool_error``, ``tool_timeout``, ``tool_unavailable`` or ``limit_reached``. ``duration_ms`` is the
    time the tool ran, in milliseconds (0 where it did not run).
    """

    call_id: str
    name: str
    content: str | tuple[ContentPart, ...]
    is_error: bool = False
    error_code: str | None = None
    duration_ms: float = 0.0

    @property
    def text(self) -> str:
        """The text of the content; of several parts, the text parts joined."""
        return _text_of(self.content)

    def to_dict(self) -> JSONObject:
        return {
            "call_id": self.call_id,
            "name": self.name,
            "content": _content_to_json(self.content),
            "is_error": self.is_error,
            "error_code": self.error_code,
            "duration_ms": self.duration_ms,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "content": _content_from_json(data["content"])})


def _text_of(content: str | tuple[ContentPart, ...]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


def _content_to_json(content: str | tuple[ContentPart, ...]) -> Any:
    return content if isinstance(content, str) else [part.to_dict() for part in content]


def _content_from_json(content: Any) -> str | tuple[ContentPart, ...]:
    return content if isinstance(content, str) else tuple(map(part_from_dict, content))


# ── messages ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Message(JSONForm):
    """One message of a conversation; made with `system`, `user`, `assistant` or `tool`.

    ``content`` is text or a tuple of parts. ``tool_calls`` belong to the assistant;
    ``tool_call_id`` says which call a tool message answers, and ``name`` which tool it was.
    ``provider_data`` is what the provider needs to see again in the next turn, such as a model's
    encrypted reasoning; it is JSON-compatible and nobody else's business.
    Raises `ValueError` for an unknown role.
    """

    role: Role
    content: str | tuple[ContentPart, ...] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    provider_data: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"unknown role {self.role!r}: use system, user, assistant or tool")
        if not isinstance(self.content, str):
            object.__setattr__(self, "content", _parts(self.content))

    @classmethod
    def system(cls, content: str) -> Self:
        """Instructions that stand above the conversation."""
        return cls("system", content)

    @classmethod
    def user(cls, content: str | Iterable[ContentPart]) -> Self:
        """What the user says: text, or parts such as text and images."""
        return cls("user", content if isinstance(content, str) else _parts(content))

    @classmethod
    def assistant(cls, content: str = "", tool_calls: Iterable[ToolCall] = ()) -> Self:
        """What the model said, with the tools it asked for."""
        return cls("assistant", content, tuple(tool_calls))

    @classmethod
    def tool(cls, content: str | Iterable[ContentPart], tool_call_id: str, name: str | None = None) -> Self:
        """The result of the tool call ``tool_call_id``: text, or parts such as text and images."""
        return cls("tool", content if isinstance(content, str) else tuple(content), (), tool_call_id, name)

    @property
    def text(self) -> str:
        """The text of the message; of several parts, the text parts joined."""
        return _text_of(self.content)

    def to_dict(self) -> JSONObject:
        data: JSONObject = {"role": self.role, "content": _content_to_json(self.content)}
        if self.tool_calls:
            data["tool_calls"] = [call.to_dict() for call in self.tool_calls]
        if self.tool_call_id is not None:
            data["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            data["name"] = self.name
        if self.provider_data:
            data["provider_data"] = self.provider_data
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            data["role"],
            _content_from_json(data.get("content", "")),
            tuple(ToolCall.from_dict(call) for call in data.get("tool_calls", ())),
            data.get("tool_call_id"),
            data.get("name"),
            data.get("provider_data", {}),
        )


def _parts(content: Any) -> tuple[ContentPart, ...]:
    """``content`` as parts. Raises `TypeError` for anything that is neither text nor parts."""
    several = isinstance(content, Iterable) and not isinstance(content, bytes)
    parts: tuple[Any, ...] = tuple(content) if several else (content,)
    for part in parts:
        if not isinstance(part, (TextPart, ImagePart)):
            kind = type(part).__name__
            raise TypeError(f"a message is text, or a list of TextPart and ImagePart, not {kind}")
    return parts


# ── usage and response ───────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TokenUsage(JSONForm):
    """Tokens spent; usages add up with ``+``.

    ``cached_input`` and ``cache_writes`` are parts of ``input``; ``reasoning`` is a part of
    ``output``. None of the three is ever added on top.
    """

    input: int = 0
    output: int = 0
    cached_input: int = 0
    cache_writes: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        """``input`` + ``output``."""
        return self.input + self.output

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            self.input + other.input,
            self.output + other.output,
            self.cached_input + other.cached_input,
            self.cache_writes + other.cache_writes,
            self.reasoning + other.reasoning,
        )

    def to_dict(self) -> JSONObject:
        return {
            "input": self.input,
            "output": self.output,
            "cached_input": self.cached_input,
            "cache_writes": self.cache_writes,
            "reasoning": self.reasoning,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


OutputT = TypeVar("OutputT", default=Any)


@dataclass(frozen=True, slots=True)
class Response(JSONForm, Generic[OutputT]):
    """A model's reply, or an agent's answer.

    From a provider it is one reply. From an agent it is the whole chat: ``message`` is the final
    answer, ``tokens_used`` and ``cost_usd`` are sums over every model call, and ``tool_calls`` and
    ``tool_results`` list, in order, every call that was made and what came of it.

    ``cost_usd`` is ``None`` when the price of a model is not known: never a guess, never 0.
    ``finish_reason`` is the provider's own word: ``stop``, ``length``, ``tool_calls``, …
    ``metadata`` is JSON-compatible: request id, deployment, latency and the like. ``provider_data`` is
    what the provider needs to see again in the next turn.

    ``output`` is the validated value where a type was asked for. It has no part in the JSON form,
    for ``message`` then is its JSON.
    """

    message: str
    tokens_used: TokenUsage = TokenUsage()
    cost_usd: Decimal | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    model: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tool_results: tuple[ToolResult, ...] = ()
    provider_data: dict[str, Any] = field(default_factory=dict, repr=False)
    output: OutputT = field(default=None)  # type: ignore[assignment]

    def to_message(self) -> Message:
        """The reply as the assistant message that goes into the history."""
        return Message("assistant", self.message, self.tool_calls, provider_data=self.provider_data)

    def to_dict(self) -> JSONObject:
        return {
            "message": self.message,
            "tokens_used": self.tokens_used.to_dict(),
            "cost_usd": None if self.cost_usd is None else str(self.cost_usd),
            "tool_calls": [call.to_dict() for call in self.tool_calls],
            "finish_reason": self.finish_reason,
            "model": self.model,
            "metadata": self.metadata,
            "tool_results": [result.to_dict() for result in self.tool_results],
            "provider_data": self.provider_data,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        cost = data["cost_usd"]
        return cls(
            message=data["message"],
            tokens_used=TokenUsage.from_dict(data["tokens_used"]),
            cost_usd=None if cost is None else Decimal(cost),
            tool_calls=tuple(ToolCall.from_dict(call) for call in data["tool_calls"]),
            finish_reason=data["finish_reason"],
            model=data["model"],
            metadata=data["metadata"],
            tool_results=tuple(ToolResult.from_dict(result) for result in data["tool_results"]),
            provider_data=data.get("provider_data", {}),
            output=cast("OutputT", None),
        )
