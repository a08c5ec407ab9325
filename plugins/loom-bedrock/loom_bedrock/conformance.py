"""`BedrockAdapter`: the provider before its emulator, for the conformance suite.

``python -m loom_py.conformance loom_bedrock.conformance:adapter``
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from loom_bedrock.emulator import BedrockEmulator, BedrockException, RawAnswer
from loom_bedrock.provider import BedrockProvider
from loom_py.conformance.adapter import FEATURES, BaseAdapter
from loom_py.conformance.playing import PlaybackModel
from loom_py.conformance.script import Answer, Playback, Script, SeenRequest
from loom_py.llm.provider import LLMProvider

__all__ = ["BedrockAdapter", "adapter"]

SECRET = "conformance/secret/7d1f4e0a9c/0000000000"  # noqa: S105 - the emulator's own
MODELS = {True: "us.amazon.nova-lite-v1:0", False: "house.model-2-v1:0"}
PAGE = b"<html><body><h1>Sign in</h1></body></html>"


class BedrockAdapter(BaseAdapter):
    """Bedrock by Converse and ConverseStream.

    What does not apply: images by address (Bedrock takes bytes), arguments as text (they travel as
    values), and reasoning tokens (they are not reported apart).
    """

    name = "bedrock"
    capabilities = frozenset(FEATURES) - {
        "argument_text",
        "image_urls",
        "reasoning_usage",
    }
    secrets = (SECRET,)

    def __init__(self) -> None:
        self._playback: Playback | None = None

    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        """A provider before a fresh emulator whose model plays the script."""
        self._playback = Playback(script)
        with BedrockEmulator(PlaybackModel(self._playback, _failure), secret_access_key=SECRET) as bedrock:
            yield BedrockProvider(model=MODELS[script.priced], **bedrock.settings)

    def requests(self) -> Sequence[SeenRequest]:
        """What the emulator's model was asked."""
        return () if self._playback is None else self._playback.requests


adapter = BedrockAdapter


def _failure(answer: Answer) -> Exception | None:
    """What makes the emulator answer as Bedrock would."""
    failure = answer.failure
    assert failure is not None
    if failure.kind == "malformed":
        return RawAnswer(200, PAGE)
    if failure.kind == "empty_stream":
        return RawAnswer(200, b"", {"content-type": "application/vnd.amazon.eventstream"})
    if failure.echo_secret:
        message = f"The security token included in the request is invalid: {SECRET}"
        return BedrockException("UnrecognizedClientException", message)
    return None
