"""Narrow tools over the flights database, and questions a small local model answers with them.

They are those of the demo; ``loom_py/cli/demo/flights.py`` has their code.

    backend = SQLBackend("sqlite:///examples/data/flights.db")
    builder.with_backend(backend).with_tools(*flight_tools(backend))

The database holds ten days of February 2013; see ``examples/data/README.md``.
"""

from __future__ import annotations

from loom_py.cli.demo.flights import QUESTIONS, flight_tools

__all__ = ["QUESTIONS", "flight_tools"]
