"""Tokens before a call is made: what a quota counts, and what the call may cost at most."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import timeit
from collections import UserDict
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_py.emulator.conversations import Conversations
from loom_py.emulator.decode import decode_request, parse_body
from loom_py.emulator.quotas import estimated_tokens
from loom_py.emulator.responses_decode import decode_responses_request
from loom_py.llm.azure.responses_request import encode_responses_request
from loom_py.llm.azure.wire import encode_json, encode_request
from loom_py.llm.estimates import estimate_tokens, estimate_usage, worst_input_tokens
from loom_py.llm.tokenizers import encoding_of, exact_counter
from loom_py.messages import ImagePart, Message, TextPart, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

SEARCH = ToolSpec("search", "Finds pages.", {"type": "object", "properties": {"q": {"type": "string"}}})
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)

texts = st.text(st.characters(codec="utf-8"), max_size=40)
images = st.builds(ImagePart, data=st.just(PNG), detail=st.sampled_from(["auto", "low", "high"]))
parts = st.lists(st.builds(TextPart, texts) | images, min_size=1, max_size=3)
calls = st.builds(
    ToolCall, st.uuids().map(str), st.sampled_from(["search", "x"]), st.dictionaries(texts, texts, max_size=2)
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    messages = [Message.system(draw(texts)) for _ in range(draw(st.integers(0, 3)))]
    for _ in range(draw(st.integers(1, 4))):
        messages.append(Message.user(draw(texts | parts)))
        asked = draw(st.lists(calls, max_size=2, unique_by=lambda call: call.id))
        messages.append(Message.assistant(draw(texts), asked))
        messages += [Message.tool(draw(texts | parts), call.id, draw(st.none() | texts)) for call in asked]
    return messages


# ── what a quota counts ──────────────────────────────────────────────────────────────────


@settings(deadline=None)  # encodings and schemas are loaded once
@given(conversations(), st.none() | st.integers(16, 5000))
def test_an_estimate_is_never_below_what_the_server_counts(
    messages: list[Message], max_tokens: int | None
) -> None:
    estimate = estimate_tokens(messages, (), max_tokens)
    options = ChatOptions(max_tokens=max_tokens)
    chat = decode_request(parse_body(encode_json(encode_request(messages, options=options, deployment="d"))))
    assert estimate >= estimated_tokens(chat)
    body = parse_body(encode_json(encode_responses_request(messages, options=options, deployment="d")))
    assert estimate >= estimated_tokens(decode_responses_request(body, Conversations()))


def test_text_counts_a_quarter_of_its_characters_and_the_limit_of_the_reply_in_full() -> None:
    assert estimate_tokens([Message.user("x" * 400)], (), 100) == 200
    assert estimate_tokens([Message.user("x" * 401)], (), None) == 101


def test_tools_and_images_count() -> None:
    bare = estimate_tokens([Message.user("hi")], (), None)
    schema = json.dumps(SEARCH.parameters)
    assert estimate_tokens([Message.user("hi")], [SEARCH], None) - bare == pytest.approx(
        len(schema) / 4, abs=6
    )
    low, high = (
        estimate_tokens([Message.user([TextPart("hi"), ImagePart(data=PNG, detail=detail)])], (), None)
        for detail in ("low", "high")
    )
    assert (low - bare, high - bare) == (85, 765)


def test_a_schema_is_written_down_once_however_often_it_is_counted() -> None:
    class Schema(UserDict[str, Any]):
        reads = 0

        def __iter__(self) -> Iterator[str]:
            Schema.reads += 1
            return super().__iter__()

    tool = ToolSpec("t", "", Schema(type="object"))
    first = estimate_tokens([], [tool], None)
    assert [estimate_tokens([], [tool], None) for _ in range(5)] == [first] * 5
    assert worst_input_tokens([], [tool]) > first
    assert Schema.reads == 1


def test_a_tool_made_anew_is_not_mistaken_for_one_that_is_gone() -> None:
    sizes = [
        estimate_tokens([], [ToolSpec("t", "x" * 4 * number)], None) for number in range(50)
    ]  # each is freed before the next is made
    assert sizes == list(range(sizes[0], sizes[0] + 50))


def test_a_long_history_costs_little_to_estimate() -> None:
    history = [Message.system("be kind")] + [Message.user("hello " * 20), Message.assistant("fine")] * 1000
    best = min(timeit.repeat(lambda: estimate_tokens(history, [SEARCH], 100), number=5, repeat=5)) / 5
    assert best / len(history) < 2e-6  # about 0.05 µs where nothing else runs


# ── what a call may cost at most ─────────────────────────────────────────────────────────


@settings(deadline=None)  # encodings and schemas are loaded once
@given(conversations())
def test_the_bound_is_above_every_token_of_the_conversation(messages: list[Message]) -> None:
    count = exact_counter("gpt-4o")
    assert count is not None
    tokens = sum(
        3
        + count(message.text)
        + sum(count(call.name) + count(call.arguments_json) for call in message.tool_calls)
        for message in messages
    )
    exact = worst_input_tokens(messages, [SEARCH], count=count)
    assert tokens < exact <= worst_input_tokens(messages, [SEARCH])


def test_the_bound_counts_bytes_not_characters() -> None:
    narrow, wide = (worst_input_tokens([Message.user(text * 100)], ()) for text in ("a", "漢"))
    assert wide - narrow == 200
    assert worst_input_tokens([Message.user("\ud800")], ()) - worst_input_tokens([Message.user("")], ()) == 3


def test_the_bound_is_above_the_published_count_of_a_conversation() -> None:
    # the formula of "How to count tokens" in OpenAI's cookbook, which it checks against billed calls
    messages = [
        Message.system("You are a helpful, pattern-following assistant that translates corporate jargon."),
        Message("system", "New synergies will help drive top-line growth.", name="example_user"),
        Message("system", "Things working well together will increase revenue.", name="example_assistant"),
    ]
    count = exact_counter("gpt-4o")
    assert count is not None
    billed = 3 + sum(3 + 1 + count(message.text) + (2 if message.name else 0) for message in messages)
    assert billed < worst_input_tokens(messages, (), count=count) < worst_input_tokens(messages, ())


def test_an_image_costs_what_the_largest_would() -> None:
    def bound(detail: Any, model: str | None = None) -> int:
        message = Message.user([ImagePart.from_url("https://x.invalid/a.png", detail=detail)])
        return worst_input_tokens([message], (), model=model) - worst_input_tokens(
            [Message.user([TextPart("")])], ()
        )

    assert bound("high") == bound("auto") == 2833 + 8 * 5667
    assert bound("low") >= 2833
    assert bound("high", "gpt-4o-2024-08-06") == 85 + 8 * 170
    assert bound("high", "gpt-4o-mini") == bound("high", "gpt-5-nano") == bound("high")


def test_what_else_the_model_reads_counts_too() -> None:
    bare = worst_input_tokens([Message.assistant("ok")], ())
    reasoning = Message("assistant", "ok", provider_data={"reasoning": [{"encrypted_content": "x" * 500}]})
    assert worst_input_tokens([reasoning], ()) >= bare + 500
    named = Message("assistant", "ok", name="n" * 50)
    assert worst_input_tokens([named], ()) >= bare + 50
    form = {"type": "json_schema", "json_schema": {"name": "x" * 300}}
    assert worst_input_tokens([Message.assistant("ok")], (), response_format=form) >= bare + 300
    asked = Message.assistant("ok", [ToolCall.parse("c" * 10, "t" * 20, "{" + " " * 98 + "}")])
    assert worst_input_tokens([asked], ()) >= bare + 130


def test_usage_is_still_estimated_for_models_that_count_nothing() -> None:
    usage = estimate_usage([Message.user("x" * 40)], (), Message.assistant("y" * 8))
    assert usage == TokenUsage(10, 2)


# ── exact counts ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o", "o200k_base"),
        ("gpt-4.1-mini", "o200k_base"),
        ("gpt-5.2-2025-12-11", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("my-gpt-4o-prod", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-0613", "cl100k_base"),
        ("gpt-4-turbo-2024-04-09", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("prod-chat", None),
        ("demo1", None),
        ("", None),
    ],
)
def test_a_model_reads_text_with_its_own_encoding(model: str, encoding: str | None) -> None:
    assert encoding_of(model) == encoding


def test_tokens_are_counted_exactly() -> None:
    modern, older = exact_counter("gpt-4o"), exact_counter("gpt-4")
    assert modern is not None
    assert older is not None
    # the examples of OpenAI's cookbook, "How to count tokens with tiktoken"
    assert (older("antidisestablishmentarianism"), modern("antidisestablishmentarianism")) == (6, 6)
    assert (older("お誕生日おめでとう"), modern("お誕生日おめでとう")) == (9, 8)
    assert (older("2 + 2 = 4"), modern("2 + 2 = 4")) == (7, 7)
    assert modern("<|im_start|>") > 1
    assert modern("\ud800") == modern("?")


def test_a_model_of_unknown_encoding_has_no_counter() -> None:
    assert exact_counter("prod-chat") is None


def test_an_exact_estimate_counts_tokens_and_the_limit() -> None:
    count = exact_counter("gpt-4o")
    assert count is not None
    text = "antidisestablishmentarianism " * 10
    assert estimate_tokens([Message.user(text)], (), 50, count=count) == 50 + 4 + count(text)
    with_tool = estimate_tokens([Message.user(text)], [SEARCH], 50, count=count)
    assert with_tool > 54 + count(text)
    assert math.isclose(with_tool, 54 + count(text) + count(json.dumps(SEARCH.parameters)), abs_tol=10)


def test_without_the_extra_an_exact_count_says_what_to_install() -> None:
    program = (
        "import sys\nsys.modules['toktok'] = None\n"
        "from loom_py.errors import MissingDependencyError\n"
        "from loom_py.llm.tokenizers import exact_counter, is_installed\n"
        "assert not is_installed()\n"
        "try:\n    exact_counter('gpt-4o')\nexcept MissingDependencyError as error:\n    print(error.hint)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "loom-py[tokens]" in ran.stdout
