"""loom_py's own providers pass what applies to them."""

from __future__ import annotations

import pytest

from loom_py.conformance import Status, conformance_tests, run


@pytest.mark.parametrize("adapter", ["azure", "azure-v1", "azure-responses"])
def test_the_azure_provider_passes_every_scenario(adapter: str) -> None:
    scorecard = run(adapter, jobs=8)
    assert {result.id: result.detail for result in scorecard if result.status is not Status.PASSED} == {}
    assert len(scorecard.passed) == len(scorecard) >= 100


def test_the_scripted_provider_passes_what_applies() -> None:
    scorecard = run("scripted", jobs=8)
    assert scorecard.ok, scorecard.to_json()
    assert len(scorecard.passed) >= 90
    assert "usage/cost-is-decimal" in scorecard.skipped  # it has no prices


test_conformance = conformance_tests("scripted", only=["chat/*", "json/*"])
