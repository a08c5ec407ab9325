"""Scripts for `ScriptedProvider` as JSON files, for the command line.

A script is a list of steps, or ``{"steps": [...], "repeat": true}`` to begin again at its end. A
step is text, ``{"call": NAME, "arguments": {…}}``, a list of such calls, or
``{"text": …, "tool_calls": [calls], "finish_reason": …, "tokens": {"input": 1, "output": 2}}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loom_py.errors import ConfigError
from loom_py.llm.scripted import Answer, ScriptedProvider, ScriptedRequest, call, reply
from loom_py.messages import TokenUsage, ToolCall

__all__ = ["load_script", "parse_script"]


def load_script(path: Path) -> ScriptedProvider:
    """The provider that plays the script in the file ``path``. Raises `ConfigError` if it cannot."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"the script {path} cannot be read: {error.strerror}", field="engine") from error
    except ValueError as error:
        raise ConfigError(f"the script {path} is not JSON: {error}", field="engine") from error
    return parse_script(data)


def parse_script(data: Any) -> ScriptedProvider:
    """The provider that plays ``data``, a script's JSON. Raises `ConfigError` naming the bad step."""
    repeat = False
    if isinstance(data, Mapping):
        repeat, data = bool(data.get("repeat")), data.get("steps")
    if not isinstance(data, list) or not data:
        raise ConfigError("a script must be a list of steps that is not empty", field="engine")
    steps = [_step(item, f"step {index}") for index, item in enumerate(data)]
    if not repeat:
        return ScriptedProvider(steps)

    async def play(request: ScriptedRequest) -> Answer:
        return steps[request.index % len(steps)]

    return ScriptedProvider(play)


def _step(item: Any, where: str) -> Answer:
    if isinstance(item, str):
        return item
    if isinstance(item, list) and item:
        return _calls(item, where)
    if not isinstance(item, Mapping):
        raise ConfigError(f"{where} must be text, an object or a list of calls", field="engine")
    if "call" in item:
        return _call(item, where)
    unknown = sorted(item.keys() - {"text", "tool_calls", "finish_reason", "tokens"})
    if unknown:
        raise ConfigError(f"{where} has unknown keys: {', '.join(unknown)}", field="engine")
    try:
        tokens = TokenUsage(**item["tokens"]) if "tokens" in item else None
    except TypeError as error:
        raise ConfigError(f"{where} has tokens that are no usage: {error}", field="engine") from error
    calls = _calls(item.get("tool_calls", ()), where)
    return reply(
        str(item.get("text", "")),
        tool_calls=calls,
        tokens=tokens,
        finish_reason=item.get("finish_reason"),
    )


def _calls(items: Sequence[Any], where: str) -> list[ToolCall]:
    return [_call(item, where) for item in items]


def _call(item: Any, where: str) -> ToolCall:
    if not isinstance(item, Mapping) or not isinstance(item.get("call"), str):
        raise ConfigError(f'{where}: a call is {{"call": NAME, "arguments": {{…}}}}', field="engine")
    arguments = item.get("arguments", {})
    if not isinstance(arguments, dict):
        raise ConfigError(f"{where}: the arguments of {item['call']} must be an object", field="engine")
    return call(item["call"], **arguments)
