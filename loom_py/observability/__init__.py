"""Logs of what agents do.

loom_py is quiet until it is asked. `configure_logging` shows its events on a stream of your
choice; an application that has configured structlog gets them through its own configuration.
"""

from __future__ import annotations

from loom_py.observability.logs import configure_logging, silence_logging

__all__ = ["configure_logging", "silence_logging"]
