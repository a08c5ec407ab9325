"""What an Azure client can tell of a call before it is made: where, how long, and for how much."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from loom_py import AzureOpenAIClient, Message, Response
from loom_py.emulator import AzureEmulator, Quota
from loom_py.errors import LoomError
from loom_py.options import ChatOptions

HELLO = [Message.user("Hello")]


def client_of(deployment: str = "gpt-4o", **settings: Any) -> AzureOpenAIClient:
    defaults: dict[str, Any] = {"endpoint": "https://contoso.openai.azure.com", "api_key": "a-key"}
    return AzureOpenAIClient(deployment_id=deployment, **{**defaults, **settings})


def answering(model: str, tier: str | None = None, finish: str = "stop") -> httpx2.Client:
    body = {
        "model": model,
        "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500},
        **({"service_tier": tier} if tier else {}),
    }
    answer = httpx2.Response(200, content=json.dumps(body))
    return httpx2.Client(transport=httpx2.MockTransport(lambda _: answer))


# ── where and how long ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "endpoint", ["https://Contoso.openai.azure.com/", "https://Contoso.openai.azure.com/openai/v1"]
)
def test_the_endpoint_is_told_in_one_spelling(endpoint: str) -> None:
    assert client_of(endpoint=endpoint).endpoint == "https://Contoso.openai.azure.com"


def test_the_timeout_is_the_clients_own() -> None:
    assert client_of(timeout=12).timeout == 12
    assert client_of().timeout == 60


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        (None, 4096),
        (ChatOptions(), 4096),
        (ChatOptions(max_tokens=7), 7),
        (ChatOptions(max_tokens=7, extra_body={"n": 3}), 21),
        (ChatOptions(extra_body={"max_completion_tokens": 9}), 9),
        (ChatOptions(extra_body={"max_completion_tokens": 9, "n": 2}), 18),
        (ChatOptions(extra_body={"max_tokens": 9000}), 9000),  # beside the 4096: the larger counts
        (ChatOptions(extra_body={"n": "3"}), 4096),
        (ChatOptions(extra_body={"max_completion_tokens": None}), 16_384),  # the model's own
    ],
)
def test_a_reply_has_no_more_tokens_than_the_request_says(options: ChatOptions | None, limit: int) -> None:
    assert client_of().output_limit(options) == limit


def test_the_limit_goes_by_the_surface_s_own_name() -> None:
    client = client_of("gpt-5", surface="responses")
    assert client.output_limit(ChatOptions(extra_body={"max_output_tokens": 9})) == 9


def test_a_model_of_unknown_length_without_a_limit_has_none() -> None:
    client = client_of("prod")
    assert client.output_limit() == 4096
    assert client.output_limit(ChatOptions(extra_body={"max_completion_tokens": None})) is None


def test_a_limit_that_the_deployment_refuses_is_none() -> None:
    refusal = {"message": "Unsupported parameter", "code": "unsupported_parameter"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent = json.loads(request.content)
        for name in ("max_completion_tokens", "max_tokens"):
            if name in sent:
                error = {"error": {**refusal, "param": name}}
                return httpx2.Response(400, content=json.dumps(error))
        choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
        return httpx2.Response(200, content=json.dumps({"choices": [choice]}))

    client = client_of("prod", http_client=httpx2.Client(transport=httpx2.MockTransport(answer)))
    client.chat(HELLO)
    assert client.output_limit() is None


# ── for how much ─────────────────────────────────────────────────────────────────────────


def test_the_model_that_answered_last_is_reckoned_with() -> None:
    client = client_of("gpt-4o-mini", http_client=answering("gpt-4o-2024-11-20"))
    before = client.worst_cost(1000, 500).usd
    response = client.chat(HELLO)
    after = client.worst_cost(1000, 500).usd
    assert before is not None
    assert before < Decimal("0.001")
    assert after == response.cost_usd == Decimal("0.0075")


def test_what_is_said_of_the_deployment_still_counts_if_it_is_dearer() -> None:
    client = client_of("gpt-4o", http_client=answering("gpt-4o-mini-2024-07-18"))
    client.chat(HELLO)
    assert client.worst_cost(1000, 500).usd == Decimal("0.0075")


def test_an_answer_that_failed_tells_the_model_too() -> None:
    client = client_of("prod", http_client=answering("gpt-4o-2024-11-20", finish="content_filter"))
    assert client.worst_cost(1000, 500).usd is None
    with pytest.raises(LoomError):
        client.chat(HELLO)
    assert client.worst_cost(1000, 500).usd == Decimal("0.0075")


def test_a_tier_that_is_asked_for_or_was_reported_is_reckoned_with() -> None:
    client = client_of("gpt-4.1", http_client=answering("gpt-4.1", "priority"))
    standard = client.worst_cost(1000, 500).usd
    dear = client.worst_cost(1000, 500, options=ChatOptions(extra_body={"service_tier": "auto"})).usd
    assert standard is not None
    assert dear is not None
    assert dear > standard
    response = client.chat(HELLO)
    assert client.worst_cost(1000, 500).usd == response.cost_usd == dear


def test_a_router_and_an_unknown_model_have_no_worst_cost() -> None:
    assert "router" in (client_of("model-router").worst_cost(1, 1).reason or "")
    assert client_of("prod").worst_cost(1, 1).reason == "no model is known for prod"


def test_own_prices_are_the_worst_cost() -> None:
    client = client_of("prod", prices={"prod": {"input": 1, "output": 2}})
    assert client.worst_cost(1_000_000, 1_000_000).usd == Decimal(3)


# ── what is left of the quota ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ["chat", "stream_chat"])
def test_an_answer_tells_the_quota_and_what_is_left_of_it(verb: str) -> None:
    quotas = {"gpt-4o-deployment": Quota(60_000, 600)}
    with AzureEmulator(quotas=quotas) as azure, AzureOpenAIClient(**azure.client_kwargs()) as client:
        found = getattr(client, verb)(HELLO)
        response = found if isinstance(found, Response) else list(found)[-1].response
    told = {name: int(response.metadata[name]) for name in ("limit_tokens", "limit_requests")}
    assert told == {"limit_tokens": 60_000, "limit_requests": 600}
    assert int(response.metadata["remaining_tokens"]) < 60_000
