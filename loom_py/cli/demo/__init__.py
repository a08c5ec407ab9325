"""The demo: an agent over a database of real flights that needs no network, key or account."""

from __future__ import annotations

from loom_py.cli.demo.model import demo_builder, demo_model
from loom_py.cli.demo.show import run_demo

__all__ = ["demo_builder", "demo_model", "run_demo"]
