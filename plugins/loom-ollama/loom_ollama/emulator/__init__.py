"""Ollama's HTTP API on loopback, with any `LLMProvider` as its model.

Written after Ollama's public API documentation and the words of its server's errors; it was not recorded
from a running one. It needs the extra ``emulator``.
"""

from __future__ import annotations

from loom_py.emulator.limits import missing

try:
    from loom_ollama.emulator.answers import OllamaAnswer
    from loom_ollama.emulator.server import OllamaEmulator, OllamaRequest
except ModuleNotFoundError as exc:
    raise missing(exc.name) from None

__all__ = ["OllamaAnswer", "OllamaEmulator", "OllamaRequest"]
