"""The provider keeps every promise of the suite, and is found by its name."""

from __future__ import annotations

import pytest
from loom_acme import AcmeProvider
from loom_acme.testing import KEY, FakeAcme

from loom_py import AgentBuilder
from loom_py.conformance import Playback, run
from loom_py.conformance.script import Answer, Script
from loom_py.errors import BuilderError, MissingAuthError


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
