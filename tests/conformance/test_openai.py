"""OpenAI's own API passes the suite on both of its surfaces."""

from __future__ import annotations

import pytest

from loom_py.conformance import Status, run


@pytest.mark.parametrize("adapter", ["openai", "openai-responses"])
def test_the_openai_provider_passes_every_scenario(adapter: str) -> None:
    scorecard = run(adapter, jobs=8)
    assert {result.id: result.detail for result in scorecard if result.status is not Status.PASSED} == {}
    assert len(scorecard.passed) == len(scorecard) >= 100
