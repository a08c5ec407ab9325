"""The request of OpenAI's chat completions, as far as an agent can honour it.

The field names and their limits are those of OpenAI's API reference ("Create chat completion").
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ChatRequest", "FunctionTool", "NamedTool", "Part", "WireMessage"]


class _Ignoring(BaseModel):
    """What a client adds to an object's own fields (``annotations``, ``audio``, …) does no harm."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class ImageURL(_Ignoring):
    """Where an image is: http, https, or a ``data:`` URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class TextPart(_Ignoring):
    """Text within a message."""

    type: Literal["text"]
    text: str


class ImagePart(_Ignoring):
    """An image within a message of the user."""

    type: Literal["image_url"]
    image_url: ImageURL


class RefusalPart(_Ignoring):
    """An earlier refusal of the model, sent back."""

    type: Literal["refusal"]
    refusal: str


Part: TypeAlias = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]


class CalledFunction(_Ignoring):
    """What the model asked for: a name, and arguments as JSON text."""

    name: str
    arguments: str = "{}"


class WireToolCall(_Ignoring):
    """A call of the caller's tool that an earlier answer held."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: Literal["function"] = "function"
    function: CalledFunction


class WireMessage(_Ignoring):
    """A message of the conversation, of any role. An assistant's may hold a ``refusal`` for its content."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[WireToolCall] | None = None
    tool_call_id: str | None = None


class Function(_Ignoring):
    """A function that the caller runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(_Ignoring):
    """A tool of the caller."""

    type: Literal["function"]
    function: Function


class _Name(_Ignoring):
    name: str


class NamedTool(_Ignoring):
    """A tool the model must call."""

    type: Literal["function"]
    function: _Name


class StreamOptions(BaseModel):
    """``include_usage`` adds a chunk with the usage before the end."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of ``POST /v1/chat/completions``. A field that is not known is refused, as OpenAI does.

    So is a value of another JSON type: ``"5"`` is no number, and ``1`` is not true.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[WireMessage], Field(min_length=1, max_length=10_000)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10**7)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=10**7)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    prompt_cache_key: str | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: Annotated[list[str], Field(max_length=10)] | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    audio: Any = None
    moderation: Any = None
    web_search_options: Any = None
    # What is said for the bookkeeping of OpenAI's own service is taken and not used.
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prediction: Any = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Any = None
