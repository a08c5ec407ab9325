"""Requests to the Messages API, as pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loom_anthropic.config import AnthropicConfig
from loom_anthropic.history import encode_history, lacks_thinking
from loom_anthropic.raw_json import dumps
from loom_py.errors import ConfigError
from loom_py.llm.azure.schema import NO_TOOLS, EncodedTools, encode_tools
from loom_py.messages import ImagePart, Message, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["FIRST_VERSION", "LATEST_VERSION", "WireRequest", "check_call", "encode_request"]

LATEST_VERSION = "2026-10-21"
"""The API version that is asked for. It has no sampling parameters."""

FIRST_VERSION = "2023-06-01"
"""The version before it, in which the models up to Claude Opus 4.6 still take them."""

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class WireRequest:
    """A request: its ``body``, and the ``headers`` that belong to it."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]

    @property
    def content(self) -> bytes:
        """The bytes of the body. Raises `ConfigError` for what JSON cannot hold."""
        return dumps(self.body)


def encode_request(
    messages: Sequence[Message],
    tools: EncodedTools | Sequence[ToolSpec] = NO_TOOLS,
    options: ChatOptions | None = None,
    *,
    config: AnthropicConfig,
    stream: bool = False,
    carries: bool = True,
) -> WireRequest:
    """The request for the next reply of ``config.model``.

    ``carries`` says whether the thinking of earlier replies goes back. Sampling parameters are left out for
    models that refuse them, and bring the API version that still knows them for the others.
    """
    if not isinstance(tools, EncodedTools):
        tools = encode_tools(tools)
    options = options or ChatOptions()
    system, turns = encode_history(messages, tools, model=config.model, carries=carries)
    limit = options.max_tokens or config.reply_limit
    body: dict[str, Any] = {"model": config.model, "max_tokens": limit, "messages": turns}
    if system:
        body["system"] = system
    if tools.definitions:
        body["tools"] = [_tool(definition) for definition in tools.definitions]
        if choice := _tool_choice(options, tools):
            body["tool_choice"] = choice
    must_call = body.get("tool_choice", {}).get("type") in {"any", "tool"}
    can_think = not must_call and not (carries and lacks_thinking(messages, config.model))
    if thinking := _thinking(config, options, limit, can_think=can_think and carries, must_call=must_call):
        body["thinking"] = thinking
    if output := _output_config(config, options):
        body["output_config"] = output
    body |= _settings(config, options, thinks="thinking" in body and thinking["type"] == "enabled")
    if config.cache_ttl is not None:
        _mark_cached(body, config.cache_ttl)
    if stream:
        body["stream"] = True
    body |= options.extra_body
    return WireRequest(body, _headers(config, options, body))


def _headers(config: AnthropicConfig, options: ChatOptions, body: Mapping[str, Any]) -> dict[str, str]:
    samples = not body.keys().isdisjoint({"temperature", "top_p", "top_k"})
    headers = {"anthropic-version": FIRST_VERSION if samples else LATEST_VERSION}
    if config.betas:
        headers["anthropic-beta"] = ",".join(config.betas)
    for name, value in options.extra_headers.items():
        if name.lower() == "anthropic-beta" and config.betas:
            value = f"{headers['anthropic-beta']},{value}"
        headers = {key: kept for key, kept in headers.items() if key != name.lower()} | {name: value}
    return headers


# ── tools ────────────────────────────────────────────────────────────────────────────────


def _tool(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in this API's form."""
    function = definition["function"]
    tool: dict[str, Any] = {"name": function["name"], "input_schema": function["parameters"]}
    if function["description"]:
        tool["description"] = function["description"]
    return tool


def _tool_choice(options: ChatOptions, tools: EncodedTools) -> dict[str, Any] | None:
    """How the model is to choose; ``None`` where it may, as it does anyway."""
    choice = options.tool_choice
    one_at_a_time = options.parallel_tool_calls is False
    if choice == "none":
        return {"type": "none"}
    if choice in (None, "auto"):
        if choice is None and not one_at_a_time:
            return None
        said: dict[str, Any] = {"type": "auto"}
    elif choice == "required":
        said = {"type": "any"}
    else:
        said = {"type": "tool", "name": tools.wire_name(choice)}
    if options.parallel_tool_calls is not None:
        said["disable_parallel_tool_use"] = one_at_a_time
    return said


# ── settings ─────────────────────────────────────────────────────────────────────────────


def _settings(config: AnthropicConfig, options: ChatOptions, *, thinks: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if options.stop is not None:
        stops = [options.stop] if isinstance(options.stop, str) else list(options.stop)
        settings["stop_sequences"] = stops
    if options.user is not None:
        settings["metadata"] = {"user_id": options.user}
    if config.claude.sampling and not thinks:
        # models since Claude Opus 4.1 take one of the two, not both
        if options.temperature is not None:
            settings["temperature"] = min(options.temperature, 1.0)
        elif options.top_p is not None:
            settings["top_p"] = options.top_p
    return settings


def _thinking(
    config: AnthropicConfig, options: ChatOptions, limit: int, *, can_think: bool, must_call: bool
) -> dict[str, Any]:
    """The request's word on thinking; empty where there is none and the model decides.

    A call that must use a tool cannot think first. A budget leaves room for the reply.
    """
    claude, off = config.claude, config.claude.off
    if config.thinking == "off" or options.reasoning_effort == "none":
        return {"type": off} if off else {}
    if must_call and claude.thinks and off and options.reasoning_effort not in {"xhigh", "max"}:
        return {"type": off}
    if config.budget is not None:
        room = min(config.budget, limit - 1)
        return {"type": "enabled", "budget_tokens": room} if can_think and room >= 1024 else {}
    if config.thinking == "adaptive" and not must_call:
        return {"type": "adaptive"}
    return {}


def _output_config(config: AnthropicConfig, options: ChatOptions) -> dict[str, Any]:
    output: dict[str, Any] = {}
    effort = "low" if options.reasoning_effort == "minimal" else options.reasoning_effort
    if effort in config.claude.profile.efforts:
        output["effort"] = effort
    if options.response_format is not None and (wanted := _format(options.response_format)):
        output["format"] = wanted
    return output


def _format(wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """OpenAI's ``response_format`` in this API's form, which the SDK makes of the schema.

    Raises `ConfigError` for JSON without a schema, which the API does not offer.
    """
    from anthropic import transform_schema

    kind = wanted.get("type")
    if kind == "text":
        return None
    inside = wanted.get("json_schema")
    schema = inside.get("schema") if isinstance(inside, Mapping) else wanted.get("schema")
    if kind != "json_schema" or not isinstance(schema, Mapping):
        raise ConfigError(
            f"response_format must hold a JSON schema for Claude, not {kind!r}",
            field="response_format",
            hint='Use {"type": "json_schema", "json_schema": {"schema": …}}, or output= of an agent.',
        )
    return {"type": "json_schema", "schema": transform_schema(dict(schema))}


def _mark_cached(body: dict[str, Any], ttl: str) -> None:
    """Mark the ends of tools, system prompt and conversation as what the prompt cache shall keep."""
    mark: dict[str, Any] = {"type": "ephemeral"}
    if ttl != "5m":
        mark["ttl"] = ttl
    last_turn = body["messages"][-1]["content"] if body["messages"] else []
    for blocks in (body.get("tools"), body.get("system"), last_turn):
        if blocks:
            blocks[-1] = {**blocks[-1], "cache_control": mark}


# ── checks ───────────────────────────────────────────────────────────────────────────────


def check_call(
    messages: Sequence[Message], tools: Sequence[ToolSpec], options: ChatOptions, config: AnthropicConfig
) -> None:
    """Raise `ConfigError` for what the model cannot do, before anything is sent."""
    claude, model = config.claude, config.model
    if options.reasoning_effort is not None and options.reasoning_effort not in EFFORTS:
        raise ConfigError(
            f"reasoning_effort must be one of {', '.join(EFFORTS)}, not {options.reasoning_effort!r}",
            field="reasoning_effort",
        )
    if options.reasoning_effort == "none" and claude.thinks and claude.off is None:
        raise ConfigError(
            f"{model} always thinks",
            field="reasoning_effort",
            hint=f"Use one of {', '.join(claude.profile.efforts)}.",
        )
    names = [tool.name for tool in tools]
    choice = options.tool_choice
    if choice not in (None, "auto", "none", "required", *names):
        raise ConfigError(
            f"tool_choice names {choice!r}, and there is no such tool",
            field="tool_choice",
            hint=f"Use auto, none, required or one of: {', '.join(names) or 'there are no tools'}.",
        )
    if choice not in (None, "auto", "none") and not claude.forced_tools:
        raise ConfigError(
            f"{model} cannot be made to call a tool: it does not take tool_choice={choice!r}",
            field="tool_choice",
            hint="Use tool_choice='auto' and say in the prompt when to call it, or structured output.",
        )
    if options.response_format is not None and not claude.profile.structured_output:
        raise ConfigError(
            f"{model} is not known to keep to a JSON schema",
            field="response_format",
            hint="Use output= of an agent, which asks by a tool then.",
        )
    if not any(_says_something(message) for message in messages):
        raise ConfigError("there is no message to answer", field="messages", hint="Add one of the user's.")


def _says_something(message: Message) -> bool:
    parts = () if isinstance(message.content, str) else message.content
    has_image = any(isinstance(part, ImagePart) for part in parts)
    return message.role != "system" and (message.role != "assistant" or bool(message.text) or has_image)
