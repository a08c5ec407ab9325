"""What a family of models can do, as data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from loom_py.llm.models import family_of, infer_model, resolve_model

__all__ = ["UNKNOWN_PROFILE", "ModelProfile", "profile_for", "profiled_models"]


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """Capabilities of a model.

    ``context_window`` (the most input of one call) and ``max_output`` are in tokens; ``None`` means
    not known. ``reasoning`` models think before they answer and take no sampling parameters.
    ``max_tokens_parameter`` is the name under which the API takes the output limit.
    ``structured_output`` models keep to a JSON schema. ``surface`` is the API that answers, and
    ``tools_need_responses`` models take tools with reasoning on the responses API only. ``efforts`` are
    the values of ``reasoning_effort`` it takes (empty: not known), and ``unsupported`` the parameters
    it refuses.
    """

    context_window: int | None = None
    max_output: int | None = None
    tools: bool = True
    parallel_tools: bool = True
    vision: bool = False
    streaming: bool = True
    reasoning: bool = False
    max_tokens_parameter: str = "max_completion_tokens"
    structured_output: bool = False
    surface: str = "chat"
    tools_need_responses: bool = False
    efforts: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()


UNKNOWN_PROFILE = ModelProfile()
"""A model nothing is known about: assumed to take tools and to stream."""

NOT_FOR_REASONING = ("temperature", "top_p", "logprobs", "top_logprobs", "logit_bias", "max_tokens")
"""What an unlisted reasoning model is taken to refuse, as all listed ones do."""

_UNLISTED_O = re.compile(r"(?<![a-z0-9])o[1-9](?![a-z0-9])")
_UNLISTED_GPT = re.compile(r"(?<![a-z0-9])gpt[-_. ]?[5-9](?![a-z0-9])")


@lru_cache(maxsize=1024)
def profile_for(model: str | None) -> ModelProfile:
    """What ``model`` can do; it may be a model's name, with or without a version, or a deployment's.

    A version's own profile comes first, then its family's (the longest that matches), then what is
    true of the whole generation: GPT-5 and later reason, but for their chat variants, and so does
    the o-series, which takes no parallel tool calls. Else it is `UNKNOWN_PROFILE`.

    The figures come from ``data/model_profiles.json``, which names its sources.
    """
    if not model:
        return UNKNOWN_PROFILE
    profiles = _bundled()
    for name in (resolve_model(model), family_of(model), infer_model(model)):
        if name is not None and name in profiles:
            return profiles[name]
    name = model.lower()
    if _UNLISTED_O.search(name) and "gpt" not in name:
        return ModelProfile(
            reasoning=True, parallel_tools=False, structured_output=True, unsupported=NOT_FOR_REASONING
        )
    if _UNLISTED_GPT.search(name) and "chat" not in name:
        return ModelProfile(reasoning=True, structured_output=True, unsupported=NOT_FOR_REASONING)
    return UNKNOWN_PROFILE


def profiled_models() -> tuple[str, ...]:
    """The names of the models whose profile is known for certain, in order."""
    return tuple(sorted(_bundled()))


def _profile(fields: Mapping[str, Any]) -> ModelProfile:
    """A profile from JSON, whose lists are tuples here."""
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return ModelProfile(**{**fields, **lists})


@cache
def _bundled() -> Mapping[str, ModelProfile]:
    text = (files("loom_py.llm") / "data" / "model_profiles.json").read_text(encoding="utf-8")
    models = json.loads(text)["models"]
    return MappingProxyType({name: _profile(fields) for name, fields in models.items()})
