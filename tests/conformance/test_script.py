"""Scripts: what a fake service is told, and how it plays that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py import Message, ToolSpec
from loom_py.conformance import FAILURES, FEATURES, Answer, Call, Failure, Playback, Script

USER = [Message.user("Hello")]


@given(
    st.builds(
        Failure,
        st.sampled_from(sorted(FAILURES)),
        retry_after=st.none() | st.floats(0, 1e6),
        after_text=st.text(),
        echo_secret=st.booleans(),
    )
)
def test_a_failure_is_read_back_from_its_canonical_name(failure: Failure) -> None:
    assert Failure.parse(str(failure)) == failure


def test_a_canonical_name_shows_only_what_is_set() -> None:
    assert str(Failure("rate_limited", retry_after=2)) == "rate_limited(retry_after=2)"
    assert str(Failure("server_error")) == "server_error"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nonsense",
        "rate_limited(2)",
        "rate_limited(wait=2)",
        "cut_stream(after_text=",
        "timeout()x",
        "x(**y)",
    ],
)
def test_text_that_names_no_failure_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="failure"):
        Failure.parse(name)


def test_every_failure_is_a_feature_an_adapter_may_lack() -> None:
    assert set(FAILURES) <= set(FEATURES)


def test_answers_come_in_order_and_the_last_is_repeated() -> None:
    playback = Playback(Script((Answer("one"), Answer("two"))))
    assert [playback.answer(USER).text for _ in range(4)] == ["one", "two", "two", "two"]
    assert len(playback.requests) == 4


def test_a_prompt_of_its_own_wins_over_the_order() -> None:
    playback = Playback(Script((Answer("else"),), by_prompt={"Hello": Answer("Hi")}))
    assert playback.answer(USER).text == "Hi"
    assert playback.answer([Message.user("Bye")]).text == "else"


def test_an_unforeseen_prompt_is_told() -> None:
    playback = Playback(Script(by_prompt={"Bye": Answer("Bye")}))
    with pytest.raises(LookupError, match="no answer to 'Hello'"):
        playback.answer(USER)


def test_a_numbered_tool_has_the_name_the_provider_gave_it() -> None:
    playback = Playback(Script((Answer(calls=(Call(1), Call("made_up"))),)))
    calls = playback.answer(USER, [ToolSpec("a"), ToolSpec("b_on_the_wire")]).calls
    assert [call.name for call in calls] == ["b_on_the_wire", "made_up"]


def test_a_numbered_tool_that_is_not_offered_is_told() -> None:
    with pytest.raises(LookupError, match="tool 1, but the request has 1"):
        Playback(Script((Answer(calls=(Call(1),)),))).answer(USER, [ToolSpec("a")])


def test_the_name_of_a_numbered_tool_is_unknown_before_a_request() -> None:
    with pytest.raises(LookupError, match="tool 0 is not known"):
        Call(0).to_tool_call()


def test_pieces_must_make_the_text() -> None:
    with pytest.raises(ValueError, match="the pieces make 'ab'"):
        Answer("abc", pieces=("a", "b"))
    assert Answer("one two").pieces == ("one ", "two")


def test_the_finish_reason_follows_from_the_calls() -> None:
    assert Answer("x").finish_reason == "stop"
    assert Answer("x", calls=(Call("t"),)).finish_reason == "tool_calls"
    assert Answer("x", finish_reason="length").finish_reason == "length"


def test_a_script_without_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        Script()
