"""A client's own mistakes: each is refused as one, by the field's name, and no client tries it again."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, get_args
from urllib.parse import urlsplit

import httpx2
import pytest

from loom_py import AgentBuilder, AzureEmulator, ScriptedProvider
from loom_py.errors import (
    BudgetExceededError,
    ConfigError,
    FailedAttempt,
    InvalidRequestError,
    RetriesExhausted,
)
from loom_py.llm.azure.checks import EFFORTS, VERBOSITIES
from loom_py.llm.scripted import ScriptedRequest
from loom_py.messages import ImagePart
from loom_py.serve import ServeConfig, new_key, serving
from loom_py.serve.failures import failure_of
from loom_py.serve.reading import is_deeper
from loom_py.serve.requests import MOST_LEVELS, parse_chat
from loom_py.serve.wire import ChatRequest

Ask = Callable[..., dict[str, Any]]
Serve = Callable[..., str]
IMAGE = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]}
]
TOOLS = [{"type": "function", "function": {"name": "weather"}}]
DEPLOYMENT = "secret-deployment"


def stock(of: str) -> str:
    """How many there are.

    Args:
        of: the product.
    """
    return f"12 of {of}"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves an agent on an emulated Azure, with settings of its model; its URL."""
    with ExitStack() as stack:
        azure = stack.enter_context(
            AzureEmulator(ScriptedProvider(lambda _: "hi"), deployments={DEPLOYMENT: "gpt-4o"})
        )

        def run(*, tools: bool = False, config: ServeConfig | None = None, **settings: Any) -> str:
            builder = AgentBuilder().with_azure_openai_llm(
                azure.endpoint, DEPLOYMENT, azure.api_key, **settings
            )
            builder = builder.with_tools(stock) if tools else builder
            agent = stack.enter_context(builder.with_name("helper").build())
            return stack.enter_context(serving(agent, config or ServeConfig(port=0)))

        yield run


def _post(url: str, body: Any, key: str = "any") -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.post(f"{url}/v1/chat/completions", json=body, headers=headers, verify=False)


def _error(answer: httpx2.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    return found


# ── what the model cannot do ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("settings", "change", "param", "message"),
    [
        ({"surface": "responses"}, {"stop": "x"}, "stop", "the model takes no stop sequences"),
        ({"model_name": "gpt-4o"}, {"reasoning_effort": "low"}, "reasoning_effort", "does not reason"),
        ({"model_name": "gpt-3.5-turbo"}, {"messages": IMAGE}, "messages", "does not read images"),
        ({"model_name": "o1-mini"}, {"tools": TOOLS}, "tools", "the model takes no tools"),
    ],
)
def test_what_the_model_cannot_do_is_the_callers_mistake(
    serve: Serve, ask: Ask, stream: bool, settings: Any, change: Any, param: str, message: str
) -> None:
    url = serve(**settings)
    found = _post(url, ask(stream=stream) | change)
    error = _error(found)
    assert (found.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert message in error["message"]
    assert DEPLOYMENT not in found.text
    assert _post(url, ask()).status_code == 200


def test_an_agent_that_its_model_cannot_serve_stays_the_servers_failure(serve: Serve, ask: Ask) -> None:
    url = serve(model_name="o1-mini", tools=True)
    for change in ({}, {"tools": TOOLS}):
        found = _post(url, ask() | change)
        assert (found.status_code, _error(found)["message"]) == (500, "the server failed")


@pytest.mark.parametrize("field", ["reasoning_effort", "stop", "messages", "verbosity", "endpoint", None])
def test_a_setting_that_the_request_did_not_choose_is_the_servers(field: str | None) -> None:
    error = ConfigError("the model of secret-deployment cannot", field=field)
    assert failure_of(error, from_agent=True).status == 500
    assert failure_of(error, from_agent=True, given={"user"}).status == 500


def test_the_last_of_many_attempts_says_whose_mistake_it_was() -> None:
    last = FailedAttempt(DEPLOYMENT, ConfigError("no", field="verbosity"), 0.0, 0.1, 0.0)
    error = RetriesExhausted("all failed", attempts=[last])
    found = failure_of(error, from_agent=True, given={"verbosity"})
    assert (found.status, found.error["param"]) == (400, "verbosity")
    assert found.error["message"] == "the model cannot do what verbosity asks for: leave it out"


def test_the_name_by_which_a_model_gives_its_output_is_taken_too(http: httpx2.Client, ask: Ask) -> None:
    tools = [{"type": "function", "function": {"name": "final_answer"}}]
    found = http.post("/v1/chat/completions", json=ask(tools=tools))
    assert (found.status_code, _error(found)["code"]) == (400, "invalid_tools")


# ── what the request itself says ─────────────────────────────────────────────────────────


def test_the_words_that_are_taken_are_those_that_azure_knows() -> None:
    fields = ChatRequest.model_fields
    for name, known in (("reasoning_effort", EFFORTS), ("verbosity", VERBOSITIES)):
        literal, none = get_args(fields[name].annotation)
        assert (get_args(literal), none) == (known, type(None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reasoning_effort": "ultra"}, "input should be 'none', 'minimal', 'low'"),
        ({"reasoning_effort": ""}, "input should be 'none'"),
        ({"verbosity": "loud"}, "input should be 'low', 'medium' or 'high'"),
        ({"max_tokens": "5"}, "a valid integer"),
        ({"max_tokens": True}, "a valid integer"),
        ({"max_completion_tokens": 5.5}, "a valid integer"),
        ({"temperature": "1"}, "a valid number"),
        ({"temperature": True}, "a valid number"),
        ({"top_p": "0.5"}, "a valid number"),
        ({"n": True}, "a valid integer"),
        ({"seed": "7"}, "a valid integer"),
        ({"frequency_penalty": "1"}, "a valid number"),
        ({"stream": "yes"}, "a valid boolean"),
        ({"stream": 1}, "a valid boolean"),
        ({"parallel_tool_calls": "no"}, "a valid boolean"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "it may have at most 4 items"),
        ({"top_logprobs": 2}, "log probabilities are not given"),
    ],
)
def test_a_value_of_another_kind_is_refused(http: httpx2.Client, ask: Ask, change: Any, message: str) -> None:
    found = http.post("/v1/chat/completions", json=ask() | change)
    error = _error(found)
    assert (found.status_code, error["param"], error["type"]) == (400, *change, "invalid_request_error")
    assert message in error["message"]


def test_a_flag_within_a_field_is_no_text(http: httpx2.Client, ask: Ask) -> None:
    found = http.post("/v1/chat/completions", json=ask(stream=True, stream_options={"include_usage": "yes"}))
    assert (found.status_code, _error(found)["param"]) == (400, "stream_options.include_usage")


def test_whole_numbers_are_numbers_too(http: httpx2.Client, ask: Ask) -> None:
    change = {"temperature": 1, "top_p": 1, "presence_penalty": -1, "logit_bias": {"5": 3}, "n": 1}
    assert http.post("/v1/chat/completions", json=ask() | change).status_code == 200


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"a": schema}
    return schema


def _tool_of(levels: int) -> dict[str, Any]:
    tool = {"type": "function", "function": {"name": "f", "parameters": _nested(levels)}}
    return {"tools": [*TOOLS, tool]}


def _format_of(levels: int) -> dict[str, Any]:
    schema = {"name": "a", "schema": _nested(levels - 2)}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


@pytest.mark.parametrize(
    ("change", "param"), [(_tool_of, "tools[1].function.parameters"), (_format_of, "response_format")]
)
def test_a_schema_has_a_depth(
    http: httpx2.Client, ask: Ask, change: Callable[[int], dict[str, Any]], param: str
) -> None:
    assert http.post("/v1/chat/completions", json=ask() | change(MOST_LEVELS)).status_code == 200
    for levels in (MOST_LEVELS + 1, 300):
        found = http.post("/v1/chat/completions", json=ask() | change(levels))
        assert (found.status_code, _error(found)["param"]) == (400, param)
        assert f"{MOST_LEVELS} levels are the most" in _error(found)["message"]


@pytest.mark.parametrize(
    ("value", "depth"),
    [("text", 0), (None, 0), ({}, 1), ([], 1), ([1, {"a": 2}], 2), ({"a": [{}], "b": {}}, 3)],
)
def test_depth_counts_objects_and_arrays(value: object, depth: int) -> None:
    assert not is_deeper(value, depth)
    assert depth == 0 or is_deeper(value, depth - 1)


def test_a_schema_that_is_too_deep_does_not_reach_an_agent() -> None:
    deep = '{"a":' * 400 + "{}" + "}" * 400
    body = '{"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": ' + deep + "}"
    with pytest.raises(InvalidRequestError) as caught:
        parse_chat(body.encode())
    assert caught.value.param == "response_format"


# ── what clients send back ───────────────────────────────────────────────────────────────


def test_an_earlier_refusal_is_what_the_model_said(http: httpx2.Client, ask: Ask) -> None:
    refused = {"role": "assistant", "content": None, "refusal": "I will not"}
    said = [*ask("harm")["messages"], refused, *ask("history")["messages"]]
    found = http.post("/v1/chat/completions", json={"model": "helper", "messages": said})
    text = found.json()["choices"][0]["message"]["content"]
    assert text == "user: harm | assistant: I will not | user: history"


def test_content_goes_before_a_refusal_and_one_of_them_must_be(http: httpx2.Client, ask: Ask) -> None:
    both = {"role": "assistant", "content": "yes", "refusal": "no"}
    body = {"model": "helper", "messages": [both, *ask("history")["messages"]]}
    answer = http.post("/v1/chat/completions", json=body).json()
    assert answer["choices"][0]["message"]["content"] == "assistant: yes | user: history"
    for nothing in ({"refusal": None}, {"refusal": ""}, {}):
        body["messages"] = [{"role": "assistant", "content": None, **nothing}, *ask()["messages"]]
        found = http.post("/v1/chat/completions", json=body)
        assert (found.status_code, _error(found)["param"]) == (400, "messages[0].content")


def test_an_image_without_a_detail_is_seen_as_the_model_likes() -> None:
    seen: list[ScriptedRequest] = []

    def model(request: ScriptedRequest) -> str:
        seen.append(request)
        return "a cat"

    image = {"url": "https://x.example/a.png", "detail": None}
    content = [{"type": "image_url", "image_url": image}]
    with (
        AgentBuilder().with_llm(ScriptedProvider(model)).with_name("eye").build() as agent,
        serving(agent) as url,
    ):
        found = _post(url, {"model": "eye", "messages": [{"role": "user", "content": content}]})
    assert found.status_code == 200
    part = seen[0].messages[-1].content[0]
    assert isinstance(part, ImagePart)
    assert part.detail == "auto"


# ── what a budget cannot pay for ─────────────────────────────────────────────────────────


def test_a_call_that_does_not_fit_into_a_budget_is_told_so(serve: Serve, ask: Ask) -> None:
    made = new_key("ada", usd_per_day="0.02")
    url = serve(model_name="gpt-4o", config=ServeConfig(port=0, keys=(made.key,)))
    found = _post(url, ask(), made.secret)
    assert (found.status_code, _error(found)["code"]) == (402, "budget_exceeded")
    assert "ask for fewer tokens (max_tokens)" in _error(found)["message"]
    assert "spent" not in _error(found)["message"]
    assert "retry-after" not in found.headers  # a new day's budget could not pay for it either
    assert _post(url, ask(max_tokens=50), made.secret).status_code == 200


@pytest.mark.parametrize(
    ("amounts", "message", "again"),
    [
        ({"limit": 10, "spent": 10, "needed": 5}, "the budget is spent", 60),
        ({"limit": 10, "spent": 12, "needed": 11}, "the budget is spent", None),
        ({"limit": 10, "spent": 6, "needed": 5}, "cannot pay for this call", 60),
        ({"limit": 10, "spent": 0, "needed": 11}, "cannot pay for this call", None),
        ({"limit": 10, "spent": 4, "reserved": 3, "needed": 5}, "calls under way hold", None),
        ({}, "the budget is spent", 60),
    ],
)
def test_a_budget_says_what_is_wrong_and_when_a_new_one_would_do(
    amounts: Any, message: str, again: float | None
) -> None:
    error = BudgetExceededError("the key's 10 USD", retry_after=60, **amounts)
    found = failure_of(error, from_agent=True)
    assert (found.status, found.error["type"], found.retry_after) == (402, "insufficient_quota", again)
    assert message in found.error["message"]
    assert "10" not in found.error["message"]


# ── targets in absolute form ─────────────────────────────────────────────────────────────


def _get(url: str, target: str, host: str) -> tuple[int, str]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 10) as line:
        line.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: line.recv(65536), b"")).decode()
    return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("http://127.0.0.1:8471/health/live", 200, "live"),
        ("HTTP://LOCALHOST/health/live?x=1", 200, "live"),
        ("https://[::1]:9/v1/models/helper", 200, "helper"),
        ("http://localhost/%68ealth/live", 200, "live"),
        ("http://localhost/v1/nothing", 404, "not_found"),
        ("http://localhost//health/live", 404, "not_found"),
        ("http://evil.example/health/live", 403, "host_not_allowed"),
        ("http://127.0.0.1.evil.example/health/live", 403, "host_not_allowed"),
        ("http://localhost%2F.evil.example/health/live", 403, "host_not_allowed"),
        ("http://localhost:a@evil.example/health/live", 404, "not_found"),
        ("http:///health/live", 404, "not_found"),
        ("ftp://localhost/health/live", 404, "not_found"),
    ],
)
def test_a_target_may_name_the_server(url: str, target: str, status: int, text: str) -> None:
    found, body = _get(url, target, "localhost")
    assert (found, text in body) == (status, True), body


def test_a_target_that_names_the_server_goes_before_the_host_header(url: str) -> None:
    assert _get(url, "http://localhost/health/live", "evil.example")[0] == 200
    assert _get(url, "http://localhost", "evil.example")[0] == 200
    assert _get(url, "/health/live", "evil.example")[0] == 403
