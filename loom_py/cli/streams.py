"""Standard input and output as ``loom`` finds them: closed, full, read by nobody, in another encoding."""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast

__all__ = ["is_unwritable", "quiet_output", "settle_streams", "write_json"]

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}


def settle_streams() -> None:
    """Have three streams that can be used, whatever the process was started with.

    A closed one is as good as none. A character that the terminal's encoding lacks, and half a character
    of a model, become a question mark: an answer is not lost to one of its letters.
    """
    sys.stdin = sys.stdin or _nowhere("r")
    sys.stdout = sys.stdout or _nowhere("w")
    sys.stderr = sys.stderr or _nowhere("w")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def write_json(data: Any, *, indent: int | None = 2) -> None:
    """Write ``data`` as JSON to standard output, with escapes where its encoding is not Unicode's."""
    text = json.dumps(data, ensure_ascii=not _is_unicode(sys.stdout), default=str, indent=indent)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def is_unwritable(error: BaseException) -> bool:
    """Whether ``error`` says that standard output takes nothing: its disk is full, or it is closed."""
    return isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE


def quiet_output() -> None:
    """Nobody reads standard output any more: what is left to be flushed goes nowhere, without a complaint."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _nowhere(mode: str) -> TextIO:
    return cast("TextIO", Path(os.devnull).open(mode, encoding="utf-8"))


def _is_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "").startswith("utf")
