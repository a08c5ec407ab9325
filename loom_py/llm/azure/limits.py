"""How long the reply to a request can become."""

from __future__ import annotations

from typing import Any

from loom_py.llm.azure.attempts import Lessons
from loom_py.llm.azure.settings import ServiceConfig
from loom_py.llm.azure.surfaces import RESPONSES, choose_surface
from loom_py.llm.azure.wire import limit_parameter
from loom_py.llm.profiles import ModelProfile
from loom_py.options import ChatOptions

__all__ = ["LIMITS", "most_output"]

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""The names under which the APIs take the limit of a reply."""


def most_output(
    options: ChatOptions, lessons: Lessons, config: ServiceConfig, profile: ModelProfile
) -> int | None:
    """The most output tokens of a call with ``options``, all its ``n`` choices together.

    What ``extra_body`` says under the limit's own name is what is sent, and of two limits that are both
    sent the larger counts. Where none is sent the model's own holds, if it is known.
    """
    otherwise = profile.max_output
    extra = options.extra_body
    asked = extra.get("n")
    choices = asked if isinstance(asked, int) and asked > 1 else 1
    given: dict[str, Any] = {name: extra[name] for name in LIMITS if name in extra}
    if not given and lessons.is_empty:
        limits = [options.max_tokens or otherwise]
    else:
        bodies = (
            lessons.apply({name: options.max_tokens, **given})
            for name in _names(options, lessons, config, profile)
        )
        limits = [_limit(body, otherwise) for body in bodies]
    known = [limit for limit in limits if limit is not None]
    return max(known) * choices if known and len(known) == len(limits) else None


def _names(options: ChatOptions, lessons: Lessons, config: ServiceConfig, profile: ModelProfile) -> set[str]:
    """The names under which the limit may travel, be there tools or not."""
    profile = lessons.profile(profile)
    surfaces = {choose_surface(config, profile, options, has_tools=has_tools) for has_tools in (True, False)}
    chat = limit_parameter(profile, config.chat_version)
    return {"max_output_tokens" if surface is RESPONSES else chat for surface in surfaces}


def _limit(body: dict[str, Any], otherwise: int | None) -> int | None:
    """The largest limit in a request; ``otherwise`` where there is none that is a number."""
    limits = [value for value in body.values() if value is not None]
    is_plain = bool(limits) and all(type(value) is int and value > 0 for value in limits)
    return max(limits) if is_plain else otherwise
