"""SQL databases as a backend, read-only unless told otherwise. Needs the extra ``sql``."""

from __future__ import annotations

from loom_py.backends.sql.backend import SQLBackend

__all__ = ["SQLBackend"]
