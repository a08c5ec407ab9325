"""The API surfaces of a deployment: chat completions and responses, each on two base URLs.

A `Surface` is how to write a request and read its answer. Where it is found depends on the API: the
classic one names the deployment in the path and wants an API version, the v1 one wants neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from loom_py._json import STANDARD
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.azure.responses import decode_responses
from loom_py.llm.azure.responses_request import encode_responses_request
from loom_py.llm.azure.responses_stream import ResponsesAssembler
from loom_py.llm.azure.schema import EncodedTools
from loom_py.llm.azure.settings import ServiceConfig
from loom_py.llm.azure.stream import StreamAssembler, StreamDecoder
from loom_py.llm.azure.wire import decode_response, encode_request
from loom_py.llm.profiles import ModelProfile
from loom_py.messages import Message, Response
from loom_py.options import ChatOptions

__all__ = ["CHAT", "RESPONSES", "Route", "Surface", "choose_surface", "profile_on", "route_of"]

SurfaceName: TypeAlias = Literal["chat", "responses"]

CLASSIC_RESPONSES = "2025-03-01"
"""The first dated API version with ``/openai/responses``; older ones use the v1 API for it."""

CLASSIC_SCHEMAS = "2024-08-01"
"""The first dated API version with JSON schemas as ``response_format``; older ones refuse them."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: on the v1 API or the classic one, and the path below its base URL."""

    is_v1: bool
    path: str


@dataclass(frozen=True, slots=True)
class Surface:
    """One way to ask a deployment. The functions are pure."""

    name: SurfaceName
    encode: Callable[..., dict[str, Any]]
    decode: Callable[[Any, EncodedTools], Response]
    assembler: Callable[[EncodedTools], StreamAssembler | ResponsesAssembler]
    decoder: type[StreamDecoder] = StreamDecoder

    def stream_decoder(
        self, tools: EncodedTools, loads: Callable[[bytes], Any] = STANDARD.loads
    ) -> StreamDecoder:
        """What puts a streamed answer of this surface together, its JSON read by ``loads``."""
        return self.decoder(tools, self.assembler(tools), self.decode, loads)


def _encode_chat(
    messages: Sequence[Message],
    tools: EncodedTools,
    options: ChatOptions,
    *,
    config: ServiceConfig,
    profile: ModelProfile,
    stream: bool,
    carry_reasoning: bool,
) -> dict[str, Any]:
    return encode_request(
        messages,
        tools,
        options,
        deployment=config.target,
        profile=profile,
        api_version=config.chat_version,
        stream=stream,
    )


def _encode_responses(
    messages: Sequence[Message],
    tools: EncodedTools,
    options: ChatOptions,
    *,
    config: ServiceConfig,
    profile: ModelProfile,
    stream: bool,
    carry_reasoning: bool,
) -> dict[str, Any]:
    return encode_responses_request(
        messages,
        tools,
        options,
        deployment=config.target,
        profile=profile,
        stream=stream,
        carry_reasoning=carry_reasoning,
    )


CHAT = Surface("chat", _encode_chat, decode_response, StreamAssembler)
RESPONSES = Surface("responses", _encode_responses, decode_responses, ResponsesAssembler)


def profile_on(config: AzureOpenAIConfig, profile: ModelProfile) -> ModelProfile:
    """``profile`` as far as the API version of the classic chat completions reaches."""
    is_old = not config.is_v1 and config.api_version < CLASSIC_SCHEMAS and config.api_version[:4].isdigit()
    if is_old and profile.structured_output and profile.surface == "chat" and config.surface != "responses":
        return replace(profile, structured_output=False)
    return profile


def choose_surface(
    config: ServiceConfig, profile: ModelProfile, options: ChatOptions, *, has_tools: bool
) -> Surface:
    """The surface the user named, or the one the model needs for this call.

    Codex and pro models answer on responses only. From gpt-5.4 on, tools go with reasoning there
    only; with ``reasoning_effort="none"`` chat completions take them.
    """
    if config.surface != "auto":
        return RESPONSES if config.surface == "responses" else CHAT
    reasons = options.reasoning_effort != "none"
    needs = profile.surface == "responses" or (profile.tools_need_responses and has_tools and reasons)
    return RESPONSES if needs else CHAT


def route_of(surface: Surface, config: AzureOpenAIConfig) -> Route:
    """Where requests of ``surface`` go."""
    if surface is RESPONSES:
        is_old = config.api == "auto" and config.api_version < CLASSIC_RESPONSES
        return Route(config.is_v1 or is_old, "/responses")
    if config.is_v1:
        return Route(True, "/chat/completions")
    return Route(False, f"/deployments/{quote(config.deployment_id, safe='')}/chat/completions")
