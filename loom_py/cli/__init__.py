"""``loom``, the command line. Needs the extra ``cli``; nothing else of loom_py imports it.

Each command is a module of `loom_py.cli.commands`, named in `loom_py.cli.table` and imported when
it is run. Packages add commands through the entry-point group ``loom_py.cli``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``loom`` with ``arguments``, by default those of the process; the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:  # answered at once, and also where the extra is missing
        return _show_versions()
    try:
        from loom_py.cli.app import run
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] not in {"typer", "rich"}:
            raise
        print(f"loom needs the package {exc.name}: pip install 'loom-py[cli]'", file=sys.stderr)
        return 2
    code = run(given)
    if arguments is None:
        from loom_py.cli.leaving import leave

        return leave(code)
    return code


def _show_versions() -> int:
    from loom_py.cli.streams import quiet_output
    from loom_py.cli.versions import versions

    try:
        print(versions(), flush=True)
    except OSError as exc:
        quiet_output()
        return 141 if isinstance(exc, BrokenPipeError) else 2
    return 0
