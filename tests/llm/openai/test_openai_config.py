"""The settings of an `OpenAIClient`."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.errors import BuilderError, ConfigError, InvalidEndpointError, LoomError, MissingAuthError
from loom_py.llm.openai import OpenAIClient, OpenAIConfig
from loom_py.llm.openai.config import ENVIRONMENT, normalise_base_url

SECRET = "sk-proj-0123456789abcdefghij"


def config(**settings: Any) -> OpenAIConfig:
    return OpenAIConfig.resolve({"model": "gpt-4o", "api_key": SECRET, **settings})


def test_every_problem_is_told_at_once_with_its_remedy() -> None:
    with pytest.raises(BuilderError) as caught:
        OpenAIClient(base_url="ftp://x", max_tokens=0, temperature=9, timeout=0)
    assert [problem.field for problem in caught.value.problems] == [
        "model",
        "api_key",
        "base_url",
        "max_tokens",
        "temperature",
        "timeout",
    ]
    assert "pass api_key= or set OPENAI_API_KEY" in str(caught.value)
    assert "max_tokens: input should be greater than or equal to 1, not 0" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "kind", "field"),
    [
        ({"api_key": None}, MissingAuthError, "api_key"),
        ({"api_key": "  "}, MissingAuthError, "api_key"),
        ({"api_key": "two words"}, ConfigError, "api_key"),
        ({"api_key": 7}, ConfigError, "api_key"),
        ({"model": " "}, ConfigError, "model"),
        ({"model": SECRET}, ConfigError, "model"),
        ({"base_url": "api.openai.com"}, InvalidEndpointError, "base_url"),
        ({"base_url": "http://api.openai.com/v1"}, InvalidEndpointError, "base_url"),
        ({"base_url": "https://u:p@api.openai.com"}, InvalidEndpointError, "base_url"),
        ({"base_url": "https://api.openai.com/v1?x=1"}, InvalidEndpointError, "base_url"),
        ({"service_tier": "fast"}, ConfigError, "service_tier"),
        ({"organization": "two\nlines"}, ConfigError, "organization"),
        ({"surface": "voice"}, ConfigError, "surface"),
    ],
)
def test_a_single_problem_is_an_error_of_its_own(settings: dict[str, Any], kind: type, field: str) -> None:
    with pytest.raises(kind) as caught:
        config(**settings)
    assert isinstance(caught.value, ConfigError)
    assert (type(caught.value), caught.value.field) == (kind, field)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1"),
        ("https://eu.api.openai.com/v1/responses/", "https://eu.api.openai.com/v1"),
        ("https://gateway.example/openai", "https://gateway.example/openai"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1"),
    ],
)
def test_a_base_url_may_be_written_in_many_ways(given: str, meant: str) -> None:
    assert config(base_url=given).base_url == meant


@pytest.mark.parametrize("name", sorted(set(ENVIRONMENT) - {"fast"}))
def test_a_setting_comes_from_its_variable_unless_it_is_given(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    value = "https://proxy.example/v1" if name == "base_url" else "from-the-environment"
    monkeypatch.setenv(ENVIRONMENT[name][0], value)
    given = {"model": "gpt-4o"} | ({} if name == "api_key" else {"api_key": SECRET})
    read = OpenAIConfig.resolve(given)
    found = getattr(read, name)
    assert (found.get_secret_value() if name == "api_key" else found) == value
    assert read.sources[name] == f"environment ({ENVIRONMENT[name][0]})"
    other = "https://own.example/v1" if name == "base_url" else "my-own"
    assert OpenAIConfig.resolve({**given, name: other}).sources[name] == "argument"


@given(st.text(max_size=40))
def test_no_url_breaks_the_check(text: str) -> None:
    try:
        found = normalise_base_url(text)
    except ValueError as error:
        found = str(error)
    assert found.startswith(("http", "base_url must"))


def test_no_secret_shows_in_any_text() -> None:
    made = config()
    assert SECRET not in f"{made!r}{made}{made.sources}"
    with pytest.raises(LoomError) as caught:
        config(api_key=f"{SECRET} and more")
    assert SECRET not in f"{caught.value!r}{caught.value}{caught.value.__cause__}{caught.value.__context__}"
    assert SECRET.encode() not in pickle.dumps(caught.value)
