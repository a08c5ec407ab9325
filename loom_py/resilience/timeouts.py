"""How long things may take."""

from __future__ import annotations

from dataclasses import dataclass, fields

from loom_py.errors import ConfigError

__all__ = ["Timeouts"]


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
