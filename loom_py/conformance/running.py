"""Running scenarios, each in a thread and a time of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fnmatch import fnmatchcase

from loom_py.conformance.adapter import Adapter, AdapterSource, load_adapter, new_adapter
from loom_py.conformance.scenario import AdapterFault, Mismatch, Scenario, Stage, described, register
from loom_py.conformance.scorecard import Result, Scorecard, Status
from loom_py.errors import ConfigError, LoomError

__all__ = ["TIMEOUT", "run", "run_scenario", "scenarios"]

TIMEOUT = 30.0
"""Seconds a scenario may take."""

_LAST_CHANCE = 1.0
"""Seconds a scenario that was given up has to clean up after itself."""


def scenarios(only: str | Iterable[str] | None = None) -> tuple[Scenario, ...]:
    """The scenarios whose id matches one of the patterns in ``only``, such as ``"errors/*"``; or all.

    Raises `ConfigError` for a pattern that matches none.
    """
    known = register()
    if only is None:
        return tuple(known.values())
    patterns = [only] if isinstance(only, str) else list(only)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ConfigError(
                f"no scenario matches {pattern!r}", field="only", hint="List the ids with --list."
            )
    return tuple(
        found for name, found in known.items() if any(fnmatchcase(name, pattern) for pattern in patterns)
    )


def run(
    adapter: AdapterSource,
    *,
    only: str | Iterable[str] | None = None,
    timeout: float = TIMEOUT,
    jobs: int = 1,
) -> Scorecard:
    """Run the suite against the provider of ``adapter``.

    Args:
        adapter: a built-in name, ``module:attribute``, an adapter, or what makes one. One that is made
            is made anew for each scenario; one that is an object serves them all.
        only: patterns of the ids to run, such as ``"streaming/*"``.
        timeout: seconds for each scenario; one that takes longer has failed.
        jobs: how many scenarios run at a time; more than one needs an adapter that is made anew.

    Raises `ConfigError` for an adapter or a pattern that does not exist.
    """
    chosen = scenarios(only)
    source = load_adapter(adapter) if isinstance(adapter, str) else adapter
    first = new_adapter(source)
    if first is source:
        jobs = 1
    with ThreadPoolExecutor(max(1, jobs), thread_name_prefix="conformance") as pool:
        results = list(pool.map(lambda scenario: run_scenario(source, scenario, timeout=timeout), chosen))
    return Scorecard(first.name, tuple(results))


def run_scenario(adapter: AdapterSource, scenario: Scenario, *, timeout: float = TIMEOUT) -> Result:
    """Run one scenario; whatever happens is in the result."""
    try:
        made = new_adapter(adapter)
    except LoomError as error:
        return Result(scenario, Status.ERROR, reason=str(error))
    lacking = sorted(scenario.needs - set(made.capabilities))
    if lacking:
        return Result(scenario, Status.SKIPPED, reason=f"{made.name} does not have: {', '.join(lacking)}")
    attempt = _Attempt(made, scenario)
    begun = time.monotonic()
    attempt.start()
    attempt.join(timeout)
    if attempt.is_alive():
        attempt.give_up()
        expected = f"an end within {timeout:g} s"
        result = Result(scenario, Status.FAILED, expected, "it hangs")
    else:
        result = attempt.result
    return replace(
        result,
        expected=_masked(result.expected, made),
        seen=_masked(result.seen, made),
        reason=_masked(result.reason, made),
        seconds=time.monotonic() - begun,
    )


def _masked(text: str, adapter: Adapter) -> str:
    """``text`` without the credentials a provider may have let slip."""
    for secret in adapter.secrets:
        text = text.replace(secret, "***") if secret else text
    return text


class _Attempt(threading.Thread):
    """One scenario at work. As a daemon it holds nobody up if it hangs for ever."""

    def __init__(self, adapter: Adapter, scenario: Scenario) -> None:
        super().__init__(name=f"conformance {scenario.id}", daemon=True)
        self._adapter = adapter
        self._scenario = scenario
        self._stage: Stage | None = None
        self.result = Result(scenario, Status.ERROR, reason="it was not run")

    def run(self) -> None:
        """The thread's work."""
        self.result = self._outcome()

    def give_up(self) -> None:
        """Cancel what it waits for, if that is anything async."""
        if self._stage is not None:
            self._stage.abandon()
        self.join(_LAST_CHANCE)

    def _outcome(self) -> Result:
        scenario = self._scenario
        try:
            self._stage = stage = Stage(self._adapter)
            try:
                scenario.function(stage)
            finally:
                stage.close()
        except AdapterFault as fault:
            return Result(scenario, Status.ERROR, reason=str(fault))
        except Mismatch as mismatch:
            return Result(scenario, Status.FAILED, mismatch.expected, mismatch.seen)
        except BaseException as exc:  # noqa: BLE001 - a plugin's SystemExit must not end the suite either
            return Result(scenario, Status.FAILED, "no exception at this point", described(exc))
        return Result(scenario, Status.PASSED)
