"""The settings of a call: what is refused, and how two of them become one."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from loom_py.options import ChatOptions


@pytest.mark.parametrize("name", ["timeout", "connect_timeout", "total_timeout"])
@pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused_by_its_name(name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be more than 0 seconds"):
        ChatOptions(**{name: seconds})  # type: ignore[arg-type]


def test_an_empty_residency_is_refused() -> None:
    with pytest.raises(ValueError, match="residency must name"):
        ChatOptions(residency=" ")


def test_what_a_call_says_comes_first_and_the_rest_stays() -> None:
    ours = ChatOptions(total_timeout=60, connect_timeout=3, residency="eu", priority=5)
    theirs = ChatOptions(total_timeout=10, priority=0)
    assert ours.merged(theirs) == ChatOptions(total_timeout=10, connect_timeout=3, residency="eu", priority=0)


def test_every_setting_survives_a_merge_with_nothing() -> None:
    values: dict[str, Any] = {
        "stop": "x",
        "tool_choice": "none",
        "reasoning_effort": "low",
        "verbosity": "low",
        "response_format": {},
        "prompt_cache_key": "k",
        "user": "u",
        "residency": "eu",
        "parallel_tool_calls": False,
        "extra_headers": {"a": "b"},
        "extra_body": {"a": 1},
    }
    options = ChatOptions(**{each.name: values.get(each.name, 1) for each in fields(ChatOptions)})
    assert options.merged(ChatOptions()) == options
    assert ChatOptions().merged(options) == options


def test_other_times_leave_every_other_setting_as_it_is() -> None:
    options = ChatOptions(temperature=0.5, stop=("a",), extra_body={"x": 1}, priority=3, timeout=9.0)
    timed = options.within(1.0, None, 2.5)
    assert timed == replace(options, timeout=1.0, connect_timeout=None, total_timeout=2.5)
    assert options.timeout == 9.0


def test_other_times_keep_what_a_kind_of_options_has_of_its_own() -> None:
    @dataclass(frozen=True, slots=True)
    class Labelled(ChatOptions):
        label: str = ""

    assert Labelled(label="nightly").within(1.0, 2.0, 3.0) == Labelled(
        timeout=1.0, connect_timeout=2.0, total_timeout=3.0, label="nightly"
    )
