"""What the models on Bedrock can do.

Context windows are those of the package genai-prices 0.2.3 for AWS Bedrock. What else is said comes from
AWS's documentation of the Converse API (supported models and model features), of structured outputs
(Claude Sonnet, Haiku and Opus 4.5, Claude Opus 4.6) and of prompt caching, and from the makers' own
documentation: model cards (the most output), and Anthropic's migration guides (sampling, effort). What
none of them says is left open.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from loom_py.llm.profiles import UNKNOWN_PROFILE, ModelProfile

__all__ = ["caches_prompts", "caches_tools", "profile_of", "sampling_of", "takes_effort"]

_CLAUDE = {"vision": True}
_TEXT_ONLY = {"tools": False, "parallel_tools": False}

_PROFILES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("anthropic.claude-3-haiku", {**_CLAUDE, "context_window": 200_000, "max_output": 4_096}),
    ("anthropic.claude-3-sonnet", {**_CLAUDE, "context_window": 200_000, "max_output": 4_096}),
    ("anthropic.claude-3-opus", {**_CLAUDE, "context_window": 200_000, "max_output": 4_096}),
    ("anthropic.claude-3-5-haiku", {"context_window": 200_000, "max_output": 8_192}),
    ("anthropic.claude-3-5-sonnet", {**_CLAUDE, "context_window": 200_000, "max_output": 8_192}),
    ("anthropic.claude-3-7-sonnet", {**_CLAUDE, "context_window": 200_000, "max_output": 128_000}),
    ("anthropic.claude-sonnet-4-20250514", {**_CLAUDE, "context_window": 200_000, "max_output": 64_000}),
    ("anthropic.claude-opus-4-20250514", {**_CLAUDE, "context_window": 200_000, "max_output": 32_000}),
    ("anthropic.claude-opus-4-1", {**_CLAUDE, "context_window": 200_000, "max_output": 32_000}),
    (
        "anthropic.claude-sonnet-4-5",
        {**_CLAUDE, "context_window": 200_000, "max_output": 64_000, "structured_output": True},
    ),
    (
        "anthropic.claude-haiku-4-5",
        {**_CLAUDE, "context_window": 200_000, "max_output": 64_000, "structured_output": True},
    ),
    (
        "anthropic.claude-opus-4-5",
        {**_CLAUDE, "context_window": 200_000, "max_output": 64_000, "structured_output": True},
    ),
    (
        "anthropic.claude-opus-4-6",
        {**_CLAUDE, "context_window": 1_000_000, "max_output": 128_000, "structured_output": True},
    ),
    ("anthropic.claude-sonnet-4", {**_CLAUDE, "context_window": 1_000_000}),
    ("anthropic.claude-opus-4", {**_CLAUDE, "context_window": 1_000_000}),
    ("anthropic.claude-haiku-5", {**_CLAUDE, "context_window": 1_000_000}),
    ("anthropic.claude-sonnet-5", {**_CLAUDE, "context_window": 1_000_000}),
    ("anthropic.claude-opus-5", {**_CLAUDE, "context_window": 1_000_000}),
    ("anthropic.claude-fable-5", {**_CLAUDE, "context_window": 1_000_000}),
    ("anthropic.claude-mythos-5", {**_CLAUDE, "context_window": 1_000_000}),
    ("anthropic.claude", _CLAUDE),
    ("amazon.nova-micro", {"context_window": 128_000, "max_output": 10_000}),
    ("amazon.nova-lite", {"context_window": 300_000, "max_output": 10_000, "vision": True}),
    ("amazon.nova-pro", {"context_window": 300_000, "max_output": 10_000, "vision": True}),
    ("amazon.nova-premier", {"context_window": 1_000_000, "vision": True}),
    ("amazon.nova-2-lite", {"context_window": 1_000_000, "vision": True}),
    ("amazon.titan-text", _TEXT_ONLY),
    ("deepseek.r1", {**_TEXT_ONLY, "context_window": 128_000}),
    ("meta.llama3-8b", {**_TEXT_ONLY, "context_window": 8_192}),
    ("meta.llama3-70b", {**_TEXT_ONLY, "context_window": 8_192}),
    ("meta.llama3-1-", {"context_window": 128_000}),
    ("meta.llama3-2-11b", {"context_window": 128_000, "vision": True}),
    ("meta.llama3-2-90b", {"context_window": 128_000, "vision": True}),
    ("meta.llama3-2-", {**_TEXT_ONLY, "context_window": 128_000}),
    ("meta.llama3-3-70b", {"context_window": 128_000}),
    ("meta.llama4-maverick", {"context_window": 1_000_000, "vision": True}),
    ("meta.llama4-scout", {"context_window": 10_000_000, "vision": True}),
    ("mistral.mistral-7b", {**_TEXT_ONLY, "context_window": 32_000}),
    ("mistral.mixtral-8x7b", {**_TEXT_ONLY, "context_window": 32_000}),
    ("mistral.mistral-large-2402", {"context_window": 32_000}),
    ("mistral.mistral-small-2402", {"context_window": 32_000}),
    ("mistral.pixtral-large", {"context_window": 128_000, "vision": True}),
    ("openai.gpt-oss-120b", {"context_window": 128_000}),
    ("openai.gpt-oss-20b", {"context_window": 128_000}),
    ("qwen.qwen3-32b", {"context_window": 32_000}),
    ("qwen.qwen3-coder-30b", {"context_window": 256_000}),
    ("qwen.qwen3-coder-480b", {"context_window": 128_000}),
)
"""What is known of a model, by how its name begins; the first that fits holds."""

_NO_CACHE = (
    *("anthropic.claude-3-haiku", "anthropic.claude-3-sonnet", "anthropic.claude-3-opus"),
    *("anthropic.claude-3-5-sonnet-20240620", "anthropic.claude-v2", "anthropic.claude-instant"),
)


@lru_cache(maxsize=256)
def profile_of(name: str | None) -> ModelProfile:
    """What the model ``name`` (without geography) can do; `UNKNOWN_PROFILE` where nothing is known."""
    for start, fields in _PROFILES:
        if name is not None and name.startswith(start):
            return ModelProfile(**{"max_tokens_parameter": "maxTokens", **fields})
    return UNKNOWN_PROFILE


def caches_prompts(name: str | None) -> bool:
    """Whether the model takes cache points in its system prompt and messages."""
    if name is None or name.startswith(_NO_CACHE):
        return False
    return name.startswith(("anthropic.claude", "amazon.nova"))


def caches_tools(name: str | None) -> bool:
    """Whether it takes a cache point behind its tools as well."""
    return caches_prompts(name) and bool(name and name.startswith("anthropic."))


_FIRST_CLAUDES = (
    *("anthropic.claude-v2", "anthropic.claude-instant", "anthropic.claude-3"),
    *("anthropic.claude-sonnet-4-2025", "anthropic.claude-opus-4-2025"),
)
"""Claude up to version 4: ``temperature`` and ``top_p`` together."""

_NEXT_CLAUDES = (
    *("anthropic.claude-opus-4-1", "anthropic.claude-sonnet-4-5", "anthropic.claude-haiku-4-5"),
    *("anthropic.claude-opus-4-5", "anthropic.claude-opus-4-6", "anthropic.claude-sonnet-4-6"),
)
"""Claude up to version 4.6: one of the two. The later ones take neither."""

_WITH_EFFORT = _NEXT_CLAUDES[3:]


def sampling_of(name: str | None) -> int:
    """How many of ``temperature`` and ``top_p`` the model takes at once: 2, 1 or none."""
    if name is None or not name.startswith("anthropic.claude-") or name.startswith(_FIRST_CLAUDES):
        return 2
    return 1 if name.startswith(_NEXT_CLAUDES) else 0


def takes_effort(name: str | None) -> bool:
    """Whether it is a Claude that can be told how hard to think: since Claude Opus 4.5."""
    if name is None or not name.startswith("anthropic.claude-"):
        return False
    return name.startswith(_WITH_EFFORT) or not name.startswith((*_FIRST_CLAUDES, *_NEXT_CLAUDES))
