"""What Azure refuses once is put right once and remembered, and nothing goes round in circles."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_py import AzureOpenAIClient, ChatOptions, Message, Response, ToolSpec
from loom_py.errors import (
    AuthenticationError,
    ContentFilterError,
    ContextLengthError,
    InvalidRequestError,
    LoomError,
    NotFoundError,
    RateLimitError,
    UnsupportedParameterError,
)
from loom_py.llm.azure.attempts import Lessons

HELLO = [Message.user("Hello")]
TOOLS = (ToolSpec("look", "Looks something up"),)
WARM = ChatOptions(temperature=0.2)
every_verb = pytest.mark.parametrize("verb", ["chat", "achat", "stream_chat", "astream_chat"])

Body = dict[str, Any]
Rule = Callable[[Body], httpx2.Response | None]


def refusal(
    message: str, param: str | None = None, code: str | None = "unsupported_parameter"
) -> httpx2.Response:
    error = {"message": message, "param": param, "code": code, "type": "invalid_request_error"}
    return httpx2.Response(400, json={"error": error})


def no_temperature(body: Body) -> httpx2.Response | None:
    if "temperature" not in body:
        return None
    text = (
        "Unsupported value: 'temperature' does not support 0.2 with this model."
        " Only the default (1) value is supported."
    )
    return refusal(text, "temperature", "unsupported_value")


def other_limit(body: Body) -> httpx2.Response | None:
    if "max_completion_tokens" not in body:
        return None
    text = "'max_completion_tokens' is not supported with this model. Use 'max_tokens' instead."
    return refusal(text, "max_completion_tokens")


class Model:
    """A stand-in for a deployment with rules of its own; keeps what it was sent."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules
        self.paths: list[str] = []
        self.bodies: list[Body] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        self.paths.append(request.url.path)
        self.bodies.append(body)
        for rule in self.rules:
            if (refused := rule(body)) is not None:
                return refused
        return self.answer("input" in body, bool(body.get("stream")))

    def answer(self, is_responses: bool, streams: bool) -> httpx2.Response:
        if is_responses:
            content = [{"type": "output_text", "text": "Hi"}]
            item = {"type": "message", "id": "m", "role": "assistant", "content": content}
            whole = {
                "status": "completed",
                "model": "prod",
                "output": [item],
                "usage": {"input_tokens": 3, "output_tokens": 1},
            }
            event = json.dumps({"type": "response.completed", "response": whole})
            return (
                httpx2.Response(200, text=f"data: {event}\n\n")
                if streams
                else httpx2.Response(200, json=whole)
            )
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        choice = {"index": 0, "finish_reason": "stop", "delta" if streams else "message": {"content": "Hi"}}
        whole = {"model": "gpt-4o-2024-11-20", "choices": [choice], "usage": usage}
        text = f"data: {json.dumps(whole)}\n\ndata: [DONE]\n\n"
        return httpx2.Response(200, text=text) if streams else httpx2.Response(200, json=whole)

    def client(self, **settings_: Any) -> AzureOpenAIClient:
        transport = httpx2.MockTransport(self)
        defaults: dict[str, Any] = {
            "endpoint": "https://contoso.openai.azure.com",
            "deployment_id": "prod-chat",
            "api_key": "a-key-of-contoso",
            "http_client": httpx2.Client(transport=transport),
            "async_http_client": httpx2.AsyncClient(transport=transport),
        }
        return AzureOpenAIClient(**{**defaults, **settings_})


async def ask(client: AzureOpenAIClient, verb: str, *args: Any, **settings_: Any) -> Response:
    call = getattr(client, verb)
    if verb == "achat":
        response = await call(*args, **settings_)
    elif verb == "astream_chat":
        response = [event async for event in call(*args, **settings_)][-1].response
    elif verb == "stream_chat":
        response = list(call(*args, **settings_))[-1].response
    else:
        response = call(*args, **settings_)
    assert isinstance(response, Response)
    return response


# ── corrected once, remembered ───────────────────────────────────────────────────────────


@every_verb
async def test_a_refused_parameter_is_left_out_and_the_next_call_knows(verb: str) -> None:
    model = Model(no_temperature)
    client = model.client()
    for _ in range(2):
        assert (await ask(client, verb, HELLO, options=WARM)).message == "Hi"
    assert ["temperature" in body for body in model.bodies] == [True, False, False]


@pytest.mark.parametrize(
    ("code", "param", "message"),
    [
        (None, None, "Unrecognized request argument supplied: max_completion_tokens"),
        ("unknown_parameter", "max_completion_tokens", "Unknown parameter: 'max_completion_tokens'."),
    ],
)
def test_a_parameter_that_is_too_new_for_the_api_goes_under_its_older_name(
    code: str | None, param: str | None, message: str
) -> None:
    def too_new(body: Body) -> httpx2.Response | None:
        return refusal(message, param, code) if "max_completion_tokens" in body else None

    model = Model(too_new)
    model.client(max_tokens=9).chat(HELLO)
    assert [body.get("max_tokens") for body in model.bodies] == [None, 9]


def test_several_unknown_arguments_are_left_out_one_by_one() -> None:
    def knows_neither(body: Body) -> httpx2.Response | None:
        unknown = [name for name in ("seed", "verbosity") if name in body]
        said = f"Unrecognized request arguments supplied: {', '.join(unknown)}"
        return refusal(said, None, None) if unknown else None

    model = Model(knows_neither)
    model.client().chat(HELLO, options=ChatOptions(seed=1, verbosity="low"))
    assert len(model.bodies) == 3


@every_verb
async def test_a_renamed_parameter_keeps_its_value(verb: str) -> None:
    model = Model(other_limit)
    client = model.client(max_tokens=77)
    for _ in range(2):
        await ask(client, verb, HELLO)
    assert [body.get("max_tokens") for body in model.bodies] == [None, 77, 77]
    assert all("max_completion_tokens" not in body for body in model.bodies[1:])


async def test_several_refusals_are_corrected_one_after_the_other() -> None:
    model = Model(no_temperature, other_limit)
    client = model.client()
    assert client.chat(HELLO, options=WARM).message == "Hi"
    client.chat(HELLO, options=WARM)
    assert len(model.bodies) == 4


def test_a_value_that_is_refused_leaves_the_parameters_other_values_alone() -> None:
    def knows_low_only(body: Body) -> httpx2.Response | None:
        if body.get("reasoning_effort") in {None, "low"}:
            return None
        text = "'reasoning_effort' does not support 'xhigh' with this model. Supported values are: 'low'."
        return refusal(text, "reasoning_effort", "unsupported_value")

    model = Model(knows_low_only)
    client = model.client()
    for effort in ("xhigh", "low", "xhigh"):
        client.chat(HELLO, options=ChatOptions(reasoning_effort=effort))
    assert [body.get("reasoning_effort") for body in model.bodies] == ["xhigh", None, "low", None]


def test_a_nested_parameter_is_left_out_alone() -> None:
    def no_verbosity(body: Body) -> httpx2.Response | None:
        return (
            refusal("Unsupported parameter", "text.verbosity")
            if "verbosity" in body.get("text", {})
            else None
        )

    model = Model(no_verbosity)
    schema = {"type": "json_schema", "json_schema": {"name": "A", "schema": {"type": "object"}}}
    options = ChatOptions(verbosity="low", response_format=schema)
    model.client(surface="responses").chat(HELLO, options=options)
    assert model.bodies[-1]["text"] == {
        "format": {"type": "json_schema", "name": "A", "schema": {"type": "object"}}
    }


@pytest.mark.parametrize(
    "param", ["messages", "response_format", "tools", "store", "nothing.at.all", "stream"]
)
def test_what_a_request_means_is_never_corrected_away(param: str) -> None:
    model = Model(lambda _: refusal("Unsupported parameter", param))
    options = ChatOptions(response_format={"type": "json_object"})
    with pytest.raises(UnsupportedParameterError):
        model.client().chat(HELLO, TOOLS, options=options)
    assert len(model.bodies) == 1


def test_what_the_user_adds_to_the_body_wins_over_a_renamed_parameter() -> None:
    model = Model(other_limit)
    model.client(max_tokens=77).chat(HELLO, options=ChatOptions(extra_body={"max_tokens": 5}))
    assert model.bodies[-1]["max_tokens"] == 5


def test_an_answer_that_is_no_success_still_teaches() -> None:
    """The corrected request was taken; that the filter stopped the answer is another matter."""

    def filtered(_: Body) -> httpx2.Response:
        return httpx2.Response(200, json={"choices": [{"message": {}, "finish_reason": "content_filter"}]})

    model = Model(no_temperature, filtered)
    client = model.client()
    for _ in range(2):
        with pytest.raises(ContentFilterError):
            client.chat(HELLO, options=WARM)
    assert len(model.bodies) == 3


# ── no circles, no lost errors ───────────────────────────────────────────────────────────


@every_verb
async def test_a_correction_that_does_not_help_raises_the_first_refusal(verb: str) -> None:
    model = Model(lambda _: refusal("'temperature' is not supported with this model", "temperature"))
    with pytest.raises(UnsupportedParameterError, match="temperature") as caught:
        await ask(model.client(), verb, HELLO, options=WARM)
    assert len(model.bodies) == 2
    assert caught.value.__context__ is None
    assert caught.value.param == "temperature"


def test_a_parameter_that_is_refused_under_both_names_is_given_up() -> None:
    def neither(body: Body) -> httpx2.Response | None:
        for name, other in (("max_tokens", "max_completion_tokens"), ("max_completion_tokens", "max_tokens")):
            if name in body:
                return refusal(f"'{name}' is not supported with this model. Use '{other}' instead.", name)
        return None

    model = Model(neither)
    assert model.client().chat(HELLO).message == "Hi"
    assert len(model.bodies) == 3


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": "context_length_exceeded", "message": "too long"}, ContextLengthError),
        (
            400,
            {"code": "invalid_value", "message": "bad role", "param": "messages[0].role"},
            InvalidRequestError,
        ),
        (400, {"code": "content_filter", "message": "blocked", "param": "prompt"}, ContentFilterError),
        (429, {"code": "429", "message": "slow down"}, RateLimitError),
    ],
)
def test_a_refusal_of_something_else_after_a_correction_is_the_error(
    status: int, error: dict[str, str], kind: type[LoomError]
) -> None:
    model = Model(no_temperature, lambda _: httpx2.Response(status, json={"error": error}))
    with pytest.raises(kind) as caught:
        model.client().chat(HELLO, options=WARM)
    assert type(caught.value) is kind
    assert caught.value.message == error["message"]


def test_a_refusal_inside_a_stream_that_has_begun_is_not_corrected() -> None:
    error = {"error": {"code": "unsupported_value", "message": "no", "param": "temperature", "status": 400}}
    delta = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    text = f"data: {json.dumps(delta)}\n\ndata: {json.dumps(error)}\n\n"
    model = Model(lambda _: httpx2.Response(200, text=text))
    with pytest.raises(LoomError):
        list(model.client().stream_chat(HELLO, options=WARM))
    assert len(model.bodies) == 1


NAMES = st.sampled_from(
    [
        "temperature",
        "max_completion_tokens",
        "max_tokens",
        "top_p",
        "seed",
        "user",
        "tools",
        "model",
        "text.format",
        "x",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(NAMES, st.sampled_from([None, "max_tokens", "top_p", "messages", "model"])), max_size=8
    )
)
def test_whatever_is_refused_the_tries_are_few_and_the_error_is_ours(
    said: list[tuple[str, str | None]],
) -> None:
    answers = iter(said)

    def refuses(_: Body) -> httpx2.Response | None:
        if (answer := next(answers, None)) is None:
            return None
        name, other = answer
        instead = f" Use '{other}' instead." if other else ""
        return refusal(f"'{name}' is not supported with this model.{instead}", name)

    model = Model(refuses)
    options = ChatOptions(temperature=0.2, top_p=0.3, seed=4, user="u")
    with suppress(UnsupportedParameterError):
        model.client().chat(HELLO, TOOLS, options=options)
    assert len(model.bodies) <= 9
    for body in model.bodies:
        assert body["messages"] == [{"role": "user", "content": "Hello"}]
        assert body["model"] == "prod-chat"
        assert body["tools"]


def test_lessons_that_are_applied_twice_change_nothing_more() -> None:
    lessons = Lessons({"a": "b"}, frozenset({"c.d"}), frozenset({("e", '"x"')}))
    body = {"a": 1, "c": {"d": 1}, "e": "x", "f": 2}
    once = lessons.apply(dict(body))
    assert once == {"b": 1, "f": 2}
    assert lessons.apply(dict(once)) == once


# ── many at once ─────────────────────────────────────────────────────────────────────────


async def test_a_hundred_tasks_learn_together_and_the_next_call_is_right_at_once() -> None:
    model = Model(no_temperature, other_limit)
    client = model.client()
    answers = await asyncio.gather(*(client.achat(HELLO, options=WARM) for _ in range(100)))
    assert {answer.message for answer in answers} == {"Hi"}
    before = len(model.bodies)
    await client.achat(HELLO, options=WARM)
    assert len(model.bodies) == before + 1


def test_a_hundred_calls_in_threads_learn_together() -> None:
    model = Model(no_temperature, other_limit)
    client = model.client()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.chat(HELLO, options=WARM).message, range(100)))
    assert answers == ["Hi"] * 100
    before = len(model.bodies)
    client.chat(HELLO, options=WARM)
    assert len(model.bodies) == before + 1


# ── the other surface ────────────────────────────────────────────────────────────────────

NEEDS = (
    "Function tools with reasoning_effort are not supported for gpt-5.6-terra in /v1/chat/completions."
    " To use function tools, use /v1/responses or set reasoning_effort to 'none'."
)


def tools_need_responses(body: Body) -> httpx2.Response | None:
    return refusal(NEEDS, "reasoning_effort", None) if "messages" in body and "tools" in body else None


def chat_is_unknown(body: Body) -> httpx2.Response | None:
    text = "This model is only supported in v1/responses and not in v1/chat/completions."
    return refusal(text, "model", "invalid_value") if "messages" in body else None


def chat_does_not_work(body: Body) -> httpx2.Response | None:
    text = (
        "The chatCompletion operation does not work with the specified model, gpt-5-codex."
        " Please choose different model and try again."
    )
    return refusal(text, None, "OperationNotSupported") if "messages" in body else None


@every_verb
async def test_tools_go_to_responses_once_azure_says_so_and_plain_calls_do_not(verb: str) -> None:
    model = Model(tools_need_responses)
    client = model.client()
    for tools in (TOOLS, TOOLS, ()):
        assert (await ask(client, verb, HELLO, tools)).message == "Hi"
    kinds = ["responses" if path.endswith("/responses") else "chat" for path in model.paths]
    assert kinds == ["chat", "responses", "responses", "chat"]


def test_the_reasoning_of_a_model_that_was_learned_of_is_asked_for() -> None:
    model = Model(tools_need_responses)
    model.client().chat(HELLO, TOOLS)
    assert model.bodies[-1]["include"] == ["reasoning.encrypted_content"]


@pytest.mark.parametrize("rule", [chat_is_unknown, chat_does_not_work])
def test_a_model_that_answers_on_responses_only_is_asked_there_from_then_on(rule: Rule) -> None:
    model = Model(rule)
    client = model.client()
    for _ in range(2):
        assert client.chat(HELLO).metadata["surface"] == "responses"
    assert len(model.paths) == 3


def test_a_model_of_another_kind_is_not_asked_elsewhere() -> None:
    text = "The chatCompletion operation does not work with the specified model, text-embedding-ada-002."
    model = Model(lambda _: refusal(text, None, "OperationNotSupported"))
    with pytest.raises(InvalidRequestError, match="text-embedding-ada-002"):
        model.client().chat(HELLO)
    assert len(model.paths) == 1


@pytest.mark.parametrize("surface", ["chat", "responses"])
def test_a_surface_that_was_named_is_never_left(surface: str) -> None:
    model = Model(lambda _: refusal(NEEDS, "reasoning_effort", None))
    with pytest.raises(UnsupportedParameterError, match="Function tools"):
        model.client(surface=surface).chat(HELLO, TOOLS)
    assert len(model.paths) == 1


def test_a_surface_that_is_not_there_either_leaves_the_first_refusal() -> None:
    def nowhere(body: Body) -> httpx2.Response | None:
        return (
            httpx2.Response(404, json={"error": {"code": "404", "message": "Resource not found"}})
            if "input" in body
            else None
        )

    model = Model(tools_need_responses, nowhere)
    with pytest.raises(UnsupportedParameterError, match="Function tools"):
        model.client().chat(HELLO, TOOLS)
    assert len(model.paths) == 2


def test_a_request_that_the_other_surface_cannot_hold_leaves_the_first_refusal() -> None:
    model = Model(tools_need_responses)
    with pytest.raises(UnsupportedParameterError, match="Function tools") as caught:
        model.client().chat(HELLO, TOOLS, options=ChatOptions(stop="END"))
    assert caught.value.__context__ is None
    assert len(model.paths) == 1


def test_reasoning_that_another_resource_encrypted_is_left_behind() -> None:
    def cannot_decrypt(body: Body) -> httpx2.Response | None:
        if not any(item.get("type") == "reasoning" for item in body["input"]):
            return None
        return refusal("The encrypted content could not be verified.", None, "invalid_encrypted_content")

    entries = [
        {"type": "reasoning", "encrypted_content": "gAAA", "summary": []},
        {"type": "message", "characters": 2},
    ]
    said = Message("assistant", "Hm", provider_data={"azure_responses": {"output": entries}})
    model = Model(cannot_decrypt)
    client = model.client(surface="responses")
    assert client.chat([*HELLO, said, *HELLO]).message == "Hi"
    assert len(model.bodies) == 2


# ── 401 ──────────────────────────────────────────────────────────────────────────────────


class Tokens:
    """Tokens that are kept until they are forgotten, as a credential object gives them."""

    def __init__(self) -> None:
        self.given = 0
        self._lock = threading.Lock()

    def get_token(self, *_: str) -> Any:
        with self._lock:
            self.given += 1

        class Token:
            token = f"entra-token-{self.given:04}"
            expires_on = 4e9

        return Token()


class Gate:
    """Admits one bearer token or key only."""

    def __init__(self, admitted: str) -> None:
        self.admitted = admitted
        self.seen: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        sent = request.headers.get("authorization", "").removeprefix("Bearer ") or request.headers.get(
            "api-key", ""
        )
        self.seen.append(sent)
        if sent != self.admitted:
            return httpx2.Response(
                401, json={"statusCode": 401, "message": f"Unauthorized: {sent} has expired."}
            )
        body = json.loads(request.content)
        return Model().answer("input" in body, bool(body.get("stream")))


def guarded(gate: Gate, **settings_: Any) -> AzureOpenAIClient:
    transport = httpx2.MockTransport(gate)
    clients = {
        "http_client": httpx2.Client(transport=transport),
        "async_http_client": httpx2.AsyncClient(transport=transport),
    }
    defaults: dict[str, Any] = {"endpoint": "https://contoso.openai.azure.com", "deployment_id": "gpt-4o"}
    return AzureOpenAIClient(**{**defaults, **clients, **settings_})


@every_verb
@pytest.mark.parametrize("api", ["classic", "v1"])
async def test_a_refused_token_is_renewed_once(verb: str, api: str) -> None:
    gate, tokens = Gate("entra-token-0002"), Tokens()
    assert (await ask(guarded(gate, credential=tokens, api=api), verb, HELLO)).message == "Hi"
    assert gate.seen == ["entra-token-0001", "entra-token-0002"]


@every_verb
@pytest.mark.parametrize("api", ["classic", "v1"])
async def test_a_token_that_is_refused_again_is_an_error_that_does_not_show_it(verb: str, api: str) -> None:
    gate, tokens = Gate("none of them"), Tokens()
    with pytest.raises(AuthenticationError) as caught:
        await ask(guarded(gate, credential=tokens, api=api), verb, HELLO)
    assert len(gate.seen) == 2
    assert "entra-token" not in f"{caught.value!s} {caught.value!r} {caught.value.to_dict()}"


@pytest.mark.parametrize("api", ["classic", "v1"])
async def test_a_hundred_calls_with_one_refused_token_renew_it_once(api: str) -> None:
    gate, tokens = Gate("entra-token-0002"), Tokens()
    client = guarded(gate, credential=tokens, api=api)
    answers = await asyncio.gather(*(client.achat(HELLO) for _ in range(100)))
    assert {answer.message for answer in answers} == {"Hi"}
    assert tokens.given == 2


async def test_a_token_that_is_no_longer_the_newest_is_not_shown_either() -> None:
    """Two calls are under way with tokens of their own; the older one's is echoed last."""
    first_may_end = asyncio.Event()
    numbers = iter("12")

    async def echo(request: httpx2.Request) -> httpx2.Response:
        sent = request.headers["authorization"]
        if sent.endswith("1"):
            await first_may_end.wait()
        return httpx2.Response(403, json={"error": {"code": "x", "message": f"not with {sent}"}})

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(echo))
    settings_: dict[str, Any] = {"token_provider": lambda: f"token-number-{next(numbers)}"}
    client = guarded(Gate("x"), async_http_client=http, **settings_)
    first = asyncio.ensure_future(client.achat(HELLO))
    await asyncio.sleep(0.05)
    with pytest.raises(LoomError):
        await client.achat(HELLO)
    first_may_end.set()
    with pytest.raises(LoomError) as caught:
        await first
    assert "token-number" not in str(caught.value)


@pytest.mark.parametrize("api", ["classic", "v1"])
def test_a_hundred_threads_with_one_refused_token_renew_it_once(api: str) -> None:
    gate, tokens = Gate("entra-token-0002"), Tokens()
    client = guarded(gate, credential=tokens, api=api)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(lambda _: client.chat(HELLO).message, range(100))) == {"Hi"}
    assert tokens.given == 2


@pytest.mark.parametrize("settings_", [{"api_key": "a-static-key"}, {"entra_token": "a-static-token"}])
def test_a_static_credential_that_is_refused_is_not_tried_again(settings_: dict[str, str]) -> None:
    gate = Gate("something else")
    with pytest.raises(AuthenticationError):
        guarded(gate, **settings_).chat(HELLO)
    assert len(gate.seen) == 1


def test_a_credential_that_fails_by_itself_is_not_asked_twice() -> None:
    asked = []

    def fails() -> str:
        asked.append(1)
        raise RuntimeError("no identity here")

    gate = Gate("x")
    with pytest.raises(AuthenticationError, match="no identity here"):
        guarded(gate, token_provider=fails).chat(HELLO)
    assert (len(asked), gate.seen) == (1, [])


def test_a_404_is_not_sent_again() -> None:
    model = Model(
        lambda _: httpx2.Response(404, json={"error": {"code": "404", "message": "Resource not found"}})
    )
    with pytest.raises(NotFoundError):
        model.client().chat(HELLO)
    assert len(model.paths) == 1
