"""Where loom_py's own events go.

If the application has configured structlog, events go through its configuration. If it has not,
they go through structlog's processors to the standard library's ``loom_py`` logger, which is
silent until the application adds a handler. Nothing is configured at import, and structlog itself is
imported with the first event that goes anywhere: an application that configured it has imported it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

__all__ = ["Log", "get_logger", "use_own_output"]

LOGGER_NAME = "loom_py"

_logger = logging.getLogger(LOGGER_NAME)
_logger.addHandler(logging.NullHandler())

_own_output = False


def use_own_output(own: bool = True) -> None:
    """Send events to the ``loom_py`` logger even where structlog is configured globally."""
    global _own_output
    _own_output = own


def _is_configured() -> bool:
    """Whether the application's own configuration of structlog is to be used."""
    if _own_output or (structlog := sys.modules.get("structlog")) is None:
        return False
    is_configured = getattr(structlog, "is_configured", None)  # it may be half imported, in another thread
    return is_configured is not None and bool(is_configured())


def _render(_: Any, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[str], dict[str, Any]]:
    """Hand the whole event to the standard logger: readable as text, whole for a formatter."""
    left_out = {"event", "level", "timestamp"}  # the record has them itself
    fields = [f"{key}={value}" for key, value in event.items() if key not in left_out and value is not None]
    return (" ".join([str(event.get("event", "")), *fields]),), {"extra": {"loom_event": dict(event)}}


class Log:
    """A logger with fields bound to it."""

    __slots__ = ("_fields", "_stdlib")

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._stdlib: Any = None

    def bind(self, **fields: Any) -> Log:
        """This logger with more fields."""
        return Log(**{**self._fields, **fields})

    @property
    def is_on(self) -> bool:
        """Whether an event at the level of information would go anywhere."""
        return _logger.isEnabledFor(logging.INFO) or _is_configured()

    def debug(self, event: str, **fields: Any) -> None:
        if (to := self._to(logging.DEBUG)) is not None:
            to.debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        if (to := self._to(logging.INFO)) is not None:
            to.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        if (to := self._to(logging.WARNING)) is not None:
            to.warning(event, **fields)

    def _to(self, level: int) -> Any:
        """Where an event of that level goes; ``None`` for nowhere."""
        if _is_configured():
            import structlog

            return structlog.get_logger(LOGGER_NAME).bind(**self._fields)
        if not _logger.isEnabledFor(level):
            return None
        if self._stdlib is None:
            self._stdlib = _to_standard_logger(self._fields)
        return self._stdlib


def _to_standard_logger(fields: dict[str, Any]) -> Any:
    import structlog

    return structlog.wrap_logger(
        _logger,
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _render,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        **fields,
    ).bind()


def get_logger(**fields: Any) -> Log:
    """A logger for one part of the library."""
    return Log(**fields)
