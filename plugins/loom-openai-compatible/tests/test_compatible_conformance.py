"""The client passes the suite before servers that tell everything OpenAI does, in their own ways."""

from __future__ import annotations

import pytest

from loom_openai_compatible.conformance import CompatibleAdapter
from loom_openai_compatible.emulator import Quirks
from loom_py.conformance import Status, run


@pytest.mark.parametrize(
    "quirks",
    [
        Quirks(),
        Quirks(errors="vllm", calls_finish_with_stop=True, indexes_of_calls=False, reasoning="Hm."),
        Quirks(errors="litellm", done_mark=False),
    ],
    ids=["as OpenAI", "as vLLM", "as LiteLLM"],
)
def test_every_scenario_passes(quirks: Quirks) -> None:
    scorecard = run(lambda: CompatibleAdapter(quirks), jobs=8)
    assert {result.id: result.detail for result in scorecard if result.status is not Status.PASSED} == {}
    assert len(scorecard.passed) == len(scorecard) >= 100


def test_a_server_without_ids_and_with_objects_for_arguments_fails_for_those_alone() -> None:
    quirks = Quirks(errors="llama.cpp", ids_of_calls=False, arguments_as_objects=True)
    scorecard = run(lambda: CompatibleAdapter(quirks), jobs=8)
    assert set(scorecard.failed) == {
        "tools/one-call",
        "tools/parallel-calls",
        "tools/result-round-trip",
        "tools/arguments-byte-for-byte",
        "streaming/tool-calls-are-complete",
        "equivalence/tool-calls",
    }  # they ask for the very ids and bytes that the server does not send
