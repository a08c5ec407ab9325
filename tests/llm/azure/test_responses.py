"""The Responses API's JSON, both ways; against the recorded exchanges where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_py.errors import (
    ConfigError,
    ContentFilterError,
    IncompleteResponseError,
    LoomError,
    MalformedResponseError,
    RateLimitError,
    ServiceUnavailableError,
)
from loom_py.llm.azure.errors import error_from_answer
from loom_py.llm.azure.responses import decode_responses
from loom_py.llm.azure.responses_request import NAMESPACE, encode_responses_request
from loom_py.llm.azure.schema import encode_tools
from loom_py.llm.profiles import ModelProfile, profile_for
from loom_py.messages import ImagePart, Message, Response, TextPart, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

CORPUS = Path(__file__).parents[4] / "shared" / "azure_corpus" / "exchanges"
ANSWERS = ("036", "042", "048", "076", "078", "100", "101", "102")
needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="the recorded exchanges are not on this machine"
)

REASONS = ModelProfile(reasoning=True)
SAMPLES = ModelProfile(context_window=128_000)
HELLO = Message.user("Hello")


def exchange(number: str) -> dict[str, Any]:
    (path,) = CORPUS.glob(f"{number}_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def encode(*messages: Message, profile: ModelProfile = REASONS, **facts: Any) -> dict[str, Any]:
    return encode_responses_request(messages, deployment="gpt-5", profile=profile, **facts)


def reasoning(text: str = "gAAAA", **fields: Any) -> dict[str, Any]:
    return {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": text, **fields}


def said(text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": content, **fields}


def called(call_id: str, arguments: str = "{}", **fields: Any) -> dict[str, Any]:
    item = {"id": f"fc_{call_id}", "type": "function_call", "call_id": call_id, "name": "look"}
    return {**item, "arguments": arguments, **fields}


def answer(*output: Any, **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 10, "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 5}}
    return {"status": "completed", "model": "prod", "output": list(output), "usage": usage, **fields}


def cut_off(reason: str | None, *output: Any, **fields: Any) -> dict[str, Any]:
    details = {"reason": reason}
    return answer(*output, status="incomplete", incomplete_details=details, **fields)


def filtered(source: str, *, blocked: bool = True) -> dict[str, Any]:
    verdicts = {"hate": {"filtered": blocked, "severity": "high" if blocked else "safe"}}
    return {"blocked": blocked, "source_type": source, "content_filter_results": verdicts}


# ── the recorded exchanges ───────────────────────────────────────────────────────────────


@needs_corpus
@pytest.mark.parametrize("number", ANSWERS)
def test_a_recorded_answer_gives_its_text_usage_and_verdicts(number: str) -> None:
    data = exchange(number)["response"]["json"]
    response = decode_responses(data)
    texts = [part["text"] for item in data["output"] for part in item.get("content") or []]
    assert response.message == "".join(texts) != ""
    assert response.tokens_used.input == data["usage"]["input_tokens"]
    assert response.tokens_used.output == data["usage"]["output_tokens"]
    assert response.tokens_used.reasoning == data["usage"]["output_tokens_details"]["reasoning_tokens"]
    assert response.finish_reason == "stop"
    assert response.model == data["model"]
    sources = {entry["source_type"] for entry in data["content_filters"] or []}
    assert set(response.metadata.get("content_filter", {})) == sources
    kept = response.provider_data.get(NAMESPACE, {"output": []})["output"]
    assert [item for item in kept if item["type"] == "reasoning"] == [
        item for item in data["output"] if item["type"] == "reasoning"
    ]


@needs_corpus
def test_every_recorded_responses_answer_is_read() -> None:
    found = [
        path.name[:3]
        for path in CORPUS.glob("*.json")
        if json.loads(path.read_text())["kind"][0] == "responses" and path.name[4:7] == "200"
    ]
    assert sorted(found) == list(ANSWERS)


def recorded_messages(items: list[dict[str, Any]]) -> list[Message]:
    """A recorded input as the conversation it stands for."""
    messages: list[Message] = []
    before: list[dict[str, Any]] = []
    for item in items:
        kind = item.get("type") or item["role"]
        if kind == "user":
            messages.append(Message.user(item["content"]))
        elif kind == "function_call_output":
            messages.append(Message.tool(item["output"], item["call_id"]))
        elif kind == "reasoning":
            before = [{**item, "id": "rs_1"}]
        else:
            output = before + ([item] if kind == "function_call" else [said(item["content"][0]["text"])])
            messages.append(decode_responses(answer(*output)).to_message())
    return messages


@needs_corpus
@pytest.mark.parametrize("number", ["036", "042", "048"])
def test_a_recorded_conversation_is_sent_as_it_was_recorded(number: str) -> None:
    recorded = exchange(number)["request"]["body"]
    specs = [
        ToolSpec(tool["name"], tool["description"], tool["parameters"]) for tool in recorded.get("tools", ())
    ]
    body = encode_responses_request(
        recorded_messages(recorded["input"]),
        encode_tools(specs),
        deployment=recorded["model"],
        profile=profile_for(recorded["model"]),
    )
    assert body.pop("tool_choice", "auto") == "auto"
    assert recorded.pop("stream") is False
    assert body == recorded


@needs_corpus
def test_a_recorded_429_without_any_wait_is_a_rate_limit() -> None:
    recorded = exchange("220")["response"]
    body = json.dumps(recorded["json"]).encode()
    assert isinstance(error_from_answer(429, recorded["headers"], body), RateLimitError)


# ── requests ─────────────────────────────────────────────────────────────────────────────


def test_nothing_is_stored_and_encrypted_reasoning_is_asked_for() -> None:
    assert encode(HELLO) == {
        "model": "gpt-5",
        "store": False,
        "input": [{"role": "user", "content": "Hello"}],
        "include": ["reasoning.encrypted_content"],
    }


def test_a_model_that_does_not_reason_is_not_asked_for_reasoning() -> None:
    assert "include" not in encode(HELLO, profile=SAMPLES)
    assert "include" not in encode(HELLO, profile=ModelProfile())


def test_an_unknown_model_that_has_reasoned_is_asked_for_its_reasoning() -> None:
    earlier = decode_responses(answer({"id": "rs_1", "type": "reasoning", "summary": []}, said("Hi")))
    messages = [HELLO, earlier.to_message(), HELLO]
    assert encode(*messages, profile=ModelProfile())["include"] == ["reasoning.encrypted_content"]
    assert "include" not in encode(*messages, profile=SAMPLES)


def test_system_messages_at_the_start_become_instructions() -> None:
    body = encode(Message.system("Be kind."), Message.system("Be brief."), HELLO)
    assert body["instructions"] == "Be kind.\n\nBe brief."
    assert [item["role"] for item in body["input"]] == ["user"]


def test_a_later_system_message_stays_in_its_place() -> None:
    body = encode(HELLO, Message.system("Now in French."), HELLO)
    assert "instructions" not in body
    assert body["input"][1] == {"role": "system", "content": "Now in French."}


def test_instructions_with_nothing_to_answer_are_the_input() -> None:
    body = encode(Message.system("Say hello."))
    assert "instructions" not in body
    assert body["input"] == [{"role": "system", "content": "Say hello."}]


def test_text_and_images_become_input_parts() -> None:
    image = ImagePart(data=b"\x89PNG", detail="low")
    body = encode(Message.user([TextPart("What is this?"), image]))
    assert body["input"][0]["content"] == [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw==", "detail": "low"},
    ]


def test_a_tool_result_with_an_image_keeps_it() -> None:
    result = Message("tool", (TextPart("a chart"), ImagePart(url="https://x/y.png")), tool_call_id="c1")
    (item,) = encode(result)["input"]
    assert item["call_id"] == "c1"
    assert [part["type"] for part in item["output"]] == ["input_text", "input_image"]


def test_tools_are_flat_and_say_that_they_are_not_strict() -> None:
    tools = encode_tools([ToolSpec("look up", "Looks it up")])
    body = encode_responses_request([HELLO], tools, deployment="d")
    assert body["tools"] == [
        {
            "type": "function",
            "name": "look_up",
            "description": "Looks it up",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        }
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, "auto"),
        ("none", "none"),
        ("required", "required"),
        ("look up", {"type": "function", "name": "look_up"}),
    ],
)
def test_a_tool_choice_takes_the_flat_form(choice: str | None, sent: Any) -> None:
    tools = encode_tools([ToolSpec("look up")])
    body = encode_responses_request([HELLO], tools, ChatOptions(tool_choice=choice), deployment="d")
    assert body["tool_choice"] == sent


def test_settings_take_this_apis_names() -> None:
    options = ChatOptions(
        max_tokens=100,
        temperature=0.2,
        top_p=0.9,
        reasoning_effort="low",
        user="u",
        seed=7,
        tool_choice="none",
    )
    body = encode(HELLO, options=options, profile=SAMPLES, stream=True)
    del body["input"]
    assert body == {
        "model": "gpt-5",
        "store": False,
        "max_output_tokens": 100,
        "reasoning": {"effort": "low"},
        "user": "u",
        "temperature": 0.2,
        "top_p": 0.9,
        "stream": True,
    }


def test_a_reasoning_model_gets_no_sampling_parameters() -> None:
    body = encode(HELLO, options=ChatOptions(temperature=0.2, top_p=0.9))
    assert not {"temperature", "top_p"} & set(body)


@pytest.mark.parametrize(("parallel", "sent"), [(True, {"parallel_tool_calls": False}), (False, {})])
def test_parallel_calls_are_only_mentioned_to_a_model_that_makes_them(parallel: bool, sent: Any) -> None:
    tools = encode_tools([ToolSpec("look")])
    profile = ModelProfile(parallel_tools=parallel)
    options = ChatOptions(parallel_tool_calls=False)
    body = encode_responses_request([HELLO], tools, options, deployment="d", profile=profile)
    assert {key: value for key, value in body.items() if key == "parallel_tool_calls"} == sent


def test_stop_is_refused_because_the_api_has_none() -> None:
    with pytest.raises(ConfigError) as caught:
        encode(HELLO, options=ChatOptions(stop=["END"]))
    assert caught.value.field == "stop"


def test_the_extra_body_has_the_last_word() -> None:
    assert encode(HELLO, options=ChatOptions(extra_body={"store": True}))["store"] is True


def test_arguments_go_back_byte_for_byte_and_without_item_ids() -> None:
    text = '{ "city":\t"Münch\\u0065n" }'
    call = ToolCall.parse("c1", "functions.look", text)
    items = encode(HELLO, Message.assistant("Let me see.", [call]), Message.tool("sunny", "c1"))["input"]
    assert items[1:] == [
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": text},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    ]


def test_a_call_without_any_arguments_goes_back_as_an_empty_object() -> None:
    (item,) = encode(Message.assistant("", [ToolCall("c1", "look", {}, "", "cut off")]))["input"]
    assert item["arguments"] == "{}"


# ── answers ──────────────────────────────────────────────────────────────────────────────


def test_an_answer_has_its_texts_joined_and_its_calls() -> None:
    tools = encode_tools([ToolSpec("look up")])
    asked = called("c1", '{"q": 1}', name="look_up")
    response = decode_responses(answer(said("Let me "), said("see."), asked), tools)
    assert response.message == "Let me see."
    assert response.tool_calls == (ToolCall("c1", "look up", {"q": 1}, '{"q": 1}'),)
    assert response.finish_reason == "tool_calls"
    assert response.tokens_used == TokenUsage(10, 7, reasoning=5)
    assert response.provider_data == {}


def test_a_refusal_is_the_answer_where_there_is_no_other() -> None:
    refused = said("")
    refused["content"] = [{"type": "refusal", "refusal": "I will not."}]
    response = decode_responses(answer(refused))
    assert response.message == response.metadata["refusal"] == "I will not."


def test_cached_and_written_tokens_are_parts_of_the_input() -> None:
    details = {"cached_tokens": 80, "cache_write_tokens": 15}
    usage = {"input_tokens": 100, "input_tokens_details": details, "output_tokens": 1}
    assert decode_responses(answer(said("x"), usage=usage)).tokens_used == TokenUsage(100, 1, 80, 15)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": None}, {"input_tokens_details": 3}, "many"])
def test_usage_may_be_missing_or_strange(usage: Any) -> None:
    assert decode_responses(answer(said("x"), usage=usage)).tokens_used == TokenUsage()


def test_verdicts_are_kept_by_side() -> None:
    filters = [filtered("prompt", blocked=False), filtered("completion", blocked=False)]
    response = decode_responses(answer(said("x"), content_filters=filters))
    assert response.metadata["content_filter"] == {
        "prompt": [filters[0]],
        "completion": {"hate": {"filtered": False, "severity": "safe"}},
    }


def test_a_token_limit_with_text_is_a_response_that_says_so() -> None:
    response = decode_responses(cut_off("max_output_tokens", said("Once upon")))
    assert (response.message, response.finish_reason) == ("Once upon", "length")


@pytest.mark.parametrize("reason", ["max_output_tokens", "steered", None])
def test_an_early_end_without_text_is_an_error_that_has_the_usage(reason: str | None) -> None:
    with pytest.raises(IncompleteResponseError) as caught:
        decode_responses(cut_off(reason, reasoning()))
    assert caught.value.tokens_used == TokenUsage(10, 7, reasoning=5)
    assert ("Raise max_tokens" in (caught.value.hint or "")) == (reason == "max_output_tokens")


def test_a_call_that_was_cut_off_is_never_run() -> None:
    response = decode_responses(cut_off("max_output_tokens", called("c1", "", status="incomplete")))
    assert response.tool_calls[0].error is not None
    assert response.finish_reason == "length"


def test_a_filtered_answer_has_its_text_verdicts_and_usage() -> None:
    filters = [filtered("prompt", blocked=False), filtered("completion")]
    with pytest.raises(ContentFilterError) as caught:
        decode_responses(cut_off("content_filter", said("First you"), content_filters=filters))
    error = caught.value
    assert (error.side, error.partial_text, error.filtered) == ("completion", "First you", ("hate",))
    assert error.tokens_used == TokenUsage(10, 7, reasoning=5)


def test_a_prompt_that_was_blocked_is_told_from_an_answer() -> None:
    with pytest.raises(ContentFilterError) as caught:
        decode_responses(answer(status="failed", error=None, content_filters=[filtered("prompt")]))
    assert (caught.value.side, caught.value.filtered) == ("prompt", ("hate",))


def test_a_filter_that_blocked_is_not_overruled_by_a_later_piece() -> None:
    filters = [filtered("completion"), filtered("completion", blocked=False), filtered("prompt")]
    with pytest.raises(ContentFilterError) as caught:
        decode_responses(answer(said("First you"), content_filters=filters))
    assert (caught.value.side, caught.value.filtered) == ("completion", ("hate",))


def test_a_blocked_prompt_after_text_counts_as_a_stopped_answer() -> None:
    with pytest.raises(ContentFilterError) as caught:
        decode_responses(answer(said("First you"), content_filters=[filtered("prompt")]))
    assert caught.value.side == "completion"


def test_a_failure_of_the_filter_after_text_has_the_text() -> None:
    with pytest.raises(ContentFilterError) as caught:
        decode_responses(answer(said("First you"), error={"code": "content_filter", "message": "no"}))
    assert (caught.value.side, caught.value.partial_text) == ("completion", "First you")


def test_a_completed_answer_that_the_filter_blocked_is_not_an_answer() -> None:
    with pytest.raises(ContentFilterError):
        decode_responses(answer(said("x"), content_filters=[filtered("completion")]))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": "server_error", "message": "Sorry"}, ServiceUnavailableError),
        ({"code": "rate_limit_exceeded", "message": "Slow down"}, RateLimitError),
        ({"code": "content_filter", "message": "no"}, ContentFilterError),
        ({"code": "content_policy_violation", "message": "no"}, ContentFilterError),
        ({"code": None, "message": ""}, ServiceUnavailableError),
        (None, ServiceUnavailableError),
    ],
)
def test_a_failed_response_raises_its_error_with_the_usage(error: Any, expected: type[LoomError]) -> None:
    with pytest.raises(expected) as caught:
        decode_responses(answer(status="failed", error=error))
    assert caught.value.tokens_used == TokenUsage(10, 7, reasoning=5)


@pytest.mark.parametrize("data", [None, [], "hello", {}, {"output": None}, {"statusCode": 200}])
def test_what_is_no_answer_is_malformed(data: Any) -> None:
    with pytest.raises(MalformedResponseError):
        decode_responses(data)


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled"])
def test_a_response_that_is_not_finished_is_no_answer(status: str) -> None:
    with pytest.raises(MalformedResponseError, match=status):
        decode_responses(answer(said("half"), status=status))


def test_parts_and_items_that_are_not_known_are_passed_over() -> None:
    strange = [None, 3, {"type": "web_search_call"}, {"type": ["x"]}, {"content": [{"text": "no"}]}]
    message = {"type": "message", "content": [None, {"type": "output_text", "text": None}]}
    assert decode_responses(answer(*strange, message, said("yes"))).message == "yes"


# ── several turns ────────────────────────────────────────────────────────────────────────


def next_turn(*output: Any, **facts: Any) -> list[dict[str, Any]]:
    """What a reply becomes in the next request, by way of a stored history."""
    response = Response.from_json(decode_responses(answer(*output)).to_json())
    message = Message.from_json(response.to_message().to_json())
    items: list[dict[str, Any]] = encode(HELLO, message, **facts)["input"]
    return items[1:]


def kinds(items: list[dict[str, Any]]) -> list[str]:
    return [item.get("type") or item["role"] for item in items]


def test_reasoning_goes_back_encrypted_and_without_its_id() -> None:
    summary = [{"type": "summary_text", "text": "hm"}]
    first, *_ = next_turn(reasoning("secret", summary=summary, content=[], status="completed"), said("Hi"))
    assert first == {"type": "reasoning", "encrypted_content": "secret", "summary": summary}


def test_items_keep_the_order_they_came_in() -> None:
    items = next_turn(
        reasoning("a"), said("First.", phase="commentary"), called("c1"), reasoning("b"), called("c2")
    )
    assert kinds(items) == ["reasoning", "assistant", "function_call", "reasoning", "function_call"]
    assert [item.get("encrypted_content") or item.get("call_id") for item in items] == [
        "a",
        None,
        "c1",
        "b",
        "c2",
    ]
    assert items[1]["phase"] == "commentary"


def test_two_messages_stay_two() -> None:
    items = next_turn(said("One.", phase="commentary"), said("Two.", phase="final_answer"))
    assert [(item["content"][0]["text"], item["phase"]) for item in items] == [
        ("One.", "commentary"),
        ("Two.", "final_answer"),
    ]


def test_a_message_that_was_edited_keeps_its_reasoning_first() -> None:
    message = decode_responses(answer(said("Long."), reasoning("a"), called("c1"))).to_message()
    edited = Message("assistant", "Cut", message.tool_calls, provider_data=message.provider_data)
    items = encode(HELLO, edited)["input"][1:]
    assert kinds(items) == ["reasoning", "assistant", "function_call"]
    assert items[1]["content"][0]["text"] == "Cut"


def test_reasoning_that_led_to_nothing_stays_behind() -> None:
    assert kinds(next_turn(said("Hi"), reasoning())) == ["assistant"]


def test_reasoning_without_encrypted_content_stays_behind() -> None:
    assert kinds(next_turn({"id": "rs_1", "type": "reasoning", "summary": []}, said("Hi"))) == ["assistant"]


@pytest.mark.parametrize("facts", [{"carry_reasoning": False}, {"profile": SAMPLES}])
def test_reasoning_stays_behind_where_it_cannot_be_read(facts: Any) -> None:
    assert kinds(next_turn(reasoning(), said("Hi"), called("c1"), **facts)) == ["assistant", "function_call"]


@pytest.mark.parametrize(
    "kept",
    [None, [], {"output": 3}, {"output": [None, {"type": []}, {"type": "message", "characters": "2"}]}],
)
def test_provider_data_in_no_known_form_is_passed_over(kept: Any) -> None:
    message = Message("assistant", "Hi", provider_data={NAMESPACE: kept})
    assert kinds(encode(HELLO, message)["input"]) == ["user", "assistant"]


OUTPUT = st.lists(
    st.one_of(
        st.builds(reasoning, st.text(min_size=1, max_size=5)),
        st.builds(said, st.text(max_size=5)),
        st.builds(called, st.sampled_from("abc"), st.sampled_from(["{}", ' {"a":1}', "{", ""])),
    ),
    max_size=6,
)


@given(OUTPUT)
def test_text_calls_and_reasoning_survive_the_round_trip(output: list[dict[str, Any]]) -> None:
    response = decode_responses(answer(*output))
    items = encode(HELLO, response.to_message())["input"][1:]
    texts = [item["content"][0]["text"] for item in items if item.get("role") == "assistant"]
    assert "".join(texts) == response.message
    asked = [item for item in output if item["type"] == "function_call"]
    sent = [item for item in items if item.get("type") == "function_call"]
    assert [item["call_id"] for item in sent] == [item["call_id"] for item in asked]
    assert [item["arguments"] for item in sent] == [item["arguments"] or "{}" for item in asked]
    spoken = [item for item in output if item["type"] != "message" or item["content"][0]["text"]]
    while spoken and spoken[-1]["type"] == "reasoning":
        spoken.pop()
    hidden = [item["encrypted_content"] for item in spoken if item["type"] == "reasoning"]
    assert [item["encrypted_content"] for item in items if item.get("type") == "reasoning"] == hidden


_KEYS = (
    "status error output usage model type content text refusal call_id name arguments reason blocked"
    " incomplete_details content_filters content_filter_results source_type code message filtered hate"
)
_WORDS = (
    "completed incomplete failed message function_call reasoning output_text refusal prompt"
    " content_filter max_output_tokens"
)
KEYS = st.sampled_from(_KEYS.split())
WORDS = st.sampled_from(_WORDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
ITEMS = st.dictionaries(KEYS, JSON, max_size=5)


@settings(max_examples=300)
@given(st.one_of(JSON, st.builds(lambda items, more: {"output": items, **more}, st.lists(ITEMS), ITEMS)))
def test_no_json_makes_it_raise_anything_but_our_errors(data: Any) -> None:
    try:
        response = decode_responses(data)
    except LoomError:
        return
    encode(HELLO, response.to_message())
    assert isinstance(response.message, str)


@given(JSON)
def test_no_provider_data_makes_a_request_fail(kept: Any) -> None:
    encode(Message("assistant", "Hi", provider_data={NAMESPACE: kept}))
    encode(Message("assistant", "Hi", provider_data={NAMESPACE: {"output": [kept]}}))
