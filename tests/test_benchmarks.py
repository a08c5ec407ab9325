"""The benchmarks, tiny: every metric runs, every answer is right, and the arithmetic is sound."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import many_clients, profile
from benchmarks.contender import ANSWER, Weather, streamed
from benchmarks.contenders.loom import LoomAgent, LoomClient
from benchmarks.contenders.openai_sdk import OpenAISDK
from benchmarks.figures import PLAIN, Figure, Sample, cpu_figure, ratios, scaled_medians, slope
from benchmarks.lineup import AGENT, CLIENT, ours, peers
from benchmarks.peers.environments import InstallError, python_of
from benchmarks.race import Entry, Race, canned_server
from benchmarks.report import BEGIN, END, markdown, renew_page
from benchmarks.suite import METRICS, POLICIES, TINY, Report, run

CONTENDERS = [OpenAISDK, LoomAgent, LoomClient]


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    """A whole run in the smallest size."""
    with Race(ours(), rounds=2, least=0) as race:
        yield run(race, sizes=TINY)


# ── every metric ─────────────────────────────────────────────────────────────────────────


def test_every_metric_measures_every_contender(report: Report) -> None:
    assert report.problems == {}
    assert set(METRICS) | {POLICIES, "construction_memory"} == set(report.figures)
    for name in ("plain_call", "tool_rounds", "stream_chunks", "long_history", "in_flight"):
        figure = report.figures[name]
        assert set(figure.values) == set(report.contenders) >= {PLAIN, AGENT, CLIENT}
        assert figure.ratios[PLAIN] == pytest.approx(1.0)
        assert all(0 < value < math.inf for value in (*figure.values.values(), *figure.ratios.values()))


def test_the_metrics_have_the_order_of_magnitude_of_what_they_measure(report: Report) -> None:
    figures = report.figures
    assert 50 < figures["plain_call"].values[AGENT] < 1e6  # µs
    assert figures["tool_rounds"].values[PLAIN] * 1000 > figures["plain_call"].values[PLAIN]  # ms, µs
    assert figures["stream_chunks"].values[PLAIN] < figures["plain_call"].values[PLAIN]
    assert 1 < figures["import_time"].values[PLAIN] < 60_000  # ms
    assert set(figures["construction"].values) >= {AGENT}
    assert 0.5 < figures["construction_memory"].values[AGENT] < 1000  # KiB
    assert set(figures["idle_agents"].values) >= {AGENT}
    assert set(figures["steady_memory"].values) >= {AGENT}
    assert {"json.dumps alone", PLAIN, AGENT} <= set(figures["growth"].values)
    assert figures[POLICIES].values["provider alone"] == pytest.approx(0.0, abs=0.1)


def test_a_report_is_a_table_and_json(report: Report) -> None:
    text = markdown(report)
    for title in ("plain call", "2 tool rounds", "4 in flight, runs/s", "import, ms of CPU", "exponent"):
        assert title in text
    assert f"| {AGENT} |" in text
    assert "openai 3" in text
    data = json.loads(json.dumps(report.to_dict()))
    assert data["figures"]["plain_call"]["ratios"][PLAIN] == pytest.approx(1.0)
    assert len(data["figures"]["plain_call"]["details"]["rounds"][AGENT]) == 2


def test_the_figures_of_a_page_are_renewed_and_nothing_else(report: Report, tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\n## After\n")
    for _ in range(2):
        renew_page(report, page)
        text = page.read_text()
        assert text.startswith(f"# Before\n\n{BEGIN}\n\n{report.date}")
        assert text.endswith(f"{END}\n\n## After\n")
        assert text.count("plain call") == 1
        assert "old\n" not in text
    page.write_text("# No marks\n")
    with pytest.raises(ValueError, match="no <!-- figures -->"):
        renew_page(report, page)


def test_a_report_is_drawn(report: Report, tmp_path: Path) -> None:
    plot = pytest.importorskip("scripts.plots.performance")
    plot.draw_report(report.to_dict(), tmp_path / "performance.svg")
    drawn = (tmp_path / "performance.svg").read_text()
    assert "10 tool rounds" not in drawn
    assert "2 tool rounds" in drawn
    assert AGENT in drawn


# ── the contenders do the same work ──────────────────────────────────────────────────────


def seen(endpoint: str) -> dict[str, Any]:
    """What the server says of the last request."""
    with urllib.request.urlopen(f"{endpoint}/seen") as answer:
        return json.load(answer)  # type: ignore[no-any-return]


@pytest.mark.parametrize("contender", CONTENDERS)
async def test_contenders_send_the_same_and_give_the_right_answers(contender: type[Any]) -> None:
    client = contender()
    with canned_server(["plain", "rounds=3", "stream=30"]) as endpoints:
        assert await client.ask(endpoints["plain"]) == ANSWER
        sent = seen(endpoints["plain"])
        assert (sent["messages"], sent["tools"], sent["stream"], sent["requests"]) == (2, 1, False, 1)

        Weather.asked = 0
        assert await client.ask(endpoints["rounds=3"]) == ANSWER
        assert Weather.asked == 3
        sent = seen(endpoints["rounds=3"])
        assert (sent["messages"], sent["requests"]) == (2 + 3 * 2, 4)

        assert await client.stream(endpoints["stream=30"]) == streamed(30)
        assert seen(endpoints["stream=30"])["stream"]

        history = client.history([("user", "Hello"), ("assistant", "Hello!")] * 10)
        for _ in range(2):  # the history does not grow from call to call
            assert await client.ask(endpoints["plain"], history) == ANSWER
            assert seen(endpoints["plain"])["messages"] == 22
        await client.aclose()


def test_a_contender_that_answers_wrongly_is_reported_and_left_out() -> None:
    with Race(ours()[:1], rounds=1, least=0) as race:
        found = race.interleaved("run", verb="ask", endpoint=race.endpoint("plain"), count=1, tool_calls=1)
        assert found == {}
        assert "the tool ran 0 times, not 1" in next(iter(race.problems.values()))


def test_a_contender_that_cannot_start_is_reported_and_left_out() -> None:
    broken = Entry("broken", "benchmarks.contenders.openai_sdk:NoSuchThing")
    with Race([broken, *ours()[:1]], rounds=1, least=0) as race:
        assert [entry.name for entry in race.entries] == [PLAIN]
        assert "NoSuchThing" in race.problems["broken"]


def test_an_environment_that_is_complete_is_used_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(InstallError):
        python_of("peer", ["./there-is-no-such-folder"], tmp_path)
    folder = next(tmp_path.iterdir())
    (folder / "installed.txt").write_text("one\ntwo")
    assert python_of("peer", ["one", "two"], tmp_path).is_relative_to(folder)


def test_a_peer_that_cannot_be_installed_is_a_problem_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    entries, problems = peers(["agno"], tmp_path / "cache")
    assert entries == []
    assert problems["agno"].startswith("not installed: ")


# ── many clients, and the profile ────────────────────────────────────────────────────────


@pytest.mark.parametrize("fast", ["0", "1"])
def test_many_clients_share_connections(fast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_FAST", fast)
    found = many_clients.measure(clients=10, agents=4, threads=2)
    assert found["clients_sockets"] == 0
    assert 0 < found["agents_4_one_sockets"] <= found["agents_4_own_sockets"] <= 4
    assert all(value > 0 for name, value in found.items() if name.endswith(("_us", "_ms")))


@pytest.mark.parametrize("way", ["core", "fast"])
def test_a_profile_accounts_for_all_of_the_time(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_FAST", "0")  # which the profile changes
    with canned_server(["rounds=3"]) as endpoints:
        shares = profile.profile(endpoints["rounds=3"], "ask", 10, 0.3, way)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["transport and sockets"] > 0.05
    assert shares["the SDK and httpx"] > 0.05
    assert shares["other"] < 0.2
    assert profile.table({way: shares}).count("\n") == len(profile.ORDER) + 1


def test_code_that_belongs_to_nobody_counts_for_its_caller() -> None:
    assert profile.part_of("/lib/python3/json/encoder.py", "encode") is None
    assert profile.part_of("/x/loom_py/llm/azure/wire.py", "decode_json") == "decoding"
    assert profile.part_of("/x/loom_py/llm/azure/wire.py", "encode_body") == "encoding"
    assert profile.part_of("/x/loom_py/agent.py", "achat") == "the agent"


# ── the arithmetic ───────────────────────────────────────────────────────────────────────


def test_a_core_that_slows_down_changes_no_ratio() -> None:
    steady = {PLAIN: [Sample(2.0, 2.0, 1.0)] * 3, "half": [Sample(1.0, 1.0, 1.0)] * 3}
    slowed = {
        PLAIN: [Sample(2.0, 2.0, 1.0), Sample(4.0, 4.0, 2.0), Sample(2.0, 2.0, 1.0)],
        "half": [Sample(1.0, 1.0, 1.0), Sample(1.0, 1.0, 1.0), Sample(2.0, 2.0, 2.0)],
    }
    assert ratios(steady) == ratios(slowed) == {PLAIN: 1.0, "half": 0.5}
    assert scaled_medians(slowed) == scaled_medians(steady) == {PLAIN: 2.0, "half": 1.0}


def test_there_are_no_ratios_without_the_plain_sdk() -> None:
    figure = cpu_figure("alone", {"half": [Sample(1.0, 1.0, 1.0)]}, "ms")
    assert isinstance(figure, Figure)
    assert (figure.values, figure.ratios) == ({"half": 1000.0}, {})


def test_a_slope_leaves_what_does_not_grow_aside() -> None:
    assert slope([(0, 5.0), (10, 25.0), (20, 45.0)]) == pytest.approx(2.0)
