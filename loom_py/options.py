"""The settings of one model call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

__all__ = ["ChatOptions"]

_set = object.__setattr__  # they are frozen


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """Settings of one model call; ``None`` leaves a setting to the provider.

    ``temperature`` 0.0 to 2.0; ``max_tokens`` the most tokens the reply may have;
    ``tool_choice`` is ``"auto"``, ``"none"``, ``"required"`` or the name of a tool.
    ``reasoning_effort`` and ``verbosity`` are words a reasoning model knows (``"low"``, ``"high"``, …).
    ``response_format`` is the API's own object; for a type of yours use ``output=`` of an agent.
    ``prompt_cache_key`` groups requests whose beginnings are alike.
    ``extra_headers`` and ``extra_body`` are added to the request as they are.

    Times are in seconds, more than 0: ``timeout`` for a whole answer, or for each event of a stream;
    ``connect_timeout`` for the connection; ``total_timeout`` for all of an attempt, a stream to its last
    byte included. ``residency`` is where a deployment must be to take the call, and ``priority`` the
    call's rank in the queue of a rate limit, lower first; neither is sent.

    Raises `ValueError` for a setting out of its range.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: str | Sequence[str] | None = None
    seed: int | None = None
    tool_choice: str | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    response_format: Mapping[str, Any] | None = None
    prompt_cache_key: str | None = None
    user: str | None = None
    timeout: float | None = None
    connect_timeout: float | None = None
    total_timeout: float | None = None
    residency: str | None = None
    priority: int | None = None
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = []
        if self.temperature is not None and not 0.0 <= self.temperature <= 2.0:
            problems.append(f"temperature must be between 0.0 and 2.0, not {self.temperature}")
        if self.priority is not None and type(self.priority) is not int:
            problems.append(f"priority must be a whole number, not {self.priority!r}")
        if self.top_p is not None and not 0.0 <= self.top_p <= 1.0:
            problems.append(f"top_p must be between 0.0 and 1.0, not {self.top_p}")
        if self.max_tokens is not None and self.max_tokens < 1:
            problems.append(f"max_tokens must be at least 1, not {self.max_tokens}")
        for name in ("timeout", "connect_timeout", "total_timeout"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < math.inf:
                problems.append(f"{name} must be more than 0 seconds and finite, not {seconds}")
        if self.residency is not None and not self.residency.strip():
            problems.append("residency must name where the call may go, or be left out")
        if problems:
            raise ValueError("; ".join(problems))

    def within(
        self, timeout: float | None, connect_timeout: float | None, total_timeout: float | None
    ) -> ChatOptions:
        """These options with other times, which are taken as they are: made for each attempt of a call."""
        if type(self) is not ChatOptions:
            return replace(
                self, timeout=timeout, connect_timeout=connect_timeout, total_timeout=total_timeout
            )
        found = object.__new__(ChatOptions)
        for name, value in zip(_NAMES, _values(self), strict=True):
            _set(found, name, value)
        _set(found, "timeout", timeout)
        _set(found, "connect_timeout", connect_timeout)
        _set(found, "total_timeout", total_timeout)
        return found

    def merged(self, over: ChatOptions | None) -> ChatOptions:
        """These options, with every setting that ``over`` makes taken from it."""
        if over is None:
            return self
        chosen: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            theirs, ours = getattr(over, name), getattr(self, name)
            if name.startswith("extra_"):
                chosen[name] = {**ours, **theirs}
            else:
                chosen[name] = ours if theirs is None else theirs
        return ChatOptions(**chosen)


_NAMES = tuple(ChatOptions.__dataclass_fields__)
_values = attrgetter(*_NAMES)
