"""Fault plans: which requests they strike, and what the requests then get."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AzureOpenAI

from loom_py.emulator import AzureEmulator, FaultPlan, FaultRule, Latency, VirtualClock
from loom_py.emulator.catalogue import FAILURES, TWISTS
from loom_py.emulator.fault_plan import PlanRun
from loom_py.llm.scripted import ScriptedProvider, ScriptedRequest, call

DEPLOYMENT = "gpt-4o-deployment"
Ask = Callable[..., httpx2.Response]


def plan(*rules: FaultRule, seed: int = 0) -> FaultPlan:
    return FaultPlan(seed=seed, rules=rules)


def errors(the_plan: FaultPlan, count: int, deployment: str = "a", region: str = "eastus") -> list[Any]:
    run = PlanRun(the_plan, VirtualClock(), region)
    return [run.next(deployment).error for _ in range(count)]


def events(response: httpx2.Response) -> list[Any]:
    lines = [line[6:] for line in response.text.split("\n\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


# ── which requests ───────────────────────────────────────────────────────────────────────


@given(st.integers(), st.floats(0, 1))
def test_the_same_seed_strikes_the_same_requests(seed: int, probability: float) -> None:
    the_plan = plan(FaultRule(error="500", probability=probability), seed=seed)
    assert errors(the_plan, 20) == errors(the_plan, 20)


def test_other_deployments_in_between_change_nothing() -> None:
    the_plan = plan(FaultRule(error="500", probability=0.5), seed=3)
    run = PlanRun(the_plan, VirtualClock(), "eastus")
    mixed = [run.next(name).error for _ in range(20) for name in ("b", "a")][1::2]
    assert mixed == errors(the_plan, 20)


def test_a_probability_is_a_share() -> None:
    struck = sum(error is not None for error in errors(plan(FaultRule(error="500", probability=0.25)), 4000))
    assert 900 < struck < 1100
    assert errors(plan(FaultRule(error="500", probability=0)), 50) == [None] * 50


def test_the_nth_request_or_every_nth() -> None:
    assert errors(plan(FaultRule(error="500", nth=2)), 5) == [None, "500", None, None, None]
    assert errors(plan(FaultRule(error="500", every=2)), 5) == [None, "500", None, "500", None]


def test_a_burst_strikes_in_a_row_and_times_ends_it() -> None:
    assert errors(plan(FaultRule(error="500", nth=2, burst=3)), 6) == [None, "500", "500", "500", None, None]
    assert errors(plan(FaultRule(error="500", times=2)), 4) == ["500", "500", None, None]


def test_a_rule_may_be_for_one_deployment_or_one_region() -> None:
    the_plan = plan(FaultRule(error="500", deployment="a", region="eastus"))
    assert errors(the_plan, 1) == ["500"]
    assert errors(the_plan, 1, deployment="b") == [None]
    assert errors(the_plan, 1, region="westeurope") == [None]


def test_of_several_rules_the_first_error_counts_and_delays_add_up() -> None:
    the_plan = plan(
        FaultRule(latency=Latency.fixed(1)),
        FaultRule(error="429-2025", retry_after=9, latency=Latency.fixed(2)),
        FaultRule(error="500", retry_after=1),
    )
    effects = PlanRun(the_plan, VirtualClock(), "eastus").next("a")
    assert (effects.error, effects.retry_after, effects.delay) == ("429-2025", 9, 3)


def test_a_region_is_out_for_a_window_of_the_clock() -> None:
    clock = VirtualClock()
    outage = plan(FaultRule(error="503-empty", region="eastus", window=(30, 60)))
    with (
        AzureEmulator(region="eastus", faults=outage, clock=clock) as east,
        AzureEmulator(region="westus", faults=outage, clock=clock) as west,
    ):
        seen = []
        for seconds in (0, 29.9, 0.1, 29.9, 0.1):
            clock.advance(seconds)
            seen.append((post(east).status_code, post(west).status_code))
    assert seen == [(200, 200), (200, 200), (503, 200), (503, 200), (200, 200)]


def post(azure: AzureEmulator, **body: Any) -> httpx2.Response:
    return httpx2.post(
        f"{azure.endpoint}/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=2024-10-21",
        json={"messages": [{"role": "user", "content": "Hello there"}], **body},
        headers={"api-key": azure.api_key},
    )


def test_a_plan_may_be_set_later_and_begins_again_with_a_reset(azure: AzureEmulator, ask: Ask) -> None:
    assert azure.faults is None
    azure.faults = plan(FaultRule(error="408", nth=1))
    assert [ask().status_code for _ in range(2)] == [408, 200]
    azure.reset()
    assert [ask().status_code for _ in range(2)] == [408, 200]
    azure.faults = None
    assert ask().status_code == 200


def test_what_a_test_scripts_comes_before_the_plan(azure: AzureEmulator, ask: Ask) -> None:
    azure.faults = plan(FaultRule(error="408"))
    azure.fail_next(503)
    assert [ask().status_code, ask().status_code] == [503, 408]


# ── latency ──────────────────────────────────────────────────────────────────────────────


def test_latencies_are_drawn_from_their_distribution() -> None:
    chance = Random(1)
    assert Latency.fixed(2).draw(chance) == 2
    uniform = [Latency.uniform(1, 3).draw(chance) for _ in range(500)]
    assert 1 <= min(uniform) < 1.1
    assert 2.9 < max(uniform) <= 3
    lognormal = [Latency.lognormal(0.8, 0.5).draw(chance) for _ in range(2000)]
    assert statistics.median(lognormal) == pytest.approx(0.8, rel=0.1)
    assert max(lognormal) > 2.5


def test_latency_passes_on_the_emulators_clock() -> None:
    clock = VirtualClock()
    slow = plan(FaultRule(latency=Latency.uniform(100, 200)))
    with AzureEmulator(faults=slow, clock=clock) as azure, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, azure)
        clock.wait_for_sleepers()
        clock.advance(99)
        assert clock.sleeping == 1
        clock.advance(101)
        assert answer.result(5).status_code == 200


def test_bytes_may_come_slowly() -> None:
    clock = VirtualClock(auto_advance=True)
    with AzureEmulator(faults=plan(FaultRule(bytes_per_second=100)), clock=clock) as azure:
        response = post(azure)
        assert clock.now() == pytest.approx(len(response.content) / 100)
        began = clock.now()
        response = post(azure, stream=True)
        assert clock.now() - began == pytest.approx(len(response.content) / 100)
    assert response.text.endswith("data: [DONE]\n\n")


# ── broken answers ───────────────────────────────────────────────────────────────────────


def test_a_stream_is_cut_after_n_chunks(azure: AzureEmulator, ask: Ask) -> None:
    azure.faults = plan(FaultRule(cut_after_chunks=3, nth=1), FaultRule(cut_after_chunks=3, cut_clean=True))
    with pytest.raises(httpx2.RemoteProtocolError):
        ask(stream=True)
    assert len(events(ask(stream=True))) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_is_dropped_without_an_answer(azure: AzureEmulator, ask: Ask, stream: bool) -> None:
    azure.faults = plan(FaultRule(error="connection-drop", nth=1))
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        ask(stream=stream)
    assert ask(stream=stream).status_code == 200
    assert [request.status for request in azure.requests] == [None, 200]


def test_a_request_that_hangs_ends_with_the_clients_patience(azure: AzureEmulator, http: Any) -> None:
    azure.faults = plan(FaultRule(hang=True, nth=1), FaultRule(stall_after_chunks=2, nth=2))
    path = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=1"
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with pytest.raises(httpx2.ReadTimeout):
        http.post(path, json=body, timeout=0.2)
    received = b""
    with http.stream("POST", path, json=body, timeout=0.5) as response:
        assert response.status_code == 200
        with pytest.raises(httpx2.ReadTimeout):  # noqa: PT012  what came before it is the point
            for piece in response.iter_raw():
                received += piece
    assert received.count(b"data: ") == 2


def test_a_hanging_request_does_not_delay_the_end() -> None:
    azure = AzureEmulator(faults=plan(FaultRule(hang=True))).start()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, azure)
        while not azure.requests:
            time.sleep(0.001)
        azure.stop()
        assert answer.result(5).status_code == 503


# ── every name ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", sorted(FAILURES))
@pytest.mark.parametrize("stream", [False, True])
def test_every_failure_can_be_asked_for_by_name(
    azure: AzureEmulator, ask: Ask, name: str, stream: bool
) -> None:
    azure.faults = plan(FaultRule(error=name, nth=1))
    response = ask(stream=stream)
    status = name.partition("-")[0]
    assert response.status_code == (int(status) if status.isdigit() else 400)
    assert "apim-request-id" in response.headers
    if name.endswith(("html", "empty", "broken-json")):
        with pytest.raises(ValueError):
            response.json()
    elif name != "404-deployment":
        assert response.headers["content-type"] == "application/json"
    assert ask(stream=stream).status_code == 200


@pytest.mark.parametrize("name", sorted(TWISTS))
@pytest.mark.parametrize("stream", [False, True])
def test_every_twist_leaves_an_answer_of_status_200(
    azure: AzureEmulator, ask: Ask, name: str, stream: bool
) -> None:
    azure.faults = plan(FaultRule(error=name))
    assert ask(stream=stream).status_code == 200


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("401-token", {"statusCode": 401}),
        ("429-apim", {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 5 seconds."}),
        ("500-apim", {"statusCode": 500, "message": "Internal server error"}),
    ],
)
def test_the_gateways_errors_have_a_status_at_the_top(
    azure: AzureEmulator, ask: Ask, name: str, expected: dict[str, Any]
) -> None:
    azure.faults = plan(FaultRule(error=name))
    body = ask().json()
    assert "error" not in body
    assert {**body, **expected} == body


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("429-2026", {"retry-after": "1", "retry-after-ms": "0"}),
        ("429-2025", {"retry-after": "45"}),
        ("429-no-retry-after", {"x-rate-limit-reset-tokens": "55"}),
        ("429-day", {"retry-after": "86400"}),
        ("429-ptu", {"retry-after": "2", "retry-after-ms": "1500"}),
        ("429-sentinels", {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-reset-tokens": "0"}),
    ],
)
def test_each_429_has_the_headers_of_its_kind(
    azure: AzureEmulator, ask: Ask, name: str, headers: dict[str, str]
) -> None:
    azure.faults = plan(FaultRule(error=name))
    told = ask().headers
    assert {key: told.get(key) for key in headers} == headers
    assert ("retry-after" in told) is ("retry-after" in headers)


def test_a_rule_may_say_how_long_a_429_asks_to_wait(azure: AzureEmulator, ask: Ask) -> None:
    azure.faults = plan(FaultRule(error="429-2025", retry_after=7))
    response = ask()
    assert response.headers["retry-after"] == "7"
    assert "retry after 7 seconds" in response.json()["error"]["message"]


def test_json_may_answer_a_request_for_a_stream(azure: AzureEmulator, ask: Ask) -> None:
    azure.faults = plan(FaultRule(error="json-for-stream"))
    response = ask(stream=True)
    assert response.headers["content-type"] == "application/json"
    assert response.json()["choices"][0]["message"]["content"] == "Hello there"


def test_a_stream_may_have_an_error_in_it(azure: AzureEmulator, ask: Ask) -> None:
    azure.faults = plan(FaultRule(error="stream-error", nth=1), FaultRule(error="content-filter-down"))
    first = events(ask(stream=True))
    assert first[-1]["error"]["type"] == "server_error"
    assert first[-2]["choices"][0]["delta"]["content"] == "Hello "
    second = events(ask(stream=True))
    assert second[-1] == {
        "error": {"code": "content_filter_error", "message": "The contents are not filtered"}
    }


def test_a_line_of_a_stream_may_be_broken(azure: AzureEmulator, ask: Ask) -> None:
    azure.faults = plan(FaultRule(error="broken-sse"))
    last = ask(stream=True).text.rpartition("\n\n")[2]
    assert last.startswith("data: {")
    with pytest.raises(ValueError):
        json.loads(last[6:])


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_may_eat_the_whole_budget(azure: AzureEmulator, sdk: AzureOpenAI, stream: bool) -> None:
    azure.faults = plan(FaultRule(error="empty-length"))
    messages: Any = [{"role": "user", "content": "Hello there"}]
    if not stream:
        answer = sdk.chat.completions.create(model=DEPLOYMENT, messages=messages)
        assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("", "length")
        assert answer.usage
        assert answer.usage.completion_tokens_details
        assert answer.usage.completion_tokens_details.reasoning_tokens == answer.usage.completion_tokens > 0
        return
    chunks = list(sdk.chat.completions.create(model=DEPLOYMENT, messages=messages, stream=True))
    assert not any(choice.delta.content for chunk in chunks for choice in chunk.choices)
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("name", ["stream-error", "content-filter-down", "broken-sse"])
def test_a_stream_of_tool_calls_alone_is_spoiled_too(azure: AzureEmulator, ask: Ask, name: str) -> None:
    def look(request: ScriptedRequest) -> Any:
        return call("look", at="the sky")

    azure.engine = ScriptedProvider(look)
    azure.faults = plan(FaultRule(error=name))
    tools = [{"type": "function", "function": {"name": "look"}}]
    text = ask(stream=True, tools=tools).text
    assert "[DONE]" not in text
    assert '"finish_reason":"tool_calls"' not in text
