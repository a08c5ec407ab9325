"""Ctrl-C at a moment that can bear it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["uninterrupted"]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C is held back meanwhile, and raised at the end.

    What is drawn has locks and a stack of its own: interrupted half-way, a spinner would leave them so that
    the next one fails.
    """
    if threading.current_thread() is not threading.main_thread():  # others get no Ctrl-C
        yield
        return
    came = False

    def note(_number: int, _frame: object) -> None:
        nonlocal came
        came = True

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if came:
            raise KeyboardInterrupt
