"""An adapter for loom_py's conformance suite.

Run with ``python -m loom_py.conformance loom_ollama.conformance:OllamaAdapter``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from loom_ollama.emulator import OllamaAnswer, OllamaEmulator
from loom_ollama.emulator.answers import JSON, NDJSON
from loom_ollama.provider import OllamaProvider
from loom_py.conformance import BaseAdapter, Playback
from loom_py.conformance.adapter import FEATURES
from loom_py.conformance.playing import PlaybackModel
from loom_py.conformance.script import Answer, Script, SeenRequest
from loom_py.llm.prices import ModelPrice
from loom_py.llm.provider import LLMProvider

__all__ = ["OllamaAdapter"]

SECRET = "conformance-key-7d1f4e0a9c"  # noqa: S105 - the emulator's own
LACKS = {
    "argument_text",  # arguments are objects
    "cached_usage",
    "content_filter",
    "image_urls",
    "images",  # they have no place between the texts
    "reasoning_usage",
    "request_ids",
    "tool_choice",
}
"""What Ollama has not."""


class OllamaAdapter(BaseAdapter):
    """An `OllamaProvider` before an `OllamaEmulator`, over a real socket."""

    name = "ollama"
    capabilities = frozenset(FEATURES) - LACKS
    secrets = (SECRET,)

    def __init__(self) -> None:
        self._playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A provider whose server plays the script."""
        self._playback = Playback(script)
        models = ["llama3.2", "llama3.2:cloud"]
        with OllamaEmulator(
            PlaybackModel(self._playback, _failure), models=models, api_keys=[SECRET]
        ) as server:
            model = models[0] if script.priced else models[1]
            prices = {models[0]: ModelPrice("2.5", "10")}
            yield OllamaProvider(model, host=server.host, api_key=SECRET, prices=prices)

    def requests(self) -> Sequence[SeenRequest]:
        """What the server's model was asked."""
        return () if self._playback is None else self._playback.requests


def _failure(answer: Answer) -> Exception | None:
    failure = answer.failure
    assert failure is not None
    if failure.kind == "malformed":
        return OllamaAnswer(200, "<html><body><h1>Sign in</h1></body></html>", kind="text/html")
    if failure.kind == "empty_stream":
        return OllamaAnswer(200, "", kind=NDJSON)
    if failure.kind == "stream_error":
        return OllamaAnswer(500, {"error": "an error was encountered while running the model"}, kind=JSON)
    if failure.echo_secret:
        status = {"unauthorized": 401, "forbidden": 403}.get(failure.kind, 500)
        return OllamaAnswer(status, {"error": f"the key {SECRET} is not known"})
    return None
