"""A call as the parameters of Converse. Pure: no client, no network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loom_bedrock.config import BedrockConfig
from loom_bedrock.content import Block, encode_messages
from loom_bedrock.models import ModelId, parse_model_id
from loom_bedrock.names import ToolNames, legal_metadata
from loom_bedrock.profiles import caches_prompts, caches_tools, profile_of, sampling_of, takes_effort
from loom_py.errors import ConfigError, InvalidRequestError, UnsupportedParameterError
from loom_py.llm.profiles import UNKNOWN_PROFILE
from loom_py.messages import ImagePart, Message, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["MEMBERS", "SHORT_REPLY", "ConverseRequest", "encode_request", "reply_limit"]

MEMBERS = frozenset(
    {
        "additionalModelRequestFields",
        "additionalModelResponseFieldPaths",
        "guardrailConfig",
        "inferenceConfig",
        "messages",
        "outputConfig",
        "performanceConfig",
        "promptVariables",
        "requestMetadata",
        "serviceTier",
        "system",
        "toolConfig",
    }
)
"""What a Converse request may have beside its model; all else belongs to the model."""

SHORT_REPLY = 8192
"""Most tokens of a reply where nothing is said and the model's own limit is known to be larger.

A model would take its own limit, and a budget has to count with all of it before each call.
"""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")

CACHE_POINT: Block = {"cachePoint": {"type": "default"}}
NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class ConverseRequest:
    """A request: ``params`` of the operation, and what is needed to read its answer.

    ``drops_calls`` says that no tool may be called, though Bedrock had to be told of some, and
    ``ignored`` names options that this wire has no place for.
    """

    params: dict[str, Any]
    names: ToolNames
    drops_calls: bool = False
    ignored: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def encode_request(
    messages: Sequence[Message], tools: Sequence[ToolSpec], options: ChatOptions, config: BedrockConfig
) -> ConverseRequest:
    """The request for one call.

    Raises `ConfigError` for a tool choice that names no tool, and for tools and images where the model takes
    none, `UnsupportedParameterError` for a response format Bedrock does not have, and `InvalidRequestError`
    for messages and headers that cannot be sent.
    """
    model = parse_model_id(config.named_model)
    _check_headers(options.extra_headers)
    _check_tools(tools, options, config, model)
    _check_images(messages, config, model)
    names = ToolNames([tool.name for tool in tools])
    is_strict = model.vendor in {"anthropic", ""}
    system, turns = encode_messages(messages, names, model=config.model, strict_ids=is_strict)
    params: dict[str, Any] = {"modelId": config.model, "messages": turns}
    if system:
        params["system"] = system
    inference, ignored = _inference(options, model, reply_limit(options, config))
    if inference:
        params["inferenceConfig"] = inference
    if tool_config := _tool_config(tools, messages, options, names):
        params["toolConfig"] = tool_config
    if (guardrail := config.guardrail) is not None:
        params["guardrailConfig"] = {
            "guardrailIdentifier": guardrail.id,
            "guardrailVersion": guardrail.version,
            "trace": guardrail.trace,
        }
    ignored += _special(params, options, model, tools)
    if config.prompt_cache or (options.prompt_cache_key is not None and caches_prompts(model.name)):
        _set_cache_points(params, caches_tools(model.name) or model.name is None)
    for extra in (config.extra_fields, options.extra_body):
        _merge(params, extra)
    return ConverseRequest(
        params, names, options.tool_choice == "none", tuple(ignored), dict(options.extra_headers)
    )


def reply_limit(options: ChatOptions, config: BedrockConfig) -> int | None:
    """The most tokens of a reply, thinking by a budget included; ``None`` leaves it to the model."""
    if said := options.max_tokens or config.max_tokens:
        return said
    most = profile_of(parse_model_id(config.named_model).name).max_output
    if most is None:
        return None
    thinking = {**config.extra_fields, **options.extra_body}.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
    return min(SHORT_REPLY + (budget if type(budget) is int else 0), most)


def _check_headers(headers: Mapping[str, str]) -> None:
    """Headers are signed as they are sent: in ASCII, one line each. The value is not shown."""
    for name, value in headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise InvalidRequestError(
                f"the header {name!r} cannot be sent",
                param="extra_headers",
                hint="A header's value is one line of ASCII characters.",
                sent=False,
            )


def _check_tools(
    tools: Sequence[ToolSpec], options: ChatOptions, config: BedrockConfig, model: ModelId
) -> None:
    names = [tool.name for tool in tools]
    if options.tool_choice not in (None, "auto", "none", "required", *names):
        raise ConfigError(
            f"tool_choice names {options.tool_choice!r}, and there is no such tool",
            field="tool_choice",
            hint=f"Use auto, none, required or one of: {', '.join(names) or 'there are no tools'}.",
        )
    if tools and not profile_of(model.name).tools:
        raise ConfigError(f"{config.model} takes no tools", field="tools")


def _check_images(messages: Iterable[Message], config: BedrockConfig, model: ModelId) -> None:
    profile = profile_of(model.name)
    if profile is UNKNOWN_PROFILE or profile.vision:
        return
    parts = (part for message in messages if not isinstance(message.content, str) for part in message.content)
    if any(isinstance(part, ImagePart) for part in parts):
        raise ConfigError(
            f"{config.model} does not read images",
            field="messages",
            hint="Use a model with vision, or begin a session without images.",
        )


def _inference(options: ChatOptions, model: ModelId, limit: int | None) -> tuple[dict[str, Any], list[str]]:
    """The settings that every model knows, and the names of those that this one does not take.

    A temperature above 1.0, the most that Converse takes, is sent as 1.0.
    """
    stop, temperature, top_p = options.stop, options.temperature, options.top_p
    values = {
        "maxTokens": limit,
        "temperature": None if temperature is None else min(temperature, 1.0),
        "topP": top_p,
        "stopSequences": [stop] if isinstance(stop, str) else list(stop) if stop else None,
    }
    ignored = []
    takes = sampling_of(model.name)
    if temperature is not None and takes == 0:
        ignored.append("temperature")
        del values["temperature"]
    if top_p is not None and (takes == 0 or (takes == 1 and temperature is not None)):
        ignored.append("top_p")
        del values["topP"]
    return {name: value for name, value in values.items() if value is not None}, ignored


# ── tools ────────────────────────────────────────────────────────────────────────────────


def _tool_config(
    tools: Sequence[ToolSpec], messages: Iterable[Message], options: ChatOptions, names: ToolNames
) -> dict[str, Any]:
    """The tools and the choice among them.

    Bedrock has no choice "none", so the tools are left out then; but a conversation in which tools were
    used must name some, and does: the tools offered, or else those it used.
    """
    used = dict.fromkeys(call.name for message in messages for call in message.tool_calls)
    is_off = options.tool_choice == "none"
    if is_off and not used:
        return {}
    specs = [*tools] or [ToolSpec(name) for name in used]
    if not specs:
        return {}
    config: dict[str, Any] = {"tools": [{"toolSpec": _tool(spec, names)} for spec in specs]}
    if tools and not is_off and (choice := _choice(options.tool_choice, names)):
        config["toolChoice"] = choice
    return config


def _tool(spec: ToolSpec, names: ToolNames) -> dict[str, Any]:
    schema = dict(spec.parameters) or NO_ARGUMENTS
    if "type" not in schema:
        schema = {"type": "object", **schema}
    told = {"name": names.to_wire(spec.name), "inputSchema": {"json": schema}}
    return {**told, "description": spec.description} if spec.description.strip() else told


def _choice(choice: str | None, names: ToolNames) -> dict[str, Any]:
    if choice is None:
        return {}
    simple: dict[str, dict[str, Any]] = {"auto": {"auto": {}}, "required": {"any": {}}}
    return simple.get(choice) or {"tool": {"name": names.to_wire(choice)}}


# ── what not every model has ─────────────────────────────────────────────────────────────


def _special(
    params: dict[str, Any], options: ChatOptions, model: ModelId, tools: Sequence[ToolSpec]
) -> list[str]:
    """Put in what depends on the model; the names of the options that have no place here."""
    ignored = [name for name in ("seed", "verbosity") if getattr(options, name) is not None]
    if options.user is not None:
        params["requestMetadata"] = {"user": legal_metadata(options.user)}
    if options.response_format is not None:
        _merge(params, _output_format(options.response_format))
    if options.reasoning_effort is not None and not _set_effort(params, options.reasoning_effort, model):
        ignored.append("reasoning_effort")
    if options.parallel_tool_calls is False and tools and "toolConfig" in params:
        if model.vendor == "anthropic" and options.tool_choice != "none":
            _one_call_at_a_time(params)
        else:
            ignored.append("parallel_tool_calls")
    return ignored


def _output_format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    kind = wanted.get("type")
    if kind == "text":
        return {}
    told = wanted.get("json_schema")
    if kind != "json_schema" or not isinstance(told, Mapping) or not isinstance(told.get("schema"), Mapping):
        raise UnsupportedParameterError(
            f"Bedrock has no response_format of type {kind!r}",
            param="response_format",
            hint="Use type json_schema with json_schema.schema, or output= of an agent.",
            sent=False,
        )
    definition = {"schema": json.dumps(told["schema"], ensure_ascii=False)}
    definition |= {name: told[name] for name in ("name", "description") if told.get(name)}
    text_format = {"type": "json_schema", "structure": {"jsonSchema": definition}}
    return {"outputConfig": {"textFormat": text_format}}


def _set_effort(params: dict[str, Any], effort: str, model: ModelId) -> bool:
    """Say how much the model is to reason, in the way it wants it said; whether it has one."""
    if model.vendor == "openai":
        _merge(params, {"additionalModelRequestFields": {"reasoning_effort": effort}})
        return True
    if not takes_effort(model.name):
        return False
    if effort != "none":
        _merge(params, {"outputConfig": {"effort": "low" if effort == "minimal" else effort}})
    return True


def _one_call_at_a_time(params: dict[str, Any]) -> None:
    """Claude's own tool choice, which can forbid parallel calls, in the place of Converse's."""
    choice = params["toolConfig"].pop("toolChoice", {"auto": {}})
    kind, details = next(iter(choice.items()))
    own = {"type": kind, **details, "disable_parallel_tool_use": True}
    _merge(params, {"additionalModelRequestFields": {"tool_choice": own}})


def _set_cache_points(params: dict[str, Any], with_tools: bool) -> None:
    """Let what stands before the answer be cached: the tools, the instructions, the conversation."""
    if with_tools and "toolConfig" in params:
        params["toolConfig"]["tools"].append(CACHE_POINT)
    if "system" in params:
        params["system"].append(CACHE_POINT)
    if params["messages"][-1]["role"] == "user":
        params["messages"][-1]["content"].append(CACHE_POINT)


def _merge(params: dict[str, Any], extra: Mapping[str, Any]) -> None:
    """Lay ``extra`` over the request: members by name, the rest as fields of the model's own."""
    own = {name: value for name, value in extra.items() if name not in MEMBERS}
    named = {name: value for name, value in extra.items() if name in MEMBERS}
    if own:
        named["additionalModelRequestFields"] = {**named.get("additionalModelRequestFields", {}), **own}
    for name, value in named.items():
        before = params.get(name)
        is_nested = isinstance(before, Mapping) and isinstance(value, Mapping)
        params[name] = {**before, **value} if is_nested and before is not None else value
