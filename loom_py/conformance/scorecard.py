"""What came of a run: a result for each scenario, and the forms in which they are written down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree as ET

from loom_py.conformance.scenario import Scenario

__all__ = ["Result", "Scorecard", "Status"]


class Status(StrEnum):
    """How a scenario ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one scenario.

    ``expected`` and ``seen`` tell of a failure. ``reason`` says why it was skipped, or what went
    wrong outside the provider: in the adapter, or in its fake service. ``seconds`` is how long it
    took.
    """

    scenario: Scenario
    status: Status
    expected: str = ""
    seen: str = ""
    reason: str = ""
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """The scenario's id."""
        return self.scenario.id

    @property
    def detail(self) -> str:
        """What there is to say, in one line; nothing for a scenario that passed."""
        if self.status is Status.FAILED:
            return f"expected {self.expected}; saw {self.seen}"
        return self.reason

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible; keys without a value are left out."""
        data: dict[str, Any] = {
            "id": self.id,
            "sentence": self.scenario.sentence,
            "status": self.status.value,
            "seconds": round(self.seconds, 3),
        }
        told = {"expected": self.expected, "seen": self.seen, "reason": self.reason}
        return data | {key: value for key, value in told.items() if value}


@dataclass(frozen=True, slots=True)
class Scorecard:
    """The results of one run, in the order of the register. Iterating gives the results."""

    adapter: str
    results: tuple[Result, ...] = ()

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, id: str) -> Result:
        """The result of the scenario ``id``. Raises `KeyError` if it did not run."""
        for result in self.results:
            if result.id == id:
                return result
        raise KeyError(id)

    def ids(self, status: Status) -> tuple[str, ...]:
        """The ids of the scenarios that ended so."""
        return tuple(result.id for result in self.results if result.status is status)

    @property
    def passed(self) -> tuple[str, ...]:
        """The ids of the scenarios that passed."""
        return self.ids(Status.PASSED)

    @property
    def failed(self) -> tuple[str, ...]:
        """The ids of the scenarios the provider fails."""
        return self.ids(Status.FAILED)

    @property
    def skipped(self) -> tuple[str, ...]:
        """The ids of the scenarios that do not apply."""
        return self.ids(Status.SKIPPED)

    @property
    def errors(self) -> tuple[str, ...]:
        """The ids of the scenarios that could not be tried."""
        return self.ids(Status.ERROR)

    @property
    def ok(self) -> bool:
        """Whether something passed, nothing failed, and everything could be tried."""
        return bool(self.passed) and not (self.failed or self.errors)

    @property
    def summary(self) -> str:
        """The counts, in a line."""
        counts = {status: len(self.ids(status)) for status in Status}
        told = [f"{count} {status}" for status, count in counts.items() if count or status is Status.PASSED]
        return f"{self.adapter}: {', '.join(told)}, of {len(self.results)}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible: adapter, counts and results."""
        return {
            "adapter": self.adapter,
            "ok": self.ok,
            "counts": {status.value: len(self.ids(status)) for status in Status},
            "results": [result.to_dict() for result in self.results],
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    def to_junit(self) -> str:
        """JUnit XML, one test case for each scenario, as CI systems read it."""
        suite = ET.Element(
            "testsuite",
            name=f"loom_py.conformance.{self.adapter}",
            tests=str(len(self.results)),
            failures=str(len(self.failed)),
            errors=str(len(self.errors)),
            skipped=str(len(self.skipped)),
            time=f"{sum(result.seconds for result in self.results):.3f}",
        )
        for result in self.results:
            case = ET.SubElement(
                suite,
                "testcase",
                classname=f"{self.adapter}.{result.scenario.group}",
                name=result.id,
                time=f"{result.seconds:.3f}",
            )
            if result.status is not Status.PASSED:
                tag = {Status.FAILED: "failure", Status.SKIPPED: "skipped"}.get(result.status, "error")
                ET.SubElement(case, tag, message=_xml_text(result.detail)).text = result.scenario.sentence
        suites = ET.Element("testsuites")
        suites.append(suite)
        ET.indent(suites)
        return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _xml_text(text: str) -> str:
    """``text`` without the characters XML cannot hold."""
    return "".join(
        char
        if char in "\t\n" or " " <= char < "\ud800" or "\ue000" <= char <= "\ufffd" or char > "\uffff"
        else "�"
        for char in text
    )
