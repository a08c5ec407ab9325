from __future__ import annotations

import pytest

from loom_py.llm.models import FAMILIES
from loom_py.llm.profiles import UNKNOWN_PROFILE, profile_for


@pytest.mark.parametrize(
    ("model", "context", "output", "vision"),
    [
        ("gpt-4o", 128_000, 16_384, True),
        ("gpt-4o-2024-11-20", 128_000, 16_384, True),
        ("gpt-4o-2024-05-13", 128_000, 4096, True),
        ("gpt-4.1-mini", 1_047_576, 32_768, True),
        ("gpt-5.4", 922_000, 128_000, True),
        ("o4-mini", 200_000, 100_000, True),
        ("o3-mini", 200_000, 100_000, False),
        ("gpt-4", 8192, 4096, False),
    ],
)
def test_the_figures_of_a_model_are_known(model: str, context: int, output: int, vision: bool) -> None:
    profile = profile_for(model)
    assert (profile.context_window, profile.max_output, profile.vision) == (context, output, vision)


@pytest.mark.parametrize(
    "model",
    [
        *("o1", "o1-preview", "o3-mini-2025-01-31", "o3-pro", "o4-mini", "codex-mini"),
        *("gpt-5", "gpt-5-nano", "gpt-5.1-codex-max", "gpt-5.4-pro", "gpt-6-astra", "gpt-6.1-terra"),
        *("my-gpt-5-prod", "prod-o3", "gpt-5.9-mini", "gpt-7", "gpt-5-2", "o5-mini"),
    ],
)
def test_these_models_reason(model: str) -> None:
    assert profile_for(model).reasoning


@pytest.mark.parametrize(
    "model",
    [
        *("gpt-4o", "gpt-4.1", "gpt-4", "gpt-35-turbo", "gpt-4.5-preview"),
        *("gpt-5-chat", "gpt-5.2-chat-latest", "gpt-chat-latest", "gpt-7-chat", "gpt-4o-o3-test"),
    ],
)
def test_these_models_do_not_reason(model: str) -> None:
    assert not profile_for(model).reasoning


@pytest.mark.parametrize("model", ["o1", "o3", "o3-mini", "o4-mini-2025-04-16", "o5-mini"])
def test_the_o_series_takes_tools_but_not_in_parallel(model: str) -> None:
    assert profile_for(model).tools
    assert not profile_for(model).parallel_tools


@pytest.mark.parametrize("model", ["o1-mini", "o1-mini-2024-09-12", "o1-preview", "text-embedding-3-small"])
def test_these_models_take_no_tools(model: str) -> None:
    assert not profile_for(model).tools
    assert not profile_for(model).parallel_tools


@pytest.mark.parametrize(
    "model",
    [
        *("gpt-35-turbo", "gpt-3.5-turbo-0125", "gpt-35-turbo-16k", "gpt-4", "gpt-4-0613", "gpt-4-32k"),
        *("gpt-4-32k-0613", "my-gpt-4-0613-x", "prod-gpt-35-turbo"),
    ],
)
def test_old_models_take_max_tokens(model: str) -> None:
    assert profile_for(model).max_tokens_parameter == "max_tokens"


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4-turbo", "gpt-4.1", "gpt-5", "o1", "custom-name", None])
def test_all_others_take_max_completion_tokens(model: str | None) -> None:
    assert profile_for(model).max_tokens_parameter == "max_completion_tokens"


@pytest.mark.parametrize("model", [None, "", "custom-name", "demo1-prod", "llama-4"])
def test_a_model_nothing_is_known_of_has_the_unknown_profile(model: str | None) -> None:
    assert profile_for(model) is UNKNOWN_PROFILE


def test_the_longest_family_decides() -> None:
    assert profile_for("my-gpt-4.1-mini-prod") == profile_for("gpt-4.1-mini")
    assert profile_for("gpt-4-turbo-2024-04-09").context_window == 128_000


@pytest.mark.parametrize("family", FAMILIES)
def test_no_figure_is_absurd(family: str) -> None:
    profile = profile_for(family)
    assert profile.context_window is None or profile.context_window > 0
    assert profile.max_output is None or profile.max_output > 0
    assert profile.tools or not profile.parallel_tools


def test_reasoning_models_say_which_efforts_they_take_and_what_they_refuse() -> None:
    assert profile_for("gpt-5").efforts == ("minimal", "low", "medium", "high")
    assert profile_for("gpt-5.4").efforts == ("none", "minimal", "low", "medium", "high", "xhigh")
    assert profile_for("o3").efforts == ("low", "medium", "high")
    assert "temperature" in profile_for("o3").unsupported
    assert profile_for("gpt-4o").efforts == profile_for("gpt-4o").unsupported == ()
    assert "top_p" in profile_for("gpt-9-prod").unsupported
    for name in ("gpt-5", "gpt-5.6-luna", "o4-mini", "gpt-6-sol"):
        assert profile_for(name).unsupported == profile_for("o1").unsupported
