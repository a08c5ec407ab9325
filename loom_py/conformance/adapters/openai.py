"""`OpenAIClient` before an `OpenAIEmulator`, over a real socket, on both of OpenAI's surfaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from loom_py.conformance.adapter import FEATURES, BaseAdapter
from loom_py.conformance.adapters.azure import SECRET, dropped, wire_failure
from loom_py.conformance.playing import PlaybackModel
from loom_py.conformance.script import Playback, Script, SeenRequest
from loom_py.emulator import OpenAIEmulator
from loom_py.llm.openai import OpenAIClient
from loom_py.llm.provider import LLMProvider

__all__ = ["OpenAIAdapter", "OpenAIResponsesAdapter"]

MODELS = {"gpt-4o-2024-11-20": "gpt-4o-2024-11-20", "house-model-2": "house-model-2"}


class OpenAIAdapter(BaseAdapter):
    """Chat completions of OpenAI's own API. It can do everything."""

    name = "openai"
    capabilities = frozenset(FEATURES)
    secrets = (SECRET,)
    settings: ClassVar[dict[str, Any]] = {"surface": "chat"}

    def __init__(self) -> None:
        self._playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A client of a fresh emulator whose model plays the script."""
        drops, rest = dropped(script)
        self._playback = Playback(rest)
        model = "gpt-4o-2024-11-20" if script.priced else "house-model-2"
        with OpenAIEmulator(
            PlaybackModel(self._playback, wire_failure), models=MODELS, api_keys=[SECRET], faults=drops
        ) as openai:
            yield OpenAIClient(**openai.client_kwargs(model), **self.settings)

    def requests(self) -> Sequence[SeenRequest]:
        """What the emulator's model was asked."""
        return () if self._playback is None else self._playback.requests


class OpenAIResponsesAdapter(OpenAIAdapter):
    """The Responses API."""

    name = "openai-responses"
    settings: ClassVar[dict[str, Any]] = {"surface": "responses"}
