"""`AnthropicProvider` before an `AnthropicEmulator`, over a real socket, for the conformance suite.

``python -m loom_py.conformance loom_anthropic.conformance:adapter``
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from loom_anthropic.emulator import AnthropicEmulator
from loom_anthropic.provider import AnthropicProvider
from loom_py.conformance.adapter import FEATURES, BaseAdapter
from loom_py.conformance.playing import PlaybackModel
from loom_py.conformance.script import Answer, Playback, Script, SeenRequest
from loom_py.emulator.wire_errors import WireError
from loom_py.llm.provider import LLMProvider

__all__ = ["AnthropicAdapter", "adapter"]

SECRET = "sk-ant-conformance-7d1f4e0a9c"  # noqa: S105 - the emulator's own
MODEL = "claude-haiku-4-5"
UNPRICED = "house-model-2"
PAGE = "<html><body><h1>Sign in</h1></body></html>"


class AnthropicAdapter(BaseAdapter):
    """The Messages API. It can do everything."""

    name = "anthropic"
    capabilities = frozenset(FEATURES)
    secrets = (SECRET,)

    def __init__(self) -> None:
        self._playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A client of a fresh emulator whose model plays the script."""
        self._playback = Playback(script)
        with AnthropicEmulator(
            PlaybackModel(self._playback, _failure), api_keys=[SECRET], models=[UNPRICED]
        ) as api:
            yield AnthropicProvider(
                api_key=SECRET, model=MODEL if script.priced else UNPRICED, base_url=api.base_url
            )

    def requests(self) -> Sequence[SeenRequest]:
        """What the emulator's model was asked."""
        return () if self._playback is None else self._playback.requests


adapter = AnthropicAdapter


def _failure(answer: Answer) -> Exception | None:
    """What makes the emulator answer as the service would."""
    failure = answer.failure
    assert failure is not None
    if failure.kind == "malformed":
        return WireError(200, PAGE, media_type="text/html")
    if failure.kind == "empty_stream":
        return WireError(200, b"", media_type="text/event-stream")
    if failure.echo_secret:
        body: dict[str, Any] = {
            "type": "error",
            "error": {"type": "authentication_error", "message": f"invalid x-api-key: {SECRET}"},
        }
        return WireError({"unauthorized": 401, "forbidden": 403}.get(failure.kind, 500), body)
    return None
