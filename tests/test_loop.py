"""The loop alone: no model, no tool, no network, only steps and outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.errors import ConfigError, LimitExceededError, LoomError, ServiceUnavailableError
from loom_py.loop import AgentRun, AskModel, Limits, RunTools
from loom_py.messages import Message, Response, TokenUsage, ToolCall, ToolResult

HISTORY = (Message.system("Be brief."), Message.user("How many?"))


def calls(count: int) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(f"c{number}", "count", {"n": number}) for number in range(count))


def asks(count: int = 1) -> Response:
    return Response("", TokenUsage(10, 2), Decimal("0.5"), calls(count), "tool_calls")


def says(text: str) -> Response:
    return Response(text, TokenUsage(10, 2), Decimal("0.5"), model="m-1", metadata={"request_id": "r-9"})


def drive(run: AgentRun, reply: Callable[[AskModel], Response]) -> list[AskModel | RunTools]:
    """Run to the end; tools answer "ok". The steps that were asked for."""
    steps: list[AskModel | RunTools] = []
    try:
        step = run.begin()
        while step is not None:
            steps.append(step)
            if isinstance(step, AskModel):
                step = run.send(reply(step))
            else:
                step = run.send([ToolResult(call.id, call.name, "ok") for call in step.calls])
    except LoomError as error:
        run.account(error)
        raise
    return steps


def scripted(*replies: Response) -> Callable[[AskModel], Response]:
    left = list(replies)
    return lambda _: left.pop(0)


def finished(run: AgentRun) -> Response:
    assert run.response is not None
    return run.response


def test_the_default_limits_are_25_turns_50_executions_and_10_calls_of_one_reply() -> None:
    limits = Limits()
    assert (limits.max_turns, limits.max_tool_executions, limits.max_tool_calls_per_reply) == (25, 50, 10)
    assert limits.on_limit == "answer"


@pytest.mark.parametrize("name", ["max_turns", "max_tool_executions", "max_tool_calls_per_reply"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, None])
def test_a_limit_that_is_no_whole_number_above_0_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        Limits(**{name: value})  # type: ignore[arg-type]
    assert caught.value.field == name


def test_an_unknown_way_to_meet_a_limit_is_refused() -> None:
    with pytest.raises(ConfigError, match="on_limit"):
        Limits(on_limit="explode")  # type: ignore[arg-type]


def test_a_plain_answer_takes_one_turn() -> None:
    run = AgentRun(HISTORY)
    steps = drive(run, scripted(says("42")))
    assert steps == [AskModel(HISTORY, with_tools=True)]
    assert finished(run).message == "42"
    assert finished(run).metadata == {"request_id": "r-9", "turns": 1, "tool_executions": 0}
    assert run.messages == [Message.assistant("42")]


def test_tool_results_go_back_to_the_model_behind_the_reply_that_asked() -> None:
    run = AgentRun(HISTORY)
    steps = drive(run, scripted(asks(2), says("2")))
    assert steps[1] == RunTools(calls(2))
    last = steps[2]
    assert isinstance(last, AskModel)
    assert last.messages == (
        *HISTORY,
        Message.assistant("", calls(2)),
        Message.tool("ok", "c0", "count"),
        Message.tool("ok", "c1", "count"),
    )
    assert finished(run).tool_calls == calls(2)
    assert [result.call_id for result in finished(run).tool_results] == ["c0", "c1"]


def test_five_turns_of_nothing_but_tool_calls_end_with_a_sixth_without_tools() -> None:
    run = AgentRun(HISTORY, Limits(max_turns=5))
    steps = drive(run, lambda step: asks() if step.with_tools else says("so far"))
    models = [step for step in steps if isinstance(step, AskModel)]
    assert [step.with_tools for step in models] == [True] * 5 + [False]
    assert models[-1].messages[-1].role == "user"
    response = finished(run)
    assert (response.message, response.metadata["turns"]) == ("so far", 6)
    assert response.metadata["max_turns_hit"] is True
    assert response.metadata["synthesized"] is True
    assert response.tokens_used == TokenUsage(60, 12)


def test_by_default_25_turns_and_then_a_last_one() -> None:
    run = AgentRun(HISTORY)
    drive(run, lambda step: asks() if step.with_tools else says("done"))
    assert finished(run).metadata["turns"] == 26


def test_three_executions_are_run_of_five_calls_and_two_are_answered_all_the_same() -> None:
    run = AgentRun(HISTORY, Limits(max_tool_executions=3))
    steps = drive(run, lambda step: asks(5) if step.with_tools else says("three"))
    assert [len(step.calls) for step in steps if isinstance(step, RunTools)] == [3]
    response = finished(run)
    assert response.metadata["tool_executions"] == len(response.tool_calls) == 3
    assert response.metadata["max_tool_executions_hit"] is True
    answered = [message.tool_call_id for message in run.messages if message.role == "tool"]
    assert answered == ["c0", "c1", "c2", "c3", "c4"]


def test_of_ten_calls_in_one_reply_three_run_and_seven_hear_of_the_limit() -> None:
    run = AgentRun(HISTORY, Limits(max_tool_calls_per_reply=3))
    drive(run, scripted(asks(10), says("three")))
    refused = [
        message for message in run.messages if message.role == "tool" and "limit_reached" in message.text
    ]
    assert len(refused) == 7
    assert finished(run).metadata["tool_executions"] == 3
    assert "max_turns_hit" not in finished(run).metadata


def test_an_eleventh_call_of_one_reply_is_not_run_by_default() -> None:
    run = AgentRun(HISTORY)
    steps = drive(run, scripted(asks(11), says("ten")))
    assert [len(step.calls) for step in steps if isinstance(step, RunTools)] == [10]


def test_fifty_executions_are_the_most_by_default() -> None:
    run = AgentRun(HISTORY)
    drive(run, lambda step: asks(8) if step.with_tools else says("enough"))
    assert finished(run).metadata["tool_executions"] == 50


def test_reaching_a_limit_exactly_with_an_answer_is_not_hitting_it() -> None:
    run = AgentRun(HISTORY, Limits(max_turns=2))
    drive(run, scripted(asks(), says("just so")))
    assert finished(run).metadata == {"request_id": "r-9", "turns": 2, "tool_executions": 1}


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(max_turns=2, on_limit="raise"), "max_turns = 2"),
        (Limits(max_tool_executions=2, on_limit="raise"), "max_tool_executions = 2"),
    ],
)
def test_on_limit_raise_raises_with_what_was_spent(limits: Limits, name: str) -> None:
    run = AgentRun(HISTORY, limits)
    with pytest.raises(LimitExceededError, match=name) as caught:
        drive(run, lambda _: asks())
    assert caught.value.tokens_used == TokenUsage(20, 4)
    assert caught.value.cost_usd == Decimal("1.0")
    assert run.response is None


# ── empty replies ────────────────────────────────────────────────────────────────────────


def test_an_empty_reply_is_asked_again_once() -> None:
    run = AgentRun(HISTORY)
    steps = drive(run, scripted(asks(), says(" \n"), says("The answer is 2.")))
    last = steps[-1]
    assert isinstance(last, AskModel)
    assert last.messages[-1].role == "user"
    assert last.messages[-1] not in HISTORY
    response = finished(run)
    assert response.message == "The answer is 2."
    assert response.metadata["empty_retried"] is True
    assert response.tokens_used == TokenUsage(30, 6)


def test_the_nudge_is_not_kept_in_the_conversation() -> None:
    run = AgentRun(HISTORY)
    drive(run, scripted(says(""), says("Yes.")))
    assert run.messages == [Message.assistant("Yes.")]


def test_two_empty_replies_end_with_a_count_of_what_was_done() -> None:
    run = AgentRun(HISTORY)
    drive(run, scripted(asks(2), says(""), says("")))
    assert finished(run).message == "Completed 2 tool executions across 3 turns."
    assert run.messages[-1] == Message.assistant("Completed 2 tool executions across 3 turns.")


def test_the_model_is_nudged_once_in_a_chat_even_with_tools_between() -> None:
    run = AgentRun(HISTORY)
    steps = drive(run, scripted(says(""), asks(), says("")))
    assert len(steps) == 4
    assert finished(run).message == "Completed 1 tool executions across 3 turns."


def test_an_empty_last_answer_at_a_limit_is_filled_in_too() -> None:
    run = AgentRun(HISTORY, Limits(max_turns=1))
    drive(run, lambda step: asks() if step.with_tools else says(""))
    assert finished(run).message == "Completed 1 tool executions across 2 turns."


def test_what_a_provider_needs_to_see_again_stays_with_its_replies() -> None:
    thought: dict[str, object] = {"reasoning": "encrypted"}
    run = AgentRun(HISTORY)
    asked = Response("", tool_calls=calls(1), provider_data={**thought, "turn": 1})
    steps = drive(run, scripted(asked, Response("done", provider_data={**thought, "turn": 2})))
    second = steps[-1]
    assert isinstance(second, AskModel)
    assert second.messages[2].provider_data == {"reasoning": "encrypted", "turn": 1}
    assert run.messages[-1].provider_data == {"reasoning": "encrypted", "turn": 2}


# ── sums ─────────────────────────────────────────────────────────────────────────────────

USAGES = st.builds(TokenUsage, *[st.integers(0, 10**6)] * 5)
COSTS = st.one_of(st.none(), st.decimals(0, 100, places=7))


@given(st.lists(st.tuples(USAGES, COSTS), min_size=1, max_size=8))
def test_usage_and_cost_are_sums_over_every_call_and_unknown_if_any_part_is(
    spent: Sequence[tuple[TokenUsage, Decimal | None]],
) -> None:
    replies = [Response("", usage, cost, calls(1)) for usage, cost in spent[:-1]]
    replies.append(Response("end", *spent[-1]))
    run = AgentRun(HISTORY)
    drive(run, scripted(*replies))
    costs = [cost for _, cost in spent]
    assert finished(run).tokens_used == sum((usage for usage, _ in spent), TokenUsage())
    known = [cost for cost in costs if cost is not None]
    assert finished(run).cost_usd == (sum(known) if len(known) == len(costs) else None)


@pytest.mark.parametrize(
    ("error", "tokens", "cost"),
    [
        (ServiceUnavailableError("down"), TokenUsage(10, 2), Decimal("0.5")),
        (
            ServiceUnavailableError("cut", tokens_used=TokenUsage(3, 1), cost_usd=Decimal("0.25")),
            TokenUsage(13, 3),
            Decimal("0.75"),
        ),
        (ServiceUnavailableError("cut", tokens_used=TokenUsage(3, 1)), TokenUsage(13, 3), None),
    ],
)
def test_an_error_in_the_middle_carries_the_spending_of_the_whole_chat(
    error: ServiceUnavailableError, tokens: TokenUsage, cost: Decimal | None
) -> None:
    run = AgentRun(HISTORY)
    step = run.begin()
    assert isinstance(step, AskModel)
    run.send(asks())
    run.account(error)
    assert (error.tokens_used, error.cost_usd) == (tokens, cost)


# ── ids ──────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.sampled_from(["", "a", "a_1", "a_2", "call", "call_1", "call_2"]), max_size=8))
def test_every_call_gets_an_id_of_its_own_and_good_ones_are_kept(ids: list[str]) -> None:
    asked = tuple(ToolCall(name, "count", {}) for name in ids)
    run = AgentRun(HISTORY)
    steps = drive(run, scripted(Response("", tool_calls=asked), says("x"), says("x")))
    made = [call.id for step in steps if isinstance(step, RunTools) for call in step.calls]
    assert len(set(made)) == len(made) == len(ids)
    assert all(made)
    assert {name for name in ids if name} <= set(made)
