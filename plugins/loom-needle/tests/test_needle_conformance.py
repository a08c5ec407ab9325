"""The conformance suite, as far as it applies to a model that writes no text."""

from __future__ import annotations

from loom_needle.conformance import NeedleAdapter
from loom_py.conformance import Status, run


def test_every_scenario_that_applies_passes_and_they_are_as_many_as_the_readme_says() -> None:
    scorecard = run(NeedleAdapter, jobs=4)
    assert scorecard.failed == ()
    found = [result.status for result in scorecard]
    assert (found.count(Status.PASSED), found.count(Status.SKIPPED), len(found)) == (22, 87, 109)
