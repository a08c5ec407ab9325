"""What ``loom --version`` tells."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from loom_py._version import __version__

__all__ = ["versions"]


def versions() -> str:
    """The versions of loom_py, Python and the openai SDK, a line each."""
    try:
        openai = version("openai")
    except PackageNotFoundError:
        openai = "not installed"
    return f"loom-py {__version__}\nPython {platform.python_version()}\nopenai {openai}"
