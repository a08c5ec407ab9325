"""The adapter for `loom_py.conformance`: the client before a `CompatibleEmulator`, over a real socket.

::

    python -m loom_py.conformance loom_openai_compatible.conformance:adapter
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from loom_openai_compatible import OpenAICompatibleClient
from loom_openai_compatible.emulator import CompatibleEmulator, Quirks
from loom_py.conformance import BaseAdapter
from loom_py.conformance.adapter import FEATURES
from loom_py.conformance.adapters.azure import SECRET, dropped, wire_failure
from loom_py.conformance.playing import PlaybackModel
from loom_py.conformance.script import Playback, Script, SeenRequest
from loom_py.llm.prices import ModelPrice
from loom_py.llm.provider import LLMProvider

__all__ = ["CompatibleAdapter", "adapter", "vllm_adapter"]


class CompatibleAdapter(BaseAdapter):
    """Chat completions of a server with the given ``quirks``, by default none."""

    name = "openai-compatible"
    capabilities = frozenset(FEATURES)
    secrets = (SECRET,)

    def __init__(self, quirks: Quirks | None = None) -> None:
        self._quirks = quirks or Quirks()
        self._playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A client of a fresh emulator whose model plays the script."""
        drops, rest = dropped(script)
        self._playback = Playback(rest)
        prices = {"llama-3.1-8b": ModelPrice("0.2", "0.4", "0.1")} if script.priced else {}
        with CompatibleEmulator(
            PlaybackModel(self._playback, wire_failure), api_keys=[SECRET], faults=drops, quirks=self._quirks
        ) as server:
            yield OpenAICompatibleClient(**server.client_kwargs(), prices=prices)

    def requests(self) -> Sequence[SeenRequest]:
        """What the emulator's model was asked."""
        return () if self._playback is None else self._playback.requests


def adapter() -> CompatibleAdapter:
    """A server that answers as OpenAI does."""
    return CompatibleAdapter()


def vllm_adapter() -> CompatibleAdapter:
    """A server that words its errors as vLLM does, and has its ways with tool calls."""
    return CompatibleAdapter(
        Quirks(errors="vllm", calls_finish_with_stop=True, indexes_of_calls=False, reasoning="Hm.")
    )
