"""The settings of a client of an OpenAI-compatible server, validated once and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from loom_py.errors import ConfigError, InvalidEndpointError, Problem
from loom_py.llm.azure.settings import MaxTokens, SurfaceSetting, Temperature, is_loopback, required
from loom_py.llm.openai import OpenAIConfig

__all__ = ["ENVIRONMENT", "OpenAICompatibleConfig"]

ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "model": ("OPENAI_COMPATIBLE_MODEL",),
    "api_key": ("OPENAI_COMPATIBLE_API_KEY",),
    "base_url": ("OPENAI_COMPATIBLE_BASE_URL",),
    "fast": ("LOOM_FAST",),
}
"""Where a setting comes from when no argument gives it. ``OPENAI_API_KEY`` is never read."""


class OpenAICompatibleConfig(OpenAIConfig):
    """Everything an `OpenAICompatibleClient` needs to know, except its live objects.

    As `OpenAIConfig`, but: ``base_url`` is required, and may be http on any host; ``api_key`` is not;
    ``max_tokens`` and ``temperature`` are sent only if they are given, for a small model may have less room
    than any default; ``surface`` is chat completions unless it is named.

    ``usage_in_streams`` is whether to ask for usage at the end of streams (``stream_options``), which a few
    servers refuse.
    """

    environment: ClassVar[Mapping[str, tuple[str, ...]]] = ENVIRONMENT
    kinds: ClassVar[Mapping[str, type[ConfigError]]] = {"base_url": InvalidEndpointError}
    what: ClassVar[str] = "the client of the OpenAI-compatible server"
    insecure_hosts: ClassVar[bool] = True
    example: ClassVar[str] = "http://localhost:8000/v1"

    base_url: str
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    surface: SurfaceSetting = "chat"
    usage_in_streams: bool = True

    @property
    def sends_key_in_the_clear(self) -> bool:
        """Whether whoever is on the network can read the key."""
        parts = urlsplit(self.base_url)
        return parts.scheme == "http" and not is_loopback(parts.hostname or "")

    @classmethod
    def missing(cls, values: Mapping[str, Any], has_credential: bool) -> list[Problem]:
        """Base URL and model, those that are not there."""
        problems = []
        for name, example in (("base_url", cls.example), ("model", "llama-3.1-8b")):
            if not str(values.get(name, "")).strip():
                remedy = f"pass {name}=, such as {example!r}, or set {ENVIRONMENT[name][0]}"
                kind = cls.kinds.get(name, ConfigError)
                problems.append(required(kind, name, f"{name} is required", remedy))
        return problems
