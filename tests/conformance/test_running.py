"""The runner: what is skipped, what is an error, what is out of time, and which adapter is meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from loom_py import LLMProvider, ScriptedProvider
from loom_py.conformance import (
    FEATURES,
    Adapter,
    BaseAdapter,
    Playback,
    Script,
    Status,
    load_adapter,
    run,
    scenarios,
)
from loom_py.conformance.adapters.scripted import ScriptedAdapter
from loom_py.conformance.scenario import scenario
from loom_py.errors import ConfigError

GROUPS = {
    "chat",
    "tools",
    "streaming",
    "usage",
    "errors",
    "equivalence",
    "cancellation",
    "concurrency",
    "lifecycle",
    "json",
}


def test_there_are_many_scenarios_with_stable_ids_and_a_sentence_each() -> None:
    found = scenarios()
    assert len(found) >= 100
    assert {one.group for one in found} == GROUPS
    for one in found:
        assert re.fullmatch(r"[a-z]+/[a-z0-9]+(-[a-z0-9]+)*", one.id)
        assert one.sentence.endswith(".")
        assert one.needs <= set(FEATURES)


def test_every_feature_is_needed_by_some_scenario() -> None:
    needed = {need for one in scenarios() for need in one.needs}
    assert needed == set(FEATURES)


def test_an_id_is_taken_once() -> None:
    with pytest.raises(ValueError, match="chat/text"):

        @scenario("chat/text")
        def again(stage: object) -> None:
            """Is there already."""


def test_only_chooses_by_pattern() -> None:
    assert {result.id for result in run("scripted", only="json/*")} == {
        found.id for found in scenarios() if found.group == "json"
    }
    assert run("scripted", only=["chat/text", "json/events"]).passed == ("chat/text", "json/events")


def test_a_pattern_that_matches_nothing_is_told() -> None:
    with pytest.raises(ConfigError, match="no scenario matches 'chat/nonsense'"):
        run("scripted", only=["chat/text", "chat/nonsense"])


class Bare(ScriptedAdapter):
    """A provider that can do nothing but talk."""

    name = "bare"
    capabilities = frozenset({"text"})


def test_what_an_adapter_cannot_do_is_skipped_with_the_reason_and_never_passed() -> None:
    scorecard = run(Bare, only=["chat/*", "tools/*", "usage/*"])
    assert scorecard["tools/one-call"].status is Status.SKIPPED
    assert scorecard["tools/one-call"].reason == "bare does not have: call_ids, tools"
    assert scorecard["usage/cost-adds-up"].reason == "bare does not have: prices, usage"
    assert set(scorecard.passed) == {one.id for one in scenarios("chat/*") if one.needs <= {"text"}}
    assert scorecard.ok


def test_a_run_in_which_nothing_applies_is_not_ok() -> None:
    assert not run(Bare, only="tools/one-call").ok


class BrokenService(ScriptedAdapter):
    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        raise OSError("port taken")
        yield


class BrokenLog(ScriptedAdapter):
    def requests(self) -> tuple[()]:
        raise OSError("no log")


class CannotBeMade(ScriptedAdapter):
    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        if type(self).made > 1:
            raise OSError("no second one")


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (BrokenService, "the adapter's provider() failed: OSError: port taken"),
        (BrokenLog, "the adapter's requests() failed: OSError: no log"),
        (CannotBeMade, "the adapter cannot be made: OSError: no second one"),
    ],
)
def test_a_failing_adapter_is_an_error_and_not_a_failure_of_the_provider(
    adapter: type[ScriptedAdapter], reason: str
) -> None:
    result = run(adapter, only="chat/history")["chat/history"]
    assert (result.status, result.reason) == (Status.ERROR, reason)


class BadlyClosed(ScriptedAdapter):
    @contextmanager
    def provider(self, script: Script) -> Iterator[LLMProvider]:
        class Provider(ScriptedProvider):
            def close(self) -> None:
                raise RuntimeError("cannot close")

        yield Provider(lambda _: "Hello.")


def test_a_provider_that_cannot_be_closed_fails() -> None:
    result = run(BadlyClosed, only="lifecycle/name-and-model")["lifecycle/name-and-model"]
    assert (result.status, result.seen) == (Status.FAILED, "RuntimeError: cannot close")


def test_what_failed_first_is_told_and_not_that_it_could_not_be_closed_either() -> None:
    result = run(BadlyClosed, only="chat/unicode")["chat/unicode"]
    assert result.status is Status.FAILED
    assert "Hello." in result.seen


# ── adapters by name ─────────────────────────────────────────────────────────────────────


def test_an_object_serves_as_well_as_its_class() -> None:
    adapter = ScriptedAdapter()
    assert isinstance(adapter, Adapter)
    assert run(adapter, only="chat/*", jobs=4).ok
    assert adapter.requests()


def test_an_adapter_is_found_by_its_import_path() -> None:
    made = load_adapter("loom_py.conformance.adapters.scripted:ScriptedAdapter")()
    assert isinstance(made, ScriptedAdapter)


def test_an_adapter_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_adapter.py").write_text(
        "from loom_py.conformance.adapters.scripted import ScriptedAdapter\n"
        "class Suite:\n    class Theirs(ScriptedAdapter):\n        name = 'theirs'\n"
    )
    monkeypatch.chdir(tmp_path)
    assert run("their_adapter:Suite.Theirs", only="chat/text").adapter == "theirs"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("azur", "no adapter 'azur'"),
        ("no_such_module_here:Adapter", "No module named"),
        ("their_broken_adapter:Adapter", "cannot be loaded: NameError"),
        ("loom_py.conformance:Nothing", "has no attribute 'Nothing'"),
        (":Adapter", "no adapter"),
    ],
)
def test_an_adapter_that_cannot_be_had_is_told(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_broken_adapter.py").write_text("Adapter = Adaptor\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        run(path)


def test_an_adapter_whose_maker_fails_is_told() -> None:
    def make() -> Adapter:
        raise OSError("no room")

    with pytest.raises(ConfigError, match="the adapter cannot be made: OSError: no room"):
        run(make)


class Boastful(BaseAdapter):
    name = "boastful"
    capabilities = frozenset({"tools", "telepathy"})

    def provider(self, script: Script) -> AbstractContextManager[LLMProvider]:
        raise AssertionError(Playback(script))


def test_an_unknown_capability_is_told() -> None:
    with pytest.raises(ConfigError, match="unknown capabilities: telepathy"):
        run(Boastful)


def test_what_is_no_adapter_is_told() -> None:
    with pytest.raises(ConfigError, match="is no adapter: it needs name, capabilities"):
        run(dict)  # type: ignore[arg-type]
