"""The event loop of a server: uvloop's where the extra ``fast`` brought it along."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["loop_factory", "run"]

T = TypeVar("T")

_NO = {"0", "false", "no", "off"}


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop; ``None`` for asyncio's own: without uvloop, or with ``LOOM_FAST=0``."""
    if os.environ.get("LOOM_FAST", "").strip().lower() in _NO:
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on that loop."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)
