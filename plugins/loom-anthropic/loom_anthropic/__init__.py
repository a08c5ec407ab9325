"""Claude models of Anthropic's API for loom_py, and the API itself on loopback for tests.

::

    from loom_anthropic import AnthropicEmulator, AnthropicProvider

    with AnthropicEmulator() as api:
        claude = AnthropicProvider(api_key=api.api_key, model="claude-sonnet-5-5", base_url=api.base_url)
        print(claude.chat([Message.user("Hello")]).message)

The emulator needs starlette and uvicorn: ``pip install 'loom-anthropic[emulator]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loom_anthropic.config import AnthropicConfig
from loom_anthropic.profiles import MODELS, ClaudeModel, claude_model
from loom_anthropic.provider import AnthropicProvider, create_provider

if TYPE_CHECKING:
    from loom_anthropic.emulator import AnthropicEmulator

__all__ = [
    "MODELS",
    "AnthropicConfig",
    "AnthropicEmulator",
    "AnthropicProvider",
    "ClaudeModel",
    "claude_model",
    "create_provider",
]


def __getattr__(name: str) -> Any:
    """The emulator, whose server is imported when it is asked for."""
    if name == "AnthropicEmulator":
        from loom_anthropic.emulator import AnthropicEmulator

        return AnthropicEmulator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
