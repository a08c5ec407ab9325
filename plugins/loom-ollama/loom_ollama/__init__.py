"""Models served by Ollama as a provider for loom_py::

agent = AgentBuilder().with_ollama_llm("llama3.2").with_tools(get_weather).build()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loom_ollama.config import OllamaConfig
from loom_ollama.provider import OllamaProvider

if TYPE_CHECKING:
    from loom_ollama.emulator import OllamaEmulator

__all__ = ["OllamaConfig", "OllamaEmulator", "OllamaProvider", "create_provider"]


def create_provider(model: str | None = None, **settings: Any) -> OllamaProvider:
    """The ``ollama`` provider of the registry; the settings are those of `OllamaProvider`."""
    return OllamaProvider(model, **settings)


def __getattr__(name: str) -> Any:
    if name == "OllamaEmulator":  # it needs the extra `emulator`
        from loom_ollama.emulator import OllamaEmulator

        return OllamaEmulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
