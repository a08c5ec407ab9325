"""What the service refuses in a request, in its own words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loom_anthropic.emulator.blocks import check_messages
from loom_anthropic.emulator.errors import invalid
from loom_anthropic.profiles import ClaudeModel

__all__ = ["VERSIONS", "check_body", "check_version"]

VERSIONS = ("2023-06-01", "2026-10-21")

_FIELDS = frozenset(
    {
        *("model", "max_tokens", "messages", "system", "tools", "tool_choice", "stream", "thinking"),
        *("output_config", "stop_sequences", "metadata", "service_tier", "inference_geo", "container"),
        *("cache_control", "speed", "diagnostics"),
    }
)
_SAMPLING = ("temperature", "top_p", "top_k")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CHOICES = ("any", "auto", "none", "tool")
_NOT_AT_THE_TOP = ("oneOf", "allOf", "anyOf")
MOST_MARKS = 4


def check_version(version: str | None) -> None:
    """Raises `WireError` (400) unless the header ``anthropic-version`` names a version."""
    if version is None:
        raise invalid("anthropic-version: header is required")
    if version not in VERSIONS:
        raise invalid(f'anthropic-version: "{version}" is not a valid version')


def check_body(body: Mapping[str, Any], model: ClaudeModel, version: str) -> None:
    """Raises `WireError` (400) for a body that the service refuses for ``model``."""
    _check_fields(body, version)
    _check_limit(body, model)
    _check_sampling(body, model)
    tools = _check_tools(body.get("tools"))
    _check_choice(body, tools, model)
    _check_thinking(body, model)
    _check_output(body, model)
    _check_stops(body.get("stop_sequences"))
    _check_system(body.get("system"))
    thinks = _thinking_type(body) == "enabled"
    check_messages(body.get("messages"), thinks=thinks, prefill=model.sampling and not thinks)
    marks = sum(1 for _ in _marks(body))
    if marks > MOST_MARKS:
        raise invalid(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")


def _check_fields(body: Mapping[str, Any], version: str) -> None:
    known = _FIELDS | (set(_SAMPLING) if version == "2023-06-01" else set())
    for key in body:
        if key not in known:
            raise invalid(f"{key}: Extra inputs are not permitted")
    if not isinstance(body.get("stream", False), bool):
        raise invalid("stream: Input should be a valid boolean")
    if body.get("service_tier", "auto") not in ("auto", "standard_only"):
        raise invalid("service_tier: Input should be 'auto' or 'standard_only'")


def _check_limit(body: Mapping[str, Any], model: ClaudeModel) -> None:
    if "max_tokens" not in body:
        raise invalid("max_tokens: Field required")
    limit = body["max_tokens"]
    if isinstance(limit, bool) or not isinstance(limit, int):
        raise invalid("max_tokens: Input should be a valid integer")
    if limit < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")
    most = model.profile.max_output
    if most is not None and limit > most:
        raise invalid(
            f"max_tokens: {limit} > {most}, which is the maximum allowed number of output tokens for"
            f" {body['model']}"
        )


def _check_sampling(body: Mapping[str, Any], model: ClaudeModel) -> None:
    given = [name for name in _SAMPLING if name in body]
    if given and not model.sampling:
        raise invalid(f"`{given[0]}` is deprecated for this model.")
    if "temperature" in body and "top_p" in body:
        raise invalid("`temperature` and `top_p` cannot both be specified for this model.")
    for name in ("temperature", "top_p"):
        value = body.get(name)
        if value is not None and (not isinstance(value, (int, float)) or not 0 <= value <= 1):
            raise invalid(f"{name}: range: 0..1")
    if _thinking_type(body) == "enabled" and body.get("temperature", 1) != 1:
        raise invalid("`temperature` may only be set to 1 when thinking is enabled.")


def _check_tools(tools: Any) -> list[str]:
    """The names of the tools."""
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    names = []
    for place, tool in enumerate(tools):
        where = f"tools.{place}.custom"
        if not isinstance(tool, Mapping):
            raise invalid(f"tools.{place}: Input should be a valid dictionary")
        name = tool.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise invalid(f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
        _check_schema(tool.get("input_schema"), where)
        names.append(name)
    if len(set(names)) != len(names):
        raise invalid("tools: Tool names must be unique.")
    return names


def _check_schema(schema: Any, where: str) -> None:
    if schema is None:
        raise invalid(f"{where}.input_schema: Field required")
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise invalid(f"{where}.input_schema.type: Input should be 'object'")
    if any(word in schema for word in _NOT_AT_THE_TOP):
        raise invalid(
            f"{where}.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"
        )


def _check_choice(body: Mapping[str, Any], tools: Sequence[str], model: ClaudeModel) -> None:
    choice = body.get("tool_choice")
    if choice is None:
        return
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind not in _CHOICES:
        expected = ", ".join(f"'{word}'" for word in _CHOICES)
        raise invalid(
            f"tool_choice: Input tag '{kind}' found using 'type' does not match any of the expected tags:"
            f" {expected}"
        )
    if not tools:
        raise invalid("tool_choice may only be specified while providing tools.")
    if kind == "tool" and choice.get("name") not in tools:
        raise invalid(f"Tool '{choice.get('name')}' not found in provided tools")
    if kind in {"any", "tool"}:
        if not model.forced_tools:
            raise invalid(f"tool_choice: forced tool use ('{kind}') is not supported for this model.")
        if _thinking_type(body) in {"enabled", "adaptive"}:
            raise invalid("Thinking may not be enabled when tool_choice forces tool use.")


def _thinking_type(body: Mapping[str, Any]) -> Any:
    thinking = body.get("thinking")
    return thinking.get("type") if isinstance(thinking, Mapping) else None


def _check_thinking(body: Mapping[str, Any], model: ClaudeModel) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind = _thinking_type(body)
    if kind not in {"enabled", "adaptive", "disabled", "between_tools"}:
        raise invalid(
            f"thinking: Input tag '{kind}' found using 'type' does not match any of the expected tags"
        )
    if kind not in model.thinking:
        raise invalid(
            f'"thinking.type.{kind}" is not supported for this model. Use "thinking.type.adaptive" and'
            ' "output_config.effort" to control thinking behavior.'
        )
    if kind != "enabled":
        return
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if budget < 1024:
        raise invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if budget >= body["max_tokens"]:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _check_output(body: Mapping[str, Any], model: ClaudeModel) -> None:
    config = body.get("output_config")
    if config is None:
        return
    if not isinstance(config, Mapping) or config.keys() - {"effort", "format"}:
        raise invalid("output_config: Extra inputs are not permitted")
    effort = config.get("effort")
    if effort is not None and effort not in model.profile.efforts:
        raise invalid("This model does not support the effort parameter.")
    wanted = config.get("format")
    if wanted is None:
        return
    if not isinstance(wanted, Mapping) or wanted.get("type") != "json_schema":
        raise invalid("output_config.format.type: Input should be 'json_schema'")
    if not isinstance(wanted.get("schema"), Mapping):
        raise invalid("output_config.format.schema: Field required")
    _check_output_schema(wanted["schema"])


def _check_output_schema(schema: Any) -> None:
    if isinstance(schema, list):
        for part in schema:
            _check_output_schema(part)
    if not isinstance(schema, Mapping):
        return
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise invalid(
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set"
            " to false"
        )
    for value in schema.values():
        _check_output_schema(value)


def _check_stops(stops: Any) -> None:
    if stops is None:
        return
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise invalid("stop_sequences: Input should be a valid list")
    if not all(stop.strip() for stop in stops):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")


def _check_system(system: Any) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid list")
    for place, block in enumerate(system):
        if not isinstance(block, Mapping) or block.get("type") != "text":
            raise invalid(f"system.{place}.type: Input should be 'text'")
        if not str(block.get("text", "")):
            raise invalid("system: text content blocks must be non-empty")


def _marks(value: Any) -> Iterator[Any]:
    """Every mark for the prompt cache in a body."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "cache_control" and inner is not None:
                yield inner
            elif key not in {"input", "input_schema"}:
                yield from _marks(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _marks(inner)
