"""`AzureOpenAIClient` before an `AzureEmulator`, over a real socket, on each of Azure's surfaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

from loom_py.conformance.adapter import FEATURES, BaseAdapter
from loom_py.conformance.playing import PlaybackModel
from loom_py.conformance.script import Answer, Failure, Playback, Script, SeenRequest
from loom_py.emulator import AzureEmulator, FaultPlan, FaultRule
from loom_py.emulator.wire_errors import WireError
from loom_py.llm.azure import AzureOpenAIClient
from loom_py.llm.provider import LLMProvider

__all__ = ["AzureAdapter", "AzureResponsesAdapter", "AzureV1Adapter", "dropped", "wire_failure"]

SECRET = "conformance-key-7d1f4e0a9c"  # noqa: S105 - the emulator's own
DEPLOYMENTS = {"priced": "gpt-4o-2024-11-20", "unpriced": "house-model-2"}
REPEATED = 100
"""How many requests a failure that is the script's last strikes."""

PAGE = "<html><body><h1>Sign in</h1></body></html>"


class AzureAdapter(BaseAdapter):
    """The classic API: chat completions of a deployment. It can do everything."""

    name = "azure"
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
        with AzureEmulator(
            PlaybackModel(self._playback, wire_failure),
            deployments=DEPLOYMENTS,
            api_keys=[SECRET],
            faults=drops,
        ) as azure:
            yield AzureOpenAIClient(
                endpoint=azure.endpoint,
                api_key=SECRET,
                deployment_id="priced" if script.priced else "unpriced",
                **self.settings,
            )

    def requests(self) -> Sequence[SeenRequest]:
        """What the emulator's model was asked."""
        return () if self._playback is None else self._playback.requests


class AzureV1Adapter(AzureAdapter):
    """The v1 API: chat completions without an API version."""

    name = "azure-v1"
    settings: ClassVar[dict[str, Any]] = {"surface": "chat", "api": "v1"}


class AzureResponsesAdapter(AzureAdapter):
    """The Responses API, by v1."""

    name = "azure-responses"
    settings: ClassVar[dict[str, Any]] = {"surface": "responses", "api": "v1"}


def dropped(script: Script) -> tuple[FaultPlan | None, Script]:
    """The connections to drop, which no request gets past, and the script without them."""
    dropped = [_is_drop(answer) for answer in script.answers]
    if not any(dropped):
        return None, script
    places = [place for place, drop in enumerate(dropped, 1) if drop]
    if dropped[-1]:
        places += range(len(dropped) + 1, len(dropped) + REPEATED)
    rules = tuple(FaultRule(error="connection-drop", nth=place) for place in places)
    kept = tuple(answer for answer in script.answers if not _is_drop(answer))
    return FaultPlan(rules=rules), replace(script, answers=kept or (Answer(),))


def _is_drop(answer: Answer) -> bool:
    return answer.failure is not None and answer.failure.kind == "unreachable"


def wire_failure(answer: Answer) -> Exception | None:
    """What makes the emulator answer as Azure would."""
    failure = answer.failure
    assert failure is not None
    if failure.kind == "malformed":
        return WireError(200, PAGE, media_type="text/html")
    if failure.kind == "empty_stream":
        return WireError(200, b"", media_type="text/event-stream")
    if failure.echo_secret:
        return _echo(failure)
    return None


def _echo(failure: Failure) -> WireError:
    """A refusal that repeats the key, as gateways in front of Azure do."""
    status = {"unauthorized": 401, "forbidden": 403}.get(failure.kind, 500)
    body = {"error": {"code": str(status), "message": f"Incorrect API key provided: {SECRET}."}}
    return WireError(status, body)
