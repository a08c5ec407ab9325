"""Which process made a reservation, and whether it still runs."""

from __future__ import annotations

import os
import socket
from pathlib import Path

__all__ = ["is_gone", "this_process"]


def this_process() -> str:
    """A name for this process: host, id, and when it began, for ids are used again."""
    pid = os.getpid()
    return f"{socket.gethostname()[:100]}/{pid}/{_began(pid) or 0}"


def is_gone(owner: str) -> bool:
    """Whether that process has surely ended. Of another machine's, or on Windows, nobody can say: false."""
    host, _, rest = owner.rpartition("/")
    host, _, number = host.rpartition("/")
    if host != socket.gethostname()[:100] or os.name != "posix" or not number.isdecimal():
        return False
    pid = int(number)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False  # it runs as somebody else
    began = _began(pid)
    return began is not None and rest not in ("0", str(began))


def _began(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; -1 if it has ended; ``None`` if nobody says."""
    try:
        # pid (name) state ppid …: the name may hold spaces and brackets, so count from its end.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return -1 if fields[0] in "ZX" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
