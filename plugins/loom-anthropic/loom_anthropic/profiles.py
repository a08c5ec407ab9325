"""What the Claude models can do, as data.

Source: Anthropic's documentation as of November 2026: the models overview, the page "What's new" and the
migration guide of each model, and "Migrating to API version 2026-10-21".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from loom_py.llm.profiles import ModelProfile

__all__ = ["MODELS", "ClaudeModel", "claude_model"]

ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")
SAMPLING = ("temperature", "top_p")
NEVER_TAKEN = ("seed", "verbosity", "prompt_cache_key")
"""Options that the Messages API has no place for."""

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class ClaudeModel:
    """A Claude model: its `ModelProfile`, and what only Anthropic's API asks about.

    ``thinking`` are the values of ``thinking.type`` it accepts; ``thinks`` says that it thinks where a
    request does not mention it. ``forced_tools`` says that ``tool_choice`` may demand a call.
    """

    profile: ModelProfile
    thinking: frozenset[str] = frozenset()
    thinks: bool = False
    forced_tools: bool = True

    @property
    def sampling(self) -> bool:
        """Whether it takes temperature and top_p."""
        return "temperature" not in self.profile.unsupported

    @property
    def off(self) -> str | None:
        """The value of ``thinking.type`` that turns thinking off; ``None`` where nothing does."""
        return next((kind for kind in ("disabled", "between_tools") if kind in self.thinking), None)


def _model(
    window: int,
    output: int,
    thinking: str,
    *,
    thinks: bool = False,
    efforts: tuple[str, ...] = ALL_EFFORTS,
    sampling: bool = False,
    forced_tools: bool = True,
) -> ClaudeModel:
    profile = ModelProfile(
        context_window=window,
        max_output=output,
        vision=True,
        reasoning=thinks,
        max_tokens_parameter="max_tokens",
        structured_output=True,
        surface="messages",
        efforts=efforts,
        unsupported=NEVER_TAKEN if sampling else (*SAMPLING, *NEVER_TAKEN),
    )
    return ClaudeModel(profile, frozenset(thinking.split()), thinks, forced_tools)


_ALWAYS_THINKING = _model(MILLION, 128_000, "adaptive", thinks=True, forced_tools=False)
_FIRST_FIVE = _model(MILLION, 128_000, "adaptive", thinks=True)
_THINKING = _model(MILLION, 128_000, "adaptive disabled", thinks=True)
_ADAPTIVE = _model(MILLION, 128_000, "adaptive disabled")
_BOTH_KINDS = _model(
    MILLION,
    128_000,
    "adaptive enabled disabled",
    efforts=("low", "medium", "high", "max"),
    sampling=True,
)

MODELS: Mapping[str, ClaudeModel] = MappingProxyType(
    {
        "claude-fable-5-2": _ALWAYS_THINKING,
        "claude-mythos-5-2": _ALWAYS_THINKING,
        "claude-fable-5-1": _ALWAYS_THINKING,
        "claude-mythos-5-1": _ALWAYS_THINKING,
        "claude-opus-5-5": _ALWAYS_THINKING,
        "claude-sonnet-5-5": _model(
            MILLION, 128_000, "adaptive between_tools", thinks=True, forced_tools=False
        ),
        "claude-haiku-5-5": _THINKING,
        "claude-fable-5": _FIRST_FIVE,
        "claude-mythos-5": _FIRST_FIVE,
        "claude-opus-5": _THINKING,
        "claude-sonnet-5": _THINKING,
        "claude-opus-4-8": _ADAPTIVE,
        "claude-opus-4-7": _ADAPTIVE,
        "claude-opus-4-6": _BOTH_KINDS,
        "claude-sonnet-4-6": _BOTH_KINDS,
        "claude-opus-4-5": _model(
            200_000, 64_000, "enabled disabled", efforts=("low", "medium", "high"), sampling=True
        ),
        "claude-sonnet-4-5": _model(200_000, 64_000, "enabled disabled", efforts=(), sampling=True),
        "claude-haiku-4-5": _model(200_000, 64_000, "enabled disabled", efforts=(), sampling=True),
    }
)
"""The models that are served, by the name without a date."""

_VERSION = re.compile(r"[-@](?:20\d{6}|latest)\Z")

_UNLISTED_CLAUDE = ClaudeModel(
    ModelProfile(
        vision=True,
        max_tokens_parameter="max_tokens",
        surface="messages",
        unsupported=(*SAMPLING, *NEVER_TAKEN),
    ),
    frozenset({"adaptive", "enabled", "disabled"}),
)
_OTHER = ClaudeModel(
    ModelProfile(vision=True, max_tokens_parameter="max_tokens", surface="messages", unsupported=NEVER_TAKEN),
    frozenset({"adaptive", "enabled", "disabled"}),
)


def bare_name(model: str) -> str:
    """The model's name without the date of its snapshot, in lower case."""
    return _VERSION.sub("", model.strip().lower())


def claude_model(model: str) -> ClaudeModel:
    """What ``model`` can do; a dated name has what its family has.

    Of a Claude model that is not listed no limits are known, and sampling parameters are left out, for no
    model since Claude Opus 4.7 takes them. Another model, behind a gateway, is taken to have them.
    """
    name = bare_name(model)
    if name in MODELS:
        return MODELS[name]
    return _UNLISTED_CLAUDE if "claude" in name else _OTHER
