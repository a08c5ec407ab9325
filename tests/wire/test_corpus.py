"""Every recorded and quoted chat and Responses exchange, replayed through the client, on all four verbs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from loom_py import AzureOpenAIClient, Message, Response, ToolSpec
from loom_py.errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    DeploymentNotFoundError,
    IncompleteResponseError,
    InvalidRequestError,
    LoomError,
    NetworkAccessError,
    NotFoundError,
    RateLimitError,
    ServiceUnavailableError,
    StreamInterruptedError,
    UnsupportedParameterError,
)

CORPUS = Path(__file__).parents[3] / "shared" / "azure_corpus" / "exchanges"

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the recorded exchanges are not on this machine")

ERRORS: dict[str, type[LoomError]] = {
    "004": ContentFilterError,
    "010": DeploymentNotFoundError,
    "012": AuthenticationError,
    "043": RateLimitError,
    "202": AuthenticationError,
    "204": ContentFilterError,
    "206": InvalidRequestError,
    "209": IncompleteResponseError,
    "211": ContentFilterError,
    "214": RateLimitError,
    "216": RateLimitError,
    "218": RateLimitError,
    "220": RateLimitError,
    "222": AuthenticationError,
    "224": AuthenticationError,
    "226": NetworkAccessError,
    "228": NotFoundError,
    "230": ServiceUnavailableError,
    "232": ServiceUnavailableError,
    "234": ServiceUnavailableError,
    "236": ServiceUnavailableError,
    "238": ContextLengthError,
    "240": UnsupportedParameterError,
    "242": UnsupportedParameterError,
    "244": InvalidRequestError,
    "246": ContentFilterError,
    "248": ContentFilterError,
    "250": ContentFilterError,
    "252": StreamInterruptedError,
    "254": ContentFilterError,
    "256": ServiceUnavailableError,
}
WAITS = {"043": 1.0, "214": 55.0, "216": 22.0, "218": 45.0, "220": None}


def _exchanges() -> list[Any]:
    found = []
    for path in sorted(CORPUS.glob("*.json")) if CORPUS.is_dir() else []:
        exchange = json.loads(path.read_text())
        number = path.name[:3]
        is_chat = exchange["kind"][0] == "chat" or exchange["response"]["status"] >= 400
        if is_chat:
            found.append(pytest.param(number, exchange, id=path.stem))
    return found


def _body(exchange: dict[str, Any]) -> bytes:
    answer = exchange["response"]
    if "json" in answer:
        return json.dumps(answer["json"]).encode()
    return str(answer.get("sse") or answer.get("text") or "").encode()


def _client(exchange: dict[str, Any], **settings: Any) -> AzureOpenAIClient:
    answer = exchange["response"]
    skipped = {"content-length", "transfer-encoding", "content-encoding"}
    headers = {key: value for key, value in answer["headers"].items() if key.lower() not in skipped}

    def reply(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(answer["status"], headers=headers, content=_body(exchange))

    transport = httpx2.MockTransport(reply)
    return AzureOpenAIClient(
        endpoint="https://replay.openai.azure.com",
        deployment_id="a-deployment",
        api_key="key",
        http_client=httpx2.Client(transport=transport),
        async_http_client=httpx2.AsyncClient(transport=transport),
        **settings,
    )


MESSAGES = [Message.user("Hello")]
TOOLS = (ToolSpec("get_weather", "Weather of a place"),)


def _stream(client: AzureOpenAIClient) -> Response:
    events = list(client.stream_chat(MESSAGES, TOOLS))
    response = events[-1].response
    assert response is not None
    assert "".join(event.delta for event in events) == response.message
    return response


async def _astream(client: AzureOpenAIClient) -> Response:
    events = [event async for event in client.astream_chat(MESSAGES, TOOLS)]
    response = events[-1].response
    assert response is not None
    return response


def _run(verb: str, client: AzureOpenAIClient) -> Response:
    if verb == "chat":
        return client.chat(MESSAGES, TOOLS)
    if verb == "achat":
        return asyncio.run(client.achat(MESSAGES, TOOLS))
    return _stream(client) if verb == "stream_chat" else asyncio.run(_astream(client))


def _verbs(exchange: dict[str, Any]) -> tuple[str, ...]:
    """A recorded stream goes to the streaming verbs, a whole answer to all four."""
    streams = ("stream_chat", "astream_chat")
    return streams if "sse" in exchange["response"] else ("chat", "achat", *streams)


@pytest.mark.parametrize(("number", "exchange"), _exchanges())
def test_an_exchange_gives_the_right_response_or_the_right_error(
    number: str, exchange: dict[str, Any]
) -> None:
    for verb in _verbs(exchange):
        client = _client(exchange)
        if number in ERRORS:
            with pytest.raises(LoomError) as caught:
                _run(verb, client)
            _check_error(number, exchange, caught.value)
        else:
            _check_response(exchange, _run(verb, client))


def _check_error(number: str, exchange: dict[str, Any], error: LoomError) -> None:
    assert type(error) is ERRORS[number], error
    assert error.deployment == "a-deployment"
    status = exchange["response"]["status"]
    if status >= 400:
        assert error.http_status == status
    headers = {key.lower(): value for key, value in exchange["response"]["headers"].items()}
    assert error.request_id == (headers.get("x-request-id") or headers.get("apim-request-id"))
    if number in WAITS:
        assert error.retry_after == WAITS[number]
    assert error.__cause__ is None
    assert error.__context__ is None


def _check_response(exchange: dict[str, Any], response: Response) -> None:
    headers = {key.lower(): value for key, value in exchange["response"]["headers"].items()}
    if "json" in exchange["response"]:
        expected = _expected_of_json(exchange["response"]["json"])
    else:
        expected = _expected_of_stream(exchange["response"]["sse"])
    assert response.message == expected["text"]
    assert [call.arguments_json or "{}" for call in response.tool_calls] == expected["arguments"]
    assert response.finish_reason == expected["finish_reason"]
    usage = expected["usage"]
    assert response.tokens_used.input == usage.get("prompt_tokens", 0)
    assert response.tokens_used.output == usage.get("completion_tokens", 0)
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    assert response.tokens_used.cached_input == cached
    assert response.model == headers.get("x-ms-served-model", expected["model"])
    if "grok" in response.model or not usage:
        assert response.cost_usd is None
    else:
        assert response.cost_usd is not None
        assert response.cost_usd > Decimal(0)


def _expected_of_json(data: dict[str, Any]) -> dict[str, Any]:
    choice = data["choices"][0]
    calls = choice["message"].get("tool_calls") or []
    return {
        "text": choice["message"].get("content") or "",
        "arguments": [call["function"]["arguments"] for call in calls],
        "finish_reason": choice["finish_reason"],
        "usage": data["usage"],
        "model": data["model"],
    }


def _expected_of_stream(body: str) -> dict[str, Any]:
    expected: dict[str, Any] = {"text": "", "arguments": [], "finish_reason": "", "usage": {}, "model": ""}
    for line in body.splitlines():
        if not line.startswith("data: {"):
            continue
        chunk = json.loads(line[6:])
        expected["model"] = expected["model"] or chunk.get("model", "")
        expected["usage"] = chunk.get("usage") or expected["usage"]
        for choice in chunk["choices"]:
            delta = choice.get("delta") or {}
            expected["text"] += delta.get("content") or ""
            expected["finish_reason"] = choice.get("finish_reason") or expected["finish_reason"]
            for call in delta.get("tool_calls") or []:
                if call["index"] == len(expected["arguments"]):
                    expected["arguments"].append("")
                expected["arguments"][call["index"]] += call["function"].get("arguments") or ""
    return expected


def test_the_whole_corpus_is_replayed() -> None:
    numbers = {parameters.values[0] for parameters in _exchanges()}
    assert len(numbers) >= 60
    assert set(ERRORS) <= numbers


# ── the Responses API ────────────────────────────────────────────────────────────────────


def _responses() -> list[Any]:
    found = []
    for path in sorted(CORPUS.glob("*.json")) if CORPUS.is_dir() else []:
        exchange = json.loads(path.read_text())
        if exchange["kind"][0] == "responses" and exchange["response"]["status"] == 200:
            found.append(pytest.param(path.name[:3], exchange, id=path.stem))
    return found


def _events(whole: dict[str, Any], size: int) -> Iterator[dict[str, Any]]:
    """The stream in which the service would have sent a recorded answer, in pieces of ``size`` characters."""
    yield {
        "type": "response.created",
        "response": {**whole, "status": "in_progress", "output": [], "usage": None},
    }
    for index, item in enumerate(whole["output"]):
        begun = {**item, "content": []} if item["type"] == "message" else item
        yield {"type": "response.output_item.added", "output_index": index, "item": begun}
        parts = item.get("content") or [] if item["type"] == "message" else []
        for position, part in enumerate(parts):
            place = {"output_index": index, "content_index": position, "item_id": item.get("id")}
            text = part["text"]
            for start in range(0, len(text), size):
                delta = text[start : start + size]
                yield {"type": "response.output_text.delta", **place, "delta": delta}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": whole}


def _streamed(exchange: dict[str, Any], size: int) -> dict[str, Any]:
    answer = exchange["response"]
    lines = [
        f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n"
        for number, event in enumerate(_events(answer["json"], size))
    ]
    kept = {key: value for key, value in answer.items() if key != "json"}
    headers = {**answer["headers"], "content-type": "text/event-stream"}
    return {"response": {**kept, "headers": headers, "sse": "".join(lines)}}


RESPONSES_SETTINGS = [
    pytest.param({"surface": "responses"}, id="auto"),
    pytest.param({"surface": "responses", "api": "v1"}, id="v1"),
    pytest.param({"surface": "responses", "api_version": "2025-04-01-preview"}, id="classic"),
]


@pytest.mark.parametrize("settings", RESPONSES_SETTINGS)
@pytest.mark.parametrize(("number", "exchange"), _responses())
def test_a_responses_exchange_gives_the_right_response_whole_and_streamed(
    number: str, exchange: dict[str, Any], settings: dict[str, Any]
) -> None:
    whole = [
        _run(verb, _client(exchange, **settings)) for verb in ("chat", "achat", "stream_chat", "astream_chat")
    ]
    streamed = [
        _run(verb, _client(_streamed(exchange, size), **settings))
        for verb in ("stream_chat", "astream_chat")
        for size in (1, 7, 10_000)
    ]
    for response in (*whole, *streamed):
        _check_responses_answer(exchange["response"], response)
    facts = {(response.message, response.tokens_used, response.cost_usd) for response in (*whole, *streamed)}
    assert len(facts) == 1
    assert all(response.provider_data == whole[0].provider_data for response in streamed)


def _check_responses_answer(answer: dict[str, Any], response: Response) -> None:
    data = answer["json"]
    headers = {key.lower(): value for key, value in answer["headers"].items()}
    texts = [part["text"] for item in data["output"] if item["type"] == "message" for part in item["content"]]
    assert response.message == "".join(texts)
    assert response.finish_reason == "stop"
    usage = data["usage"]
    assert response.tokens_used.input == usage["input_tokens"]
    assert response.tokens_used.output == usage["output_tokens"]
    assert response.tokens_used.reasoning == usage["output_tokens_details"]["reasoning_tokens"]
    assert response.tokens_used.cached_input == usage["input_tokens_details"]["cached_tokens"]
    assert response.model == headers.get("x-ms-served-model", data["model"])
    assert response.metadata["request_id"] == (headers.get("x-request-id") or headers.get("apim-request-id"))
    assert response.metadata["surface"] == "responses"


@pytest.mark.parametrize(("number", "exchange"), _responses())
def test_a_responses_stream_that_is_cut_before_its_end_is_an_error(
    number: str, exchange: dict[str, Any]
) -> None:
    body = _streamed(exchange, 5)["response"]
    events = body["sse"].split("\n\n")[:-1]
    for count in (0, 1, len(events) // 2, len(events) - 1):
        cut = {"response": {**body, "sse": "".join(f"{event}\n\n" for event in events[:count])}}
        for verb in ("stream_chat", "astream_chat"):
            with pytest.raises(LoomError):
                _run(verb, _client(cut, surface="responses"))


def test_every_responses_answer_of_the_corpus_is_replayed() -> None:
    assert [parameters.values[0] for parameters in _responses()] == [
        *("036", "042", "048", "076", "078", "100", "101", "102")
    ]
