"""Where loom_py's own events go.

If the application has configured structlog, events go through its configuration. If it has not,
they go through structlog's processors to the standard library's ``loom_py`` logger, which is
silent until the application adds a handler. Nothing is configured at import.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog

__all__ = ["Log", "get_logger", "use_own_output"]

LOGGER_NAME = "loom_py"

logging.getLogger(LOGGER_NAME).addHandler(logging.NullHandler())

_own_output = False


def use_own_output(own: bool = True) -> None:
    """Send events to the ``loom_py`` logger even where structlog is configured globally."""
    global _own_output
    _own_output = own


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
        self._stdlib: Any = structlog.wrap_logger(
            logging.getLogger(LOGGER_NAME),
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

    def bind(self, **fields: Any) -> Log:
        """This logger with more fields."""
        return Log(**{**self._fields, **fields})

    @property
    def is_on(self) -> bool:
        """Whether an event at the level of information would go anywhere."""
        if not _own_output and structlog.is_configured():
            return True
        return logging.getLogger(LOGGER_NAME).isEnabledFor(logging.INFO)

    def debug(self, event: str, **fields: Any) -> None:
        self._to().debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        self._to().info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._to().warning(event, **fields)

    def _to(self) -> Any:
        if _own_output or not structlog.is_configured():
            return self._stdlib
        return structlog.get_logger(LOGGER_NAME).bind(**self._fields)


def get_logger(**fields: Any) -> Log:
    """A logger for one part of the library."""
    return Log(**fields)
