"""``python -m loom_py.cli``: the same as ``loom``."""

from __future__ import annotations

import sys

from loom_py.cli import main

if __name__ == "__main__":
    sys.exit(main())
