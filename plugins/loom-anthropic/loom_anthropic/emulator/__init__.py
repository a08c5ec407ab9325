"""Anthropic's Messages API on loopback: checks requests as the service does, and streams as it streams.

Made after Anthropic's public documentation (Messages, streaming, errors, rate limits, API versions), the
types of its SDK, and error messages seen in public reports; nothing was recorded from the service itself.
"""

from __future__ import annotations

from loom_py.emulator.limits import missing

try:
    from loom_anthropic.emulator.server import AnthropicEmulator
    from loom_anthropic.emulator.troubles import Cut, Fault, RawAnswer, StreamError
except ModuleNotFoundError as exc:
    raise missing(exc.name) from None

__all__ = ["AnthropicEmulator", "Cut", "Fault", "RawAnswer", "StreamError"]
