"""The suite in a plugin's own pytest run, one test for each scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loom_py.conformance.adapter import AdapterSource
from loom_py.conformance.running import TIMEOUT, run_scenario, scenarios
from loom_py.conformance.scenario import Scenario
from loom_py.conformance.scorecard import Status

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

__all__ = ["Case", "conformance_tests", "pytest_params"]


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario and the adapter it is for. `check` it in a test."""

    adapter: AdapterSource
    scenario: Scenario
    timeout: float = TIMEOUT

    def check(self) -> None:
        """Run the scenario.

        Raises `AssertionError` with what was expected and seen where it fails, and skips the test
        where it does not apply.
        """
        import pytest

        result = run_scenario(self.adapter, self.scenario, timeout=self.timeout)
        if result.status is Status.SKIPPED:
            pytest.skip(result.reason)
        if result.status is not Status.PASSED:
            raise AssertionError(f"{self.scenario.id}: {self.scenario.sentence}\n{result.detail}")


def pytest_params(
    adapter: AdapterSource, *, only: str | Iterable[str] | None = None, timeout: float = TIMEOUT
) -> list[ParameterSet]:
    """A pytest parameter with a `Case` for each scenario, its id the scenario's.

    ``only`` and ``timeout`` as in `run`. Raises `ConfigError` for a pattern that matches nothing.
    """
    import pytest

    return [pytest.param(Case(adapter, scenario, timeout), id=scenario.id) for scenario in scenarios(only)]


def conformance_tests(
    adapter: AdapterSource, *, only: str | Iterable[str] | None = None, timeout: float = TIMEOUT
) -> Callable[..., Any]:
    """A test function with a case for each scenario::

    test_conformance = conformance_tests("my_module:MyAdapter")
    """
    import pytest

    @pytest.mark.parametrize("case", pytest_params(adapter, only=only, timeout=timeout))
    def test_conformance(case: Case) -> None:
        case.check()

    return test_conformance
