"""loom_py's own log output: console or JSON, by one call."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import IO, Any, Literal

import structlog

from loom_py._log import LOGGER_NAME, use_own_output
from loom_py.errors import ConfigError

__all__ = ["configure_logging", "silence_logging"]


class _Formatter(logging.Formatter):
    """Renders an event through structlog; other records of the logger by their message."""

    def __init__(self, renderer: Any) -> None:
        super().__init__()
        self._renderer = renderer

    def format(self, record: logging.LogRecord) -> str:
        event: Mapping[str, Any] | None = getattr(record, "loom_event", None)
        fields = dict(event) if event else {"event": record.getMessage(), "level": record.levelname.lower()}
        return str(self._renderer(None, record.levelname.lower(), fields))


class _Handler(logging.StreamHandler[Any]):
    """loom_py's own handler, told from those of the application by its class."""


def configure_logging(
    format: Literal["console", "json"] = "console",
    *,
    level: str | int = "INFO",
    stream: IO[str] | None = None,
) -> None:
    """Show loom_py's log events, one line each, on ``stream`` (standard error by default).

    Only the ``loom_py`` logger is touched; calling it again replaces what it did before. Model
    calls are logged as ``model_call`` with deployment, session_id, input_tokens, output_tokens,
    cost_usd, latency_ms and request_id; tool calls as ``tool_call``, whole turns as ``chat`` with the
    sums. What goes wrong is a warning: ``model_call_failed``, ``model_call_refused`` by an open
    breaker, ``chat_failed``; what is broken off is ``model_call_cancelled`` and ``chat_cancelled``.

    Raises `ConfigError` for an unknown format or level.
    """
    number = level if isinstance(level, int) else logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigError(f"unknown log level {level!r}", field="level", hint="Use DEBUG, INFO or WARNING.")
    if format == "json":
        renderer: Any = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    elif format == "console":
        out = stream or sys.stderr
        renderer = structlog.dev.ConsoleRenderer(colors=bool(getattr(out, "isatty", bool)()))
    else:
        raise ConfigError(f"unknown log format {format!r}", field="format", hint="Use 'console' or 'json'.")
    silence_logging()
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_Formatter(renderer))
    logger = logging.getLogger(LOGGER_NAME)
    logger.addHandler(handler)
    logger.setLevel(number)
    logger.propagate = False
    use_own_output()


def silence_logging() -> None:
    """Take back what `configure_logging` did."""
    logger = logging.getLogger(LOGGER_NAME)
    for handler in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
    use_own_output(False)
