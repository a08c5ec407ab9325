"""How the process ends after Ctrl-C: at once, though an interrupted tool may still run in its thread."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

__all__ = ["leave", "note_interruption"]

_was_interrupted = False


def note_interruption() -> None:
    """Something was interrupted: its thread is not waited for when the process ends."""
    global _was_interrupted
    _was_interrupted = True


def leave(code: int) -> int:
    """``code``, for ``sys.exit``; after an interruption the process ends here."""
    if not _was_interrupted:
        return code
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
