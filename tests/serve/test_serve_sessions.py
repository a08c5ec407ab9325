"""Conversations that the server keeps: by name, for each key, and no more than there is room for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from loom_py import Agent, AgentBuilder, ScriptedProvider
from loom_py.serve import serving
from loom_py.serve.sessions import SessionShelf

Ask = Callable[..., dict[str, Any]]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"of": {"type": "string"}}, "required": ["of"]},
    },
}


def _user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_a_session_is_kept_by_the_server_and_hears_only_what_is_new(client: openai.OpenAI) -> None:
    named = {"X-Session-Id": "ada-1"}
    first: Any = [{"role": "system", "content": "be brief"}, *_user("one")]
    client.chat.completions.create(model="helper", messages=first, extra_headers=named)
    whole: Any = [*first, {"role": "assistant", "content": "echo one"}, *_user("history")]
    found = client.chat.completions.create(model="helper", messages=whole, extra_headers=named)
    told = "system: be brief | user: one | assistant: echo one | user: history"
    assert found.choices[0].message.content == told
    other = client.chat.completions.create(
        model="helper", messages=_user("history"), extra_headers={"X-Session-Id": "bob"}
    )
    assert other.choices[0].message.content == "user: history"


def test_a_session_is_forgotten_on_request(http: httpx2.Client, ask: Ask) -> None:
    named = {"X-Session-Id": "ada"}
    http.post("/v1/chat/completions", json=ask("one"), headers=named)
    assert http.delete("/v1/sessions/ada").json()["deleted"] is True
    assert http.delete("/v1/sessions/ada").status_code == 404
    found = http.post("/v1/chat/completions", json=ask("history"), headers=named)
    assert found.json()["choices"][0]["message"]["content"] == "user: history"


def test_the_oldest_session_makes_room(start: Callable[..., str], ask: Ask, agent: Agent) -> None:
    with httpx2.Client(base_url=start(max_sessions=2)) as http:
        for name in ("a", "b", "c"):
            http.post("/v1/chat/completions", json=ask(name), headers={"X-Session-Id": name})
        assert len(agent.sessions()) == 2
        assert http.delete("/v1/sessions/a").status_code == 404
        assert http.delete("/v1/sessions/c").status_code == 200


def test_a_chat_that_fails_is_no_part_of_its_session(http: httpx2.Client, ask: Ask, agent: Agent) -> None:
    named = {"X-Session-Id": "ada"}
    assert http.post("/v1/chat/completions", json=ask("fail"), headers=named).status_code == 502
    assert agent.sessions() == ()
    found = http.post("/v1/chat/completions", json=ask("history"), headers=named)
    assert found.json()["choices"][0]["message"]["content"] == "user: history"


@pytest.mark.parametrize("name", [b"", b"a b", b"x" * 129, b"../etc", b"\xc3\xa4"])
def test_a_session_name_is_plain(http: httpx2.Client, ask: Ask, name: bytes) -> None:
    found = http.post("/v1/chat/completions", json=ask(), headers=[(b"X-Session-Id", name)])
    assert found.status_code == 400
    assert found.json()["error"]["code"] == "invalid_session_id"


def test_a_session_goes_on_with_the_results_of_the_callers_tools(client: openai.OpenAI) -> None:
    named = {"X-Session-Id": "ada"}
    found = client.chat.completions.create(
        model="helper", messages=_user("weather"), tools=[WEATHER], extra_headers=named
    )
    (call,) = found.choices[0].message.tool_calls or []
    messages: Any = [
        *_user("weather"),
        found.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    found = client.chat.completions.create(
        model="helper", messages=messages, tools=[WEATHER], extra_headers=named
    )
    assert found.choices[0].message.content == "echo rain"
    found = client.chat.completions.create(model="helper", messages=_user("history"), extra_headers=named)
    assert found.choices[0].message.content == (
        "user: weather | assistant:  | tool: rain | assistant: echo rain | user: history"
    )


def test_a_session_does_not_wait_for_ever_for_a_callers_tool(client: openai.OpenAI) -> None:
    named = {"X-Session-Id": "ada"}
    client.chat.completions.create(
        model="helper", messages=_user("weather"), tools=[WEATHER], extra_headers=named
    )
    found = client.chat.completions.create(model="helper", messages=_user("history"), extra_headers=named)
    assert "tool: (The caller gave no result" in str(found.choices[0].message.content)


def test_a_full_shelf_keeps_the_session_that_is_asked_for_again(start: Callable[..., str], ask: Ask) -> None:
    with httpx2.Client(base_url=start(max_sessions=2)) as http:

        def chat(name: str, text: str) -> str:
            found = http.post("/v1/chat/completions", json=ask(text), headers={"X-Session-Id": name})
            return str(found.json()["choices"][0]["message"]["content"])

        chat("a", "one")
        chat("b", "two")
        assert chat("a", "history") == "user: one | assistant: echo one | user: history"
        assert chat("b", "history") == "user: two | assistant: echo two | user: history"


def test_an_agent_of_two_names_has_sessions_of_each(agent: Agent, ask: Ask) -> None:
    with serving({"first": agent, "second": agent}) as url, httpx2.Client(base_url=url) as http:
        for model in ("first", "second"):
            body = ask("history") | {"model": model}
            found = http.post("/v1/chat/completions", json=body, headers={"X-Session-Id": "ada"})
            assert found.json()["choices"][0]["message"]["content"] == "user: history"


# ── how many are kept, and for how long ──────────────────────────────────────────────────


class _Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def echo() -> Iterator[Agent]:
    """An agent that says what it is told."""
    model = ScriptedProvider(lambda request: request.messages[-1].text)
    with AgentBuilder().with_llm(model).build() as agent:
        yield agent


async def _chat(shelf: SessionShelf, agent: Agent, name: str, text: str = "hello") -> None:
    async with shelf.taken(agent, "echo", "ada", name) as place:
        await agent.achat(text, session_id=place.id)


async def test_sessions_take_no_more_memory_than_they_may(echo: Agent) -> None:
    shelf = SessionShelf(100, 50_000, 60.0)
    for number in range(20):
        await _chat(shelf, echo, str(number), "x" * 5_000)
    assert len(shelf) == len(echo.sessions()) == 4  # of 10,000 and a little each
    assert shelf.forget("ada", "19")
    await _chat(shelf, echo, "large", "x" * 30_000)
    assert len(shelf) == len(echo.sessions()) == 0  # it has no room even alone


async def test_an_unused_session_is_kept_for_its_time_and_no_longer(echo: Agent) -> None:
    time = _Time()
    shelf = SessionShelf(100, 10**6, 60.0, clock=time)
    await _chat(shelf, echo, "a")
    time.now = 50.0
    await _chat(shelf, echo, "b")
    time.now = 70.0
    assert not shelf.forget("ada", "a")
    assert shelf.forget("ada", "b")


async def test_a_session_in_use_is_not_let_go(echo: Agent) -> None:
    shelf = SessionShelf(1, 10**6, 60.0)
    async with shelf.taken(echo, "echo", "ada", "a") as place:
        await _chat(shelf, echo, "b")
        await echo.achat("hello", session_id=place.id)
        assert len(place.known) == 2
    assert len(shelf) == 1
