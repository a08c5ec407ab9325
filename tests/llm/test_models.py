from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.llm.models import FAMILIES, family_of, infer_model, price_model, resolve_model
from loom_py.llm.prices import ModelPrice, PriceTable


@pytest.mark.parametrize(
    ("deployment", "family"),
    [
        ("gpt-4o-deployment", "gpt-4o"),
        ("gpt-4o-prod", "gpt-4o"),
        ("my-gpt4-turbo", "gpt-4-turbo"),
        ("prod-gpt-35-turbo", "gpt-35-turbo"),
        ("gpt-35-turbo-test", "gpt-35-turbo"),
        ("gpt-3.5-turbo-x", "gpt-35-turbo"),
        ("gpt35", "gpt-35-turbo"),
        ("gpt-35-turbo-16k-eu", "gpt-35-turbo-16k"),
        ("gpt-4o-2024-05-13-prod", "gpt-4o"),
        ("my-gpt-4o-mini", "gpt-4o-mini"),
        ("gpt-4.1-prod", "gpt-4.1"),
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("gpt-4-turbo-prod", "gpt-4-turbo"),
        ("prod-gpt-4", "gpt-4"),
        ("my-gpt4-deployment", "gpt-4"),
        ("gpt-4-0613", "gpt-4"),
        ("gpt-4-32k-x", "gpt-4-32k"),
        ("gpt-4-1106-preview", "gpt-4-turbo"),
        ("gpt-4-vision-preview", "gpt-4-turbo"),
        ("gpt-5-prod", "gpt-5"),
        ("team.gpt-5.2-chat", "gpt-5.2-chat"),
        ("gpt-5.1-codex-mini-eu", "gpt-5.1-codex-mini"),
        ("gpt-6-luna-staging", "gpt-6-luna"),
        ("model-router-eu", "model-router"),
        ("codex-mini-prod", "codex-mini"),
        ("o1", "o1"),
        ("o3-prod", "o3"),
        ("prod-o4-mini-2", "o4-mini"),
        ("embeddings-text-embedding-3-large", "text-embedding-3-large"),
    ],
)
def test_a_deployment_name_suggests_the_longest_family_in_it(deployment: str, family: str) -> None:
    assert infer_model(deployment) == family
    assert infer_model(deployment.upper()) == family


@pytest.mark.parametrize(
    ("deployment", "family"),
    [
        ("gpt4o", "gpt-4o"),
        ("gpt_4o_mini", "gpt-4o-mini"),
        ("GPT 4o mini", "gpt-4o-mini"),
        ("gpt4omini", "gpt-4o-mini"),
        ("gpt-4-o", "gpt-4o"),
        ("gpt41mini", "gpt-4.1-mini"),
        ("gpt-4-1-nano", "gpt-4.1-nano"),
        ("gpt35turbo", "gpt-35-turbo"),
        ("gpt_5.4_mini", "gpt-5.4-mini"),
    ],
)
def test_separators_may_be_others_or_missing(deployment: str, family: str) -> None:
    assert infer_model(deployment) == family


@pytest.mark.parametrize(
    "deployment",
    ["", "custom-name", "custom-model-123", "demo1-prod", "foo3", "proto3", "minigpt-4", "gpt", "4o", "o4"],
)
def test_a_name_without_a_model_in_it_suggests_nothing(deployment: str) -> None:
    assert infer_model(deployment) is None


@pytest.mark.parametrize(
    "deployment",
    [
        *("gpt-4.2-prod", "gpt-5.9", "gpt-7", "gpt-6", "gpt-4x", "gpt-4o2", "gpt-4.1.2", "o3.5"),
        *("gpt-5.4-codex", "gpt-5.4-codex-mini", "gpt-5.9-codex-mini", "gpt-4o-mini-nano", "gpt-5.2-nano"),
        *("gpt-5-sol", "gpt-5.4-chat"),
    ],
)
def test_a_name_that_suggests_an_unlisted_model_is_not_taken_for_a_listed_one(deployment: str) -> None:
    assert infer_model(deployment) is None


@pytest.mark.parametrize("deployment", ["gpt41", "gpt-4-1", "gpt_5_2-prod"])
def test_a_name_that_could_be_either_of_two_models_suggests_neither(deployment: str) -> None:
    assert infer_model(deployment) is None


def test_models_that_hear_and_speak_are_not_taken_for_their_text_siblings() -> None:
    assert infer_model("gpt-4o-realtime-preview") == "gpt-4o-realtime"
    assert infer_model("gpt-4o-mini-tts") == "gpt-4o-mini-tts"


@given(
    family=st.sampled_from(FAMILIES),
    before=st.sampled_from(["", "prod-", "my_", "eu.", "team 7 "]),
    after=st.sampled_from(["", "-prod", "_eu", "-2024-11-20", "-team-a", " test"]),
    upper=st.booleans(),
)
def test_every_family_is_found_whatever_stands_around_it(
    family: str, before: str, after: str, upper: bool
) -> None:
    name = before + family + after
    assert infer_model(name.upper() if upper else name) == family


SHORT = ("gpt-35-turbo", "gpt-4.5-preview")  # these may be written without their last word
WHOLE = [name for name in FAMILIES if name not in SHORT]


@given(st.sampled_from(WHOLE), st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
def test_a_family_with_a_letter_on_either_side_is_another_word(family: str, letter: str) -> None:
    assert infer_model(letter + family) != family
    assert infer_model(family + letter) != family


@given(st.text(max_size=40))
def test_any_text_at_all_has_an_answer(text: str) -> None:
    assert infer_model(text) in {None, *FAMILIES}
    assert family_of(text) is None or resolve_model(text) is not None


@pytest.mark.parametrize(
    ("served", "model", "family"),
    [
        ("gpt-4o-2024-11-20", "gpt-4o-2024-11-20", "gpt-4o"),
        ("GPT-4o", "gpt-4o", "gpt-4o"),
        ("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"),
        ("gpt-5.2-chat-latest", "gpt-5.2-chat-latest", "gpt-5.2-chat"),
        ("gpt-35-turbo", "gpt-35-turbo", "gpt-35-turbo"),
        ("gpt-3.5-turbo-0125", "gpt-35-turbo-0125", "gpt-35-turbo"),
        ("gpt-4", "gpt-4", "gpt-4"),
        ("gpt-4-0613", "gpt-4-0613", "gpt-4"),
        ("gpt-4-1106-preview", "gpt-4-turbo", "gpt-4-turbo"),
        ("gpt-4-turbo-2024-04-09", "gpt-4-turbo-2024-04-09", "gpt-4-turbo"),
        ("gpt-5.6-luna-2026-07-09", "gpt-5.6-luna-2026-07-09", "gpt-5.6-luna"),
        ("gpt-4.5-preview", "gpt-4.5-preview", "gpt-4.5-preview"),
        ("gpt-chat-latest", "gpt-chat-latest", "gpt-chat-latest"),
        ("o1-preview-2024-09-12", "o1-preview-2024-09-12", "o1-preview"),
    ],
)
def test_a_served_model_is_known_alone_or_with_one_version(served: str, model: str, family: str) -> None:
    assert resolve_model(served) == model
    assert family_of(served) == family


@pytest.mark.parametrize(
    "served",
    [
        *("", "gpt-5-ultra-2027-01-01", "gpt-4o-prod", "my-gpt-4o", "gpt-4.2", "gpt-6", "demo1", "gpt4o"),
        *("gpt-4o-2024-11", "gpt-4o-latest-latest", "gpt-4o-2024-11-20\n-x", "-2024-11-20"),
    ],
)
def test_a_served_name_that_is_not_exactly_a_known_model_is_unknown(served: str) -> None:
    assert resolve_model(served) is None
    assert family_of(served) is None


def test_the_price_goes_by_what_the_user_says_then_by_what_served_then_by_the_name() -> None:
    assert price_model("gpt-4.1", "gpt-4o-2024-11-20", "gpt-4-prod") == "gpt-4.1"
    assert price_model("our gpt-4.1 one", "gpt-4o-2024-11-20", "gpt-4-prod") == "gpt-4.1"
    assert price_model(None, "gpt-4o-2024-11-20", "gpt-4-prod") == "gpt-4o-2024-11-20"
    assert price_model("house-model", "gpt-4o-2024-11-20", "gpt-4-prod") == "gpt-4o-2024-11-20"
    assert price_model(None, "gpt-4-prod", "gpt-4-prod") == "gpt-4"
    assert price_model(None, "", "gpt-4-prod") == "gpt-4"
    assert price_model(None, None, "custom-name") is None


def test_a_served_name_is_never_inferred_from() -> None:
    assert price_model(None, "gpt-5-ultra-2027-01-01", "custom-name") is None


def test_a_date_in_the_name_of_a_deployment_decides_its_price() -> None:
    name = price_model(None, None, "gpt-4o-2024-05-13-prod")
    assert name == "gpt-4o-2024-05-13"
    assert PriceTable.bundled().get(name) == ModelPrice(5, 15)
    assert price_model("my gpt-4o-2024-08-06", None, "x") == "gpt-4o-2024-08-06"
