"""Conversations as the Messages API takes them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loom_anthropic.emulator.blocks import check_messages
from loom_anthropic.history import encode_history, lacks_thinking, legal_id
from loom_anthropic.raw_json import dumps, loads
from loom_py.messages import ImagePart, Message, TextPart, ToolCall

OSLO = ToolCall("call_1", "weather", {"city": "Oslo"})
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "sig"}


def turns(*messages: Message, model: str = "m", carries: bool = True) -> list[dict[str, Any]]:
    encoded: list[dict[str, Any]] = json.loads(
        dumps(encode_history(messages, model=model, carries=carries)[1])
    )
    return encoded


def thinking_reply(text: str = "", calls: tuple[ToolCall, ...] = (OSLO,), model: str = "m") -> Message:
    entries: list[dict[str, Any]] = [THOUGHT]
    entries += [{"type": "text", "characters": len(text)}] if text else []
    entries += [{"type": "tool_use", "id": call.id} for call in calls]
    return Message(
        "assistant", text, calls, provider_data={"anthropic": {"model": model, "content": entries}}
    )


def test_system_messages_become_the_blocks_of_the_system_prompt() -> None:
    system, rest = encode_history(
        [Message.system("Be brief."), Message.user("Hi"), Message.system("And kind.")]
    )
    assert system == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "And kind."}]
    assert [turn["role"] for turn in rest] == ["user"]


def test_neighbours_of_one_role_become_one_turn() -> None:
    encoded = turns(Message.user("One"), Message.user("Two"), Message.assistant("A"), Message.assistant("B"))
    assert [(turn["role"], len(turn["content"])) for turn in encoded] == [("user", 2), ("assistant", 2)]


def test_a_conversation_that_begins_with_the_assistant_gets_a_first_turn() -> None:
    assert [turn["role"] for turn in turns(Message.assistant("Hello!"), Message.user("Hi"))] == [
        "user",
        "assistant",
        "user",
    ]


def test_results_of_one_reply_stand_together_before_the_users_text() -> None:
    rome = ToolCall("call_2", "weather", {"city": "Rome"})
    encoded = turns(
        Message.user("Rain?"),
        Message.assistant("", [OSLO, rome]),
        Message.tool("wet", "call_1"),
        Message.user("Quickly!"),
        Message.tool("dry", "call_2"),
    )
    last = encoded[-1]["content"]
    assert [block["type"] for block in last] == ["tool_result", "tool_result", "text"]
    assert [block["tool_use_id"] for block in last[:2]] == ["call_1", "call_2"]


def test_a_failed_tool_says_so_and_a_good_one_does_not() -> None:
    asked = [Message.user("?"), Message.assistant("", [OSLO])]
    failed = turns(*asked, Message.tool("Error (tool_timeout): too slow", "call_1"))[-1]["content"][0]
    good = turns(*asked, Message.tool("Errors are rare", "call_1"))[-1]["content"][0]
    assert failed["is_error"] is True
    assert "is_error" not in good


def test_an_empty_result_has_no_content_and_images_are_blocks() -> None:
    asked = [Message.user("?"), Message.assistant("", [OSLO])]
    assert "content" not in turns(*asked, Message.tool("", "call_1"))[-1]["content"][0]
    picture = ImagePart(data=b"png", media_type="image/png")
    shown = turns(*asked, Message.tool([TextPart("See"), picture], "call_1"))[-1]["content"][0]["content"]
    assert [block["type"] for block in shown] == ["text", "image"]


def test_images_travel_as_base64_or_by_url() -> None:
    parts = [
        ImagePart.from_url("https://example.com/cat.png"),
        ImagePart.from_url("data:image/png;base64,cG5n"),
        ImagePart(data=b"png", media_type="image/png"),
    ]
    sources = [block["source"] for block in turns(Message.user(parts))[0]["content"]]
    assert sources[0] == {"type": "url", "url": "https://example.com/cat.png"}
    assert sources[1] == sources[2] == {"type": "base64", "media_type": "image/png", "data": "cG5n"}


def test_ids_of_other_providers_become_legal_and_stay_apart() -> None:
    assert legal_id("toolu_01-Ab") == "toolu_01-Ab"
    odd = {"call.1", "call:1", "call 1", "", "größe", "\ud800"}
    legal = {legal_id(call_id) for call_id in odd}
    assert len(legal) == len(odd)
    assert all(call_id.isascii() and call_id.replace("_", "").isalnum() for call_id in legal)


def test_ids_that_a_provider_counts_anew_in_each_reply_are_told_apart() -> None:
    encoded = turns(
        Message.user("?"),
        Message.assistant("", [OSLO]),
        Message.tool("wet", "call_1"),
        Message.assistant("", [OSLO]),
        Message.tool("dry", "call_1"),
    )
    check_messages(encoded)
    assert encoded[1]["content"][0]["id"] != encoded[3]["content"][0]["id"]
    assert encoded[4]["content"][0]["tool_use_id"] == encoded[3]["content"][0]["id"]


def test_two_calls_of_one_reply_with_one_id_keep_their_own_results() -> None:
    calls = [ToolCall("x", "weather", {"city": "Oslo"}), ToolCall("x", "weather", {"city": "Bergen"})]
    results = [Message.tool("dry", "x"), Message.tool("wet", "x")]
    said = turns(Message.user("?"), Message.assistant("", calls), *results)
    asked = [block["id"] for block in said[1]["content"]]
    assert len(set(asked)) == 2
    assert [(block["tool_use_id"], block["content"]) for block in said[2]["content"]] == [
        (asked[0], "dry"),
        (asked[1], "wet"),
    ]


def test_numbers_that_json_does_not_have_are_shown_as_the_text_they_were() -> None:
    call = ToolCall.parse("1", "f", '{"x": NaN}')
    said = turns(Message.user("?"), Message.assistant("", [call]), Message.tool("a", "1"))
    assert said[1]["content"][0]["input"] == {"INVALID_JSON": '{"x": NaN}'}
    made = ToolCall("1", "f", {"x": float("inf")})
    said = turns(Message.user("?"), Message.assistant("", [made]), Message.tool("a", "1"))
    assert said[1]["content"][0]["input"] == {"INVALID_JSON": '{"x": Infinity}'}


def test_the_models_own_arguments_go_back_byte_for_byte() -> None:
    call = ToolCall.parse("call_1", "weather", '{ "city":"Oslo",  "n": 1.0 }')
    sent = dumps(encode_history([Message.user("?"), Message.assistant("", [call])])[1])
    assert b'"input":{ "city":"Oslo",  "n": 1.0 }' in sent


def test_text_that_looks_like_a_stand_in_stays_as_it_is() -> None:
    call = ToolCall.parse("call_1", "weather", '{"a": "0123456789abcdef:0"}')
    sent = json.loads(
        dumps({"x": "0123456789abcdef:0", "m": encode_history([Message.assistant("", [call])])[1]})
    )
    assert sent["x"] == "0123456789abcdef:0"


def test_arguments_that_were_no_object_are_shown_to_the_model_as_what_they_were() -> None:
    call = ToolCall.parse("call_1", "weather", '{"city": "Os')
    block = turns(Message.user("?"), Message.assistant("", [call]))[1]["content"][0]
    assert block["input"] == {"INVALID_JSON": '{"city": "Os'}


def test_white_space_alone_is_no_block() -> None:
    encoded = turns(Message.user("  "), Message.assistant(" \n"), Message.user("Hi"))
    check_messages(encoded)
    assert [turn["role"] for turn in encoded] == ["user"]


def test_thinking_goes_back_before_the_call_it_led_to() -> None:
    encoded = turns(Message.user("?"), thinking_reply("Let me see."), Message.tool("wet", "call_1"))
    assert [block["type"] for block in encoded[1]["content"]] == ["thinking", "text", "tool_use"]
    assert encoded[1]["content"][0] == THOUGHT


def test_thinking_of_another_model_or_unwanted_stays_away() -> None:
    for reply, carries in ((thinking_reply(model="other"), True), (thinking_reply(), False)):
        encoded = turns(Message.user("?"), reply, Message.tool("wet", "call_1"), carries=carries)
        assert [block["type"] for block in encoded[1]["content"]] == ["tool_use"]


def test_a_reply_that_was_edited_keeps_its_thinking_and_loses_its_order() -> None:
    reply = thinking_reply("Let me see.")
    edited = Message("assistant", "Hm.", reply.tool_calls, provider_data=reply.provider_data)
    blocks = turns(Message.user("?"), edited, Message.tool("wet", "call_1"))[1]["content"]
    assert [block.get("text", block["type"]) for block in blocks] == ["thinking", "Hm.", "tool_use"]


def test_thinking_that_leads_to_nothing_any_more_is_left_out() -> None:
    reply = Message("assistant", "", (), provider_data=thinking_reply(calls=()).provider_data)
    assert [turn["role"] for turn in turns(Message.user("?"), reply, Message.user("And?"))] == ["user"]


def test_provider_data_that_nobody_knows_is_passed_over() -> None:
    for data in (
        {"anthropic": 3},
        {"anthropic": {"model": "m", "content": [1, {"type": []}, {"type": "text"}]}},
    ):
        reply = Message("assistant", "Hi", provider_data=data)
        assert turns(Message.user("?"), reply)[1]["content"] == [{"type": "text", "text": "Hi"}]


def test_a_turn_that_another_provider_began_lacks_thinking() -> None:
    foreign = [Message.user("?"), Message.assistant("", [OSLO]), Message.tool("wet", "call_1")]
    own = [Message.user("?"), thinking_reply(), Message.tool("wet", "call_1")]
    assert lacks_thinking(foreign, "m")
    assert not lacks_thinking(own, "m")
    assert not lacks_thinking([*foreign, Message.assistant("Wet."), Message.user("Thanks")], "m")


texts = st.text(max_size=8)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Any conversation an agent may have had, whichever provider its ids are from."""
    messages = []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(["system", "user", "assistant", "tools"]))
        if kind == "tools":
            names = draw(st.lists(texts, max_size=3, unique=True))
            calls = [ToolCall(name, draw(texts), {"a": 1}) for name in names]
            messages.append(Message.assistant(draw(texts), calls))
            messages += [Message.tool(draw(texts), call.id) for call in draw(st.permutations(calls))]
        else:
            messages.append(Message(kind, draw(texts)))  # type: ignore[arg-type]
    return [*messages, Message.user("Well?")]


@given(conversations())
def test_every_conversation_becomes_one_that_the_api_takes(messages: list[Message]) -> None:
    encoded = loads(dumps(encode_history(messages)[1]))
    check_messages(encoded)
