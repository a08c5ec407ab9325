"""The conformance suite: every promise of a provider, tried against any `LLMProvider`.

::

    python -m loom_py.conformance azure

A plugin brings an `Adapter`, which sets its provider up before a fake service of its own, and gets
a scorecard. Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loom_py.conformance.adapter import FEATURES, Adapter, BaseAdapter, load_adapter
    from loom_py.conformance.playing import PlaybackModel
    from loom_py.conformance.running import run, scenarios
    from loom_py.conformance.scenario import Scenario
    from loom_py.conformance.scorecard import Result, Scorecard, Status
    from loom_py.conformance.script import FAILURES, Answer, Call, Failure, Playback, Script, SeenRequest
    from loom_py.conformance.testing import Case, conformance_tests, pytest_params

__all__ = [
    "FAILURES",
    "FEATURES",
    "Adapter",
    "Answer",
    "BaseAdapter",
    "Call",
    "Case",
    "Failure",
    "Playback",
    "PlaybackModel",
    "Result",
    "Scenario",
    "Scorecard",
    "Script",
    "SeenRequest",
    "Status",
    "conformance_tests",
    "load_adapter",
    "pytest_params",
    "run",
    "scenarios",
]

_HOMES = {
    "adapter": ("FEATURES", "Adapter", "BaseAdapter", "load_adapter"),
    "playing": ("PlaybackModel",),
    "running": ("run", "scenarios"),
    "scenario": ("Scenario",),
    "scorecard": ("Result", "Scorecard", "Status"),
    "script": ("FAILURES", "Answer", "Call", "Failure", "Playback", "Script", "SeenRequest"),
    "testing": ("Case", "conformance_tests", "pytest_params"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
