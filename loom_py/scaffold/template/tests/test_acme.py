"""The provider keeps every promise of the suite, and is found by its name."""

from __future__ import annotations

import pytest
from loom_acme import AcmeProvider
from loom_acme.testing import KEY, FakeAcme

from loom_py import AgentBuilder
from loom_py.conformance import Playback, run
from loom_py.conformance.script import Answer, Script
from loom_py.errors import BuilderError, ConfigError, InvalidRequestError, MissingAuthError
from loom_py.messages import Message
from loom_py.options import ChatOptions


def test_every_scenario_passes() -> None:
    scorecard = run("loom_acme.testing:AcmeAdapter", jobs=4)
    assert (scorecard.failed, scorecard.errors) == ((), ())


def test_an_agent_finds_it_by_name() -> None:
    with FakeAcme(Playback(Script((Answer("Hello!"),)))) as service:
        builder = AgentBuilder().with_llm("acme:acme-1", api_key=KEY, base_url=service.base_url)
        with builder.build() as agent:
            assert agent.chat("Hi").message == "Hello!"


def test_settings_are_checked_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_API_KEY", raising=False)
    with pytest.raises(MissingAuthError, match="API key"):
        AcmeProvider()
    with pytest.raises(BuilderError) as caught:
        AcmeProvider(api_key=KEY, temperature=9, timeout=0)
    assert {problem.field for problem in caught.value.problems} == {"temperature", "timeout"}
    assert KEY not in str(caught.value)
    with pytest.raises(ConfigError, match="api_key"):
        AcmeProvider(api_key="")


def test_it_tells_its_settings_and_never_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_API_KEY", KEY)
    provider = AcmeProvider("acme-1", timeout=5)
    told = provider.describe().to_dict()
    assert told["timeout"] == {"value": 5.0, "source": "argument"}
    assert told["api_key"]["source"] == "environment (ACME_API_KEY)"
    assert KEY not in f"{provider!r} {provider.config!r} {told}"


def test_what_json_cannot_hold_is_an_error_of_loom_py_s() -> None:
    with FakeAcme(Playback(Script((Answer("Hello!"),)))) as service:
        provider = AcmeProvider(api_key=KEY, base_url=service.base_url)
        with pytest.raises(InvalidRequestError, match="written as JSON"):
            provider.chat([Message.user("Hi")], options=ChatOptions(extra_body={"x": object()}))
        with pytest.raises(InvalidRequestError, match="cannot be sent"):
            provider.chat([Message.user("Hi")], options=ChatOptions(extra_headers={"x": "two\nlines"}))
        assert provider.chat([Message.user("half \ud800 a pair")]).message == "Hello!"
        provider.close()
