"""Anthropic's Messages API on loopback: checks requests as the service does, and streams as it streams.

Made after Anthropic's public documentation (Messages, streaming, errors, rate limits, API versions), the
types of its SDK, and error messages seen in public reports; nothing was recorded from the service itself.
"""

from __future__ import annotations

from loom_anthropic.emulator.server import AnthropicEmulator
from loom_anthropic.emulator.troubles import Cut, Fault, RawAnswer, StreamError

__all__ = ["AnthropicEmulator", "Cut", "Fault", "RawAnswer", "StreamError"]
