"""How long things may take."""

from __future__ import annotations

from dataclasses import dataclass, fields

from loom_py.errors import ConfigError
from loom_py.options import ChatOptions

__all__ = ["NO_TIMEOUTS", "Timeouts", "shortened"]

LEAST_SECONDS = 0.001
"""Seconds for an attempt whose time is all but over: enough to fail as one that took too long."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds in seconds; ``None`` leaves one to the provider, or open.

    ``connect`` to reach the deployment; ``read`` for a whole answer, or for each event of a stream; ``total``
    for one attempt from its beginning to its last byte, streams included; ``tool`` for a tool that has none
    of its own; ``run`` for a whole chat: model calls, waits and tools together.

    Raises `ConfigError` for values that are not above 0.
    """

    connect: float | None = None
    read: float | None = None
    total: float | None = None
    tool: float | None = None
    run: float | None = None

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None and not (type(value) in (int, float) and 0 < value < float("inf")):
                raise ConfigError(f"{each.name} must be seconds above 0, not {value!r}", field=each.name)

    def applied(self, options: ChatOptions, usual: float | None) -> ChatOptions:
        """``options`` with the time of one attempt: what they say themselves comes before these bounds.

        ``usual`` is the provider's own bound for an answer.
        """
        total = options.total_timeout or self.total
        timeout = _least(options.timeout or self.read or usual, total)
        return options.within(timeout, options.connect_timeout or self.connect, total)


NO_TIMEOUTS = Timeouts()


def shortened(options: ChatOptions, left: float) -> ChatOptions:
    """``options`` for an attempt for which ``left`` seconds are left; the same where that is enough."""
    left = max(left, LEAST_SECONDS)
    if options.total_timeout is not None and options.total_timeout <= left:
        return options
    return options.within(_least(options.timeout, left), options.connect_timeout, left)


def _least(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
