"""The scorecard's forms: JSON, JUnit, a table, plain lines."""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree as ET

import pytest

from loom_py.conformance import Result, Scorecard, Status, scenarios
from loom_py.conformance.printing import print_scorecard

ONE, TWO, THREE, FOUR = scenarios("errors/*")[:4]
SCORECARD = Scorecard(
    "mine",
    (
        Result(ONE, Status.PASSED, seconds=0.25),
        Result(TWO, Status.FAILED, expected="<a> & [b]", seen="\x00\ud800 c", seconds=0.5),
        Result(THREE, Status.SKIPPED, reason="mine does not have: tools"),
        Result(FOUR, Status.ERROR, reason="OSError: port taken"),
    ),
)


def test_the_ids_are_sorted_by_what_came_of_them() -> None:
    assert SCORECARD.passed == (ONE.id,)
    assert SCORECARD.failed == (TWO.id,)
    assert SCORECARD.skipped == (THREE.id,)
    assert SCORECARD.errors == (FOUR.id,)
    assert not SCORECARD.ok
    assert SCORECARD[TWO.id].detail == "expected <a> & [b]; saw \x00\ud800 c"
    with pytest.raises(KeyError):
        SCORECARD["chat/text"]


@pytest.mark.parametrize(
    ("statuses", "ok"),
    [
        ([Status.PASSED, Status.SKIPPED], True),
        ([Status.PASSED, Status.ERROR], False),
        ([Status.PASSED, Status.FAILED], False),
        ([Status.SKIPPED], False),
        ([], False),
    ],
)
def test_it_is_ok_where_something_passed_and_nothing_went_wrong(statuses: list[Status], ok: bool) -> None:
    assert Scorecard("mine", tuple(Result(ONE, status) for status in statuses)).ok is ok


def test_the_json_holds_counts_and_results() -> None:
    data = json.loads(Scorecard("mine", SCORECARD.results[:1] + SCORECARD.results[2:]).to_json())
    assert data["counts"] == {"passed": 1, "failed": 0, "skipped": 1, "error": 1}
    assert data["results"][0] == {
        "id": ONE.id,
        "sentence": ONE.sentence,
        "status": "passed",
        "seconds": 0.25,
    }
    assert data["results"][1]["reason"] == "mine does not have: tools"


def test_the_junit_xml_is_well_formed_whatever_was_seen() -> None:
    suite = ET.fromstring(SCORECARD.to_junit().encode()).find("testsuite")
    assert suite is not None
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")]
    assert counts == ["4", "1", "1", "1", "0.750"]
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [ONE.id, TWO.id, THREE.id, FOUR.id]
    assert cases[0].get("classname") == "mine.errors"
    assert [[child.tag for child in case] for case in cases] == [[], ["failure"], ["skipped"], ["error"]]
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "expected <a> & [b]; saw �� c"


@pytest.mark.parametrize("plain", [True, False])
def test_a_terminal_shows_each_scenario_and_the_sum(plain: bool) -> None:
    file = io.StringIO()
    shown = Scorecard("mine", (*SCORECARD.results[:1], Result(TWO, Status.FAILED, "[bold]x", "y")))
    print_scorecard(shown, file, plain=plain)
    text = file.getvalue()
    assert ONE.id in text
    assert TWO.id in text
    assert "[bold]x" in text  # no markup of rich's
    assert "mine: 1 passed, 1 failed, of 2" in text
    assert ("┃" in text) is not plain
