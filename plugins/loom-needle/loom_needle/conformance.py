"""An adapter for loom_py's conformance suite.

Run with ``python -m loom_py.conformance loom_needle.conformance:NeedleAdapter``.

The model's own choices cannot be scripted, so a stand-in for the native engine makes the calls that a script
wants. All else is the provider's: what it refuses, what it shows the engine, and what it makes of the choice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from loom_needle.engine import Engine
from loom_needle.provider import NeedleProvider
from loom_py.conformance import BaseAdapter, Playback
from loom_py.conformance.script import Call, Script
from loom_py.llm.provider import LLMProvider
from loom_py.messages import Message, ToolSpec

__all__ = ["NeedleAdapter"]


class NeedleAdapter(BaseAdapter):
    """A `NeedleProvider` before an engine that chooses what the script says."""

    name = "needle"
    capabilities = frozenset({"tools"})

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A provider whose engine plays the script."""
        playback = Playback(script)
        provider = NeedleProvider()
        provider._engine = Engine(lambda tools: _PlaybackEngine(playback, tools))
        yield provider


class _PlaybackEngine:
    """Answers as the native engine does."""

    def __init__(self, playback: Playback, tools: str) -> None:
        self._playback = playback
        self._tools = [
            ToolSpec(tool["name"], tool["description"], tool["parameters"]) for tool in json.loads(tools)
        ]

    def complete(self, text: str, max_new_tokens: int) -> Mapping[str, Any]:
        answer = self._playback.answer([Message.user(text)], self._tools)
        calls = [_written(call) for call in answer.calls]
        return {"success": True, "confidence": 1.0, "function_calls": calls}


def _written(call: Call) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments
    return {"name": call.name, "arguments": arguments}
