"""How many connections the system lets this process have: each is an open file."""

from __future__ import annotations

import sys
from contextlib import suppress

from loom_py._log import get_logger

__all__ = ["connections_within"]

SPARE = 200
"""Files beside the connections of clients: those to models and ledgers, and the process' own."""

_log = get_logger()


def connections_within(wanted: int) -> int:
    """``wanted``, or fewer where there cannot be so many; the soft limit on open files is raised for them.

    A process without a file left cannot even accept a connection to turn it away.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted + SPARE:
        more = wanted + SPARE if hard == unlimited else min(wanted + SPARE, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))
            soft = more
    possible = wanted if soft == unlimited else min(wanted, max(soft - SPARE, soft // 2))
    if possible < wanted:
        _log.warning("fewer_connections", wanted=wanted, possible=possible, open_files=soft)
    return possible
