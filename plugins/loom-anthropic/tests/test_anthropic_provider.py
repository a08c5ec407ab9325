"""The provider before the emulated API, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from loom_anthropic import AnthropicEmulator, AnthropicProvider
from loom_anthropic.emulator.limits import RateLimits
from loom_py.errors import (
    ConnectionFailedError,
    InvalidRequestError,
    LoomError,
    MalformedResponseError,
    RateLimitError,
    RequestTimeoutError,
    ServiceUnavailableError,
    StreamInterruptedError,
)
from loom_py.events import FinalResponse
from loom_py.llm.scripted import ScriptedProvider
from loom_py.messages import Message, Response, TokenUsage, ToolCall, ToolSpec
from loom_py.options import ChatOptions

Make = Callable[..., AnthropicProvider]

HELLO = [Message.user("Hello")]
WEATHER = ToolSpec("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


async def acall(provider: AnthropicProvider) -> Response:
    """One async call of a provider whose connections end with the event loop."""
    async with provider:
        return await provider.achat(HELLO)


def test_a_reply_says_who_wrote_it_and_what_it_cost_and_what_is_left(
    api: AnthropicEmulator, claude: Make
) -> None:
    api.engine = ScriptedProvider([Response("Hi", TokenUsage(1000, 10, cached_input=900))])
    response = claude().chat(HELLO)
    assert (response.message, response.model) == ("Hi", "claude-sonnet-4-6")
    assert response.tokens_used == TokenUsage(1000, 10, cached_input=900)
    assert response.cost_usd == Decimal("0.00072")
    assert response.metadata["cost"]["usd"] == "0.00072"
    assert response.metadata["request_id"].startswith("req_")
    assert response.metadata["limit_requests"] == "4000"
    assert response.metadata["remaining_requests"] == "3999"
    assert int(response.metadata["remaining_tokens"]) <= int(response.metadata["limit_tokens"])
    assert response.metadata["service_tier"] == "standard"


def test_nothing_of_the_environment_is_sent_unasked(
    api: AnthropicEmulator, claude: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Leak: secret\nanthropic-beta: leaked")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "another-token-123")
    monkeypatch.setenv("ANTHROPIC_PROFILE", "prod")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://elsewhere.example")
    provider = claude()
    provider.chat(HELLO)
    asyncio.run(acall(provider))
    for request in api.requests:
        assert "x-leak" not in request.headers
        assert "anthropic-beta" not in request.headers
        assert request.headers["authorization"] == "Bearer ***"
        assert request.headers["anthropic-version"] == "2026-10-21"
        assert request.headers["x-stainless-retry-count"] == "0"
    assert len(api.requests) == 2


def test_a_bearer_token_is_sent_where_there_is_no_key(api: AnthropicEmulator, claude: Make) -> None:
    assert claude(api_key=None, auth_token=api.api_key).chat(HELLO).message == "Hello"


def test_options_reach_the_request(api: AnthropicEmulator, claude: Make) -> None:
    options = ChatOptions(extra_headers={"X-Team": "ops"}, extra_body={"service_tier": "standard_only"})
    claude(betas=["a-1"]).chat(HELLO, options=options)
    request = api.requests[-1]
    assert (request.headers["x-team"], request.headers["anthropic-beta"]) == ("ops", "a-1")
    assert request.body["service_tier"] == "standard_only"


def test_a_failure_is_one_request_and_knows_its_id(api: AnthropicEmulator, claude: Make) -> None:
    api.fail_next(529)
    with pytest.raises(ServiceUnavailableError) as caught:
        claude().chat(HELLO)
    error = caught.value
    assert (error.http_status, error.retryable, error.provider_code) == (529, True, "overloaded_error")
    assert (error.request_id or "").startswith("req_")
    assert error.deployment == "claude-sonnet-4-6"
    assert len(api.requests) == 1


def test_a_used_up_quota_says_how_long_to_wait(claude: Make) -> None:
    with AnthropicEmulator(limits=RateLimits(requests=1, retry_after=17)) as tight:
        provider = claude(api_key=tight.api_key, base_url=tight.base_url)
        provider.chat(HELLO)
        with pytest.raises(RateLimitError) as caught:
            provider.chat(HELLO)
    assert (caught.value.retry_after, caught.value.kind) == (17.0, "requests")


def test_without_retry_after_the_reset_of_the_limit_counts(api: AnthropicEmulator, claude: Make) -> None:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 20))
    reset = {"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": at}
    api.fail_next(429, headers=reset)
    with pytest.raises(RateLimitError) as caught:
        claude().chat(HELLO)
    assert 15 < (caught.value.retry_after or 0) <= 20


def test_a_server_that_is_not_there_was_sent_nothing(claude: Make) -> None:
    provider = claude(base_url="http://127.0.0.1:9")
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:9") as caught:
        provider.chat(HELLO)
    assert not caught.value.sent
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:9") as caught:
        asyncio.run(acall(provider))
    assert not caught.value.sent


def test_a_slow_answer_ends_at_its_timeout(api: AnthropicEmulator, claude: Make) -> None:
    api.delay_next(5)
    begun = time.monotonic()
    with pytest.raises(RequestTimeoutError, match=r"after 0\.1 s") as caught:
        claude().chat(HELLO, options=ChatOptions(timeout=0.1))
    assert time.monotonic() - begun < 2
    assert caught.value.sent


async def test_a_total_timeout_ends_a_stream(api: AnthropicEmulator, claude: Make) -> None:
    api.delay_next(5)
    async with claude() as provider:
        with pytest.raises(RequestTimeoutError, match=r"not over after 0\.15 s"):
            async for _ in provider.astream_chat(HELLO, options=ChatOptions(total_timeout=0.15)):
                pass


def test_a_stream_that_is_cut_tells_what_had_come(api: AnthropicEmulator, claude: Make) -> None:
    api.engine = ScriptedProvider(lambda request: "one two three four")
    for clean in (False, True):
        api.cut_next_stream(after_events=5, clean=clean)
        with pytest.raises(StreamInterruptedError) as caught:
            list(claude().stream_chat(HELLO))
        assert caught.value.partial_text == "one two "
        assert caught.value.retryable


def test_an_overloaded_stream_is_interrupted(api: AnthropicEmulator, claude: Make) -> None:
    api.error_next_stream(after_events=4)
    with pytest.raises(StreamInterruptedError, match="Overloaded") as caught:
        list(claude().stream_chat(HELLO))
    assert (caught.value.partial_text, caught.value.provider_code) == ("Hello", "overloaded_error")
    api.error_next_stream(after_events=1)
    with pytest.raises(ServiceUnavailableError):
        list(claude().stream_chat(HELLO))


@pytest.mark.parametrize("body", [b"", b"<html>Sign in</html>", b'{"content": [', b"[]"])
def test_a_page_in_place_of_an_answer_is_malformed(api: AnthropicEmulator, claude: Make, body: bytes) -> None:
    api.answer_next(body=body)
    with pytest.raises(MalformedResponseError):
        claude().chat(HELLO)


def test_no_credential_shows_in_an_error_that_repeats_it(api: AnthropicEmulator, claude: Make) -> None:
    api.fail_next(401, message=f"invalid key {api.api_key}")
    with pytest.raises(LoomError) as caught:
        claude().chat(HELLO)
    assert api.api_key not in f"{caught.value!r} {caught.value} {vars(caught.value)}"


def test_the_users_own_clients_are_used_and_not_closed(api: AnthropicEmulator, claude: Make) -> None:
    with httpx2.Client() as own:
        provider = claude(http_client=own)
        assert provider.chat(HELLO).message == "Hello"
        provider.close()
        assert not own.is_closed
        assert provider.chat(HELLO).message == "Hello"


async def test_the_users_own_async_client_is_not_closed(api: AnthropicEmulator, claude: Make) -> None:
    async with httpx2.AsyncClient() as own:
        async with claude(async_http_client=own) as provider:
            assert (await provider.achat(HELLO)).message == "Hello"
        assert not own.is_closed


# ── thinking ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ["chat", "stream_chat"])
def test_thinking_goes_round_in_a_turn_with_tools(claude: Make, verb: str) -> None:
    call = ToolCall("toolu_1", "weather", {"city": "Oslo"})
    asking = Response("Let me see.", TokenUsage(9, 9), tool_calls=(call,), finish_reason="tool_calls")
    with AnthropicEmulator(ScriptedProvider([asking, "Wet."]), thinking="Oslo, in winter?") as api:
        provider = claude(thinking=2000, api_key=api.api_key, base_url=api.base_url)

        def ask(messages: list[Message]) -> Response:
            if verb == "chat":
                return provider.chat(messages, (WEATHER,))
            last = list(provider.stream_chat(messages, (WEATHER,)))[-1]
            assert isinstance(last, FinalResponse)
            return last.response

        first = ask(HELLO)
        stored = Message.from_json(first.to_message().to_json())
        second = ask([*HELLO, stored, Message.tool("rain", "toolu_1", "weather")])
    assert second.message == "Wet."
    blocks = api.requests[-1].body["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use"]
    assert blocks[0]["thinking"] == "Oslo, in winter?"


def test_thinking_that_the_api_refuses_is_left_out_once(api: AnthropicEmulator, claude: Make) -> None:
    forged = {"type": "thinking", "thinking": "mine", "signature": "forged"}
    content = [forged, {"type": "text", "characters": 5}]
    reply = Message(
        "assistant", "Hello", provider_data={"anthropic": {"model": "claude-opus-5-5", "content": content}}
    )
    talk = [Message.user("Hi"), reply, Message.user("More")]
    assert claude("claude-opus-5-5").chat(talk).message == "More"
    assert [request.status for request in api.requests] == [400, 200]
    assert b"forged" not in json.dumps(api.requests[-1].body).encode()
    api.fail_next(400, message="messages.1.content.0: Invalid `signature` in `thinking` block", times=2)
    with pytest.raises(InvalidRequestError):
        list(claude("claude-opus-5-5").stream_chat(talk))
    assert len(api.requests) == 4


# ── the emulator refuses what the service refuses ────────────────────────────────────────

TURN = {"role": "user", "content": "Hi"}
CALL = {"type": "tool_use", "id": "t1", "name": "w", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "x"}
TOOL = {"name": "w", "input_schema": {"type": "object"}}


def post(api: AnthropicEmulator, body: dict[str, Any], **headers: str) -> httpx2.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"anthropic-version": "2026-10-21", "x-api-key": api.api_key, **given}
    sent = {name: value for name, value in sent.items() if value}
    return httpx2.post(f"{api.base_url}/v1/messages", json=body, headers=sent)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater"),
        ({"max_tokens": 99_999_999}, "maximum allowed number of output tokens"),
        ({"temperature": 0.5}, "temperature: Extra inputs are not permitted"),
        ({"frequency_penalty": 1}, "Extra inputs are not permitted"),
        ({"messages": []}, "at least one message is required"),
        ({"messages": [{"role": "system", "content": "x"}]}, "Unexpected role"),
        ({"messages": [{"role": "assistant", "content": "x"}, TURN]}, "first message must use"),
        ({"messages": [TURN, TURN]}, "roles must alternate"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty content"),
        ({"messages": [{"role": "user", "content": "  "}]}, "non-whitespace"),
        ({"messages": [{"role": "user", "content": [RESULT]}]}, "unexpected `tool_use_id`"),
        ({"messages": [TURN, {"role": "assistant", "content": [CALL]}, TURN]}, "without `tool_result`"),
        (
            {
                "messages": [
                    TURN,
                    {"role": "assistant", "content": [CALL]},
                    {"role": "user", "content": [{"type": "text", "text": "a"}, RESULT]},
                ]
            },
            "without `tool_result`",
        ),
        (
            {"messages": [TURN, {"role": "assistant", "content": [{**CALL, "id": "a.b"}]}]},
            "should match pattern",
        ),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "should match pattern"),
        ({"tools": [{"name": "w"}]}, "input_schema: Field required"),
        ({"tools": [TOOL, TOOL]}, "must be unique"),
        ({"tool_choice": {"type": "auto"}}, "while providing tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "required"}}, "expected tags"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "not found in provided tools"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "any"}, "thinking": {"type": "adaptive"}},
            "Thinking may not be enabled",
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "greater than or equal to 1024"),
        ({"thinking": {"type": "between_tools"}}, "is not supported for this model"),
        ({"stop_sequences": [" "]}, "non-whitespace"),
        ({"output_config": {"format": {"type": "json_object"}}}, "json_schema"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}, "must be"),
    ],
)  # fmt: skip
def test_the_emulator_refuses_what_the_service_refuses(
    api: AnthropicEmulator, change: dict[str, Any], said: str
) -> None:
    body = {"model": "claude-sonnet-4-6", "max_tokens": 2000, "messages": [TURN]} | change
    answer = post(api, {key: value for key, value in body.items() if value is not None})
    assert answer.status_code == 400
    told = answer.json()
    assert told["type"] == "error"
    assert told["error"]["type"] == "invalid_request_error"
    assert said in told["error"]["message"]
    assert told["request_id"] == answer.headers["request-id"]


def test_headers_keys_and_models_are_checked(api: AnthropicEmulator) -> None:
    body = {"model": "claude-sonnet-4-6", "max_tokens": 10, "messages": [TURN]}
    assert post(api, body).status_code == 200
    assert post(api, body, anthropic_version="").json()["error"]["message"].endswith("header is required")
    assert post(api, body, anthropic_version="2020-01-01").status_code == 400
    assert post(api, body, x_api_key="wrong").status_code == 401
    assert post(api, body, x_api_key="").status_code == 401
    unknown = post(api, {**body, "model": "claude-9"})
    assert (unknown.status_code, unknown.json()["error"]["message"]) == (404, "model: claude-9")
    assert "secret" not in str(api.requests)
    assert api.requests[0].headers["x-api-key"] == "***"


def test_the_official_sdk_reads_the_emulator() -> None:
    import anthropic

    call = ToolCall("toolu_1", "weather", {"city": "Oslo"})
    reply = Response("Hm.", TokenUsage(9, 9), tool_calls=(call,), finish_reason="tool_calls")
    api = AnthropicEmulator(ScriptedProvider(lambda request: reply), thinking="Rain?").start()
    tools: Any = [{"name": "weather", "input_schema": {"type": "object"}}]
    with anthropic.Anthropic(api_key=api.api_key, base_url=api.base_url, max_retries=0) as sdk:
        asked: Any = {"model": "claude-opus-5-5", "max_tokens": 100, "messages": [TURN], "tools": tools}
        whole = sdk.messages.create(**asked)
        with sdk.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
        models = [model.id for model in sdk.models.list()]
        one = sdk.models.retrieve("claude-opus-5-5")
    assert [block.type for block in whole.content] == ["thinking", "text", "tool_use"]
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in whole.content]
    assert streamed.stop_reason == whole.stop_reason == "tool_use"
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert "claude-opus-5-5" in models
    assert one.max_tokens == 128_000
    api.stop()


def test_the_emulator_starts_stops_and_says_when_it_is_not_serving() -> None:
    emulator = AnthropicEmulator()
    with pytest.raises(RuntimeError, match="not serving"):
        _ = emulator.base_url
    emulator.start()
    emulator.start()
    emulator.stop()
    emulator.stop()
    with pytest.raises(TypeError, match="sequences of strings"):
        AnthropicEmulator(api_keys="abc")
    with pytest.raises(ValueError, match="at least one key"):
        AnthropicEmulator(api_keys=())
