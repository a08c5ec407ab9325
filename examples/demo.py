"""The main job, watched: an agent answers questions over a real database, through Azure's wire.

Offline by default: a small local model decides on the tool calls behind an emulator of Azure
OpenAI, and the database holds real flights from New York. With ``AZURE_OPENAI_ENDPOINT``,
``AZURE_OPENAI_DEPLOYMENT`` and ``AZURE_OPENAI_API_KEY`` set, the same agent talks to Azure.

It is what ``loom demo`` shows; its code is in ``loom_py/cli/demo``.
"""

from __future__ import annotations

import sys

from rich.console import Console

from loom_py.cli.demo import run_demo
from loom_py.errors import LoomError

if __name__ == "__main__":
    try:
        run_demo(Console(highlight=False))
    except LoomError as failure:
        sys.exit(f"\n{failure}")
