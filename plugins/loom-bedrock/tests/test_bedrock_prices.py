"""What calls cost, and when that is not known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_bedrock import BedrockProvider, price_of
from loom_bedrock.emulator import BedrockEmulator
from loom_bedrock.models import parse_model_id
from loom_bedrock.prices import _rows
from loom_bedrock.profiles import caches_prompts, profile_of
from loom_py import ScriptedProvider, reply
from loom_py.errors import ContentFilterError
from loom_py.llm.prices import ModelPrice
from loom_py.llm.profiles import UNKNOWN_PROFILE
from loom_py.messages import Message, TokenUsage
from loom_py.options import ChatOptions

Serve = Callable[..., tuple[BedrockEmulator, BedrockProvider]]
HELLO = [Message.user("Hello")]
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
KEYS: dict[str, Any] = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "secret-secret"}


@pytest.mark.parametrize(
    ("model", "name", "geography"),
    [
        (SONNET, "anthropic.claude-sonnet-4-5-20250929", ""),
        (f"us.{SONNET}", "anthropic.claude-sonnet-4-5-20250929", "us"),
        (f"us-gov.{SONNET}", "anthropic.claude-sonnet-4-5-20250929", "us-gov"),
        ("global.anthropic.claude-opus-5", "anthropic.claude-opus-5", "global"),
        ("moonshotai.kimi-k3.1", "moonshotai.kimi-k3.1", ""),
        ("anthropic.claude-3-sonnet-20240229-v1:0:200k", "anthropic.claude-3-sonnet-20240229", ""),
        ("mistral.mistral-7b-instruct-v0:2", "mistral.mistral-7b-instruct", ""),
        (
            f"arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.{SONNET}",
            "anthropic.claude-sonnet-4-5-20250929",
            "eu",
        ),
        (f"arn:aws:bedrock:us-east-1::foundation-model/{SONNET}", "anthropic.claude-sonnet-4-5-20250929", ""),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", None, ""),
    ],
)
def test_a_model_id_is_taken_apart(model: str, name: str | None, geography: str) -> None:
    parts = parse_model_id(model)
    assert (parts.name, parts.geography) == (name, geography)


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_id_is_too_odd_to_be_looked_at(text: str) -> None:
    parts = parse_model_id(text)
    profile_of(parts.name)
    assert price_of(text) is None or parts.name is not None


@pytest.mark.parametrize(
    ("model", "region", "input_price"),
    [
        (f"global.{SONNET}", "us-east-1", "3"),
        (f"us.{SONNET}", "us-east-1", "3.3"),
        (f"eu.{SONNET}", "eu-west-1", "3.3"),
        (SONNET, "eu-west-1", "3.3"),
        (SONNET, "us-gov-west-1", None),
        ("amazon.nova-lite-v1:0", "us-west-2", "0.06"),
        ("us.amazon.nova-lite-v1:0", "us-west-2", "0.06"),
        ("amazon.nova-lite-v1:0", "eu-central-1", None),
        ("eu.amazon.nova-lite-v1:0", "eu-central-1", None),
        ("acme.model-1-v1:0", "us-east-1", None),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", "us-east-1", None),
    ],
)
def test_a_price_holds_where_the_list_says_so_and_nowhere_else(
    model: str, region: str, input_price: str | None
) -> None:
    row = price_of(model, region)
    assert (None if row is None else row.price.input) == (
        None if input_price is None else Decimal(input_price)
    )
    if row is not None:
        assert "genai-prices" in row.source
        assert row.date


def test_a_price_that_changed_goes_by_the_day_of_the_call() -> None:
    before = price_of("global.openai.gpt-5.6-sol", at=dt.date(2026, 8, 20))
    after = price_of("global.openai.gpt-5.6-sol", at=dt.date(2026, 8, 21))
    assert before is not None
    assert after is not None
    assert (before.price.input, after.price.input) == (Decimal(5), Decimal(4))


def test_every_listed_price_can_be_found_and_cached_input_costs_no_more() -> None:
    for name, rows in _rows().items():
        for scopes, row in rows:
            scope = min(scopes)
            model = name if scope.startswith("region") else f"{scope}.{name}"
            assert price_of(model, at=row.valid_from or row.valid_to) is not None
            assert row.price.cached_input is None or row.price.cached_input <= row.price.input


def test_a_call_is_priced_part_by_part_and_never_twice(serve: Serve) -> None:
    used = TokenUsage(10_000, 1_000, cached_input=6_000, cache_writes=3_000)
    _, provider = serve(ScriptedProvider([reply("Hi", tokens=used)] * 2), model=f"us.{SONNET}")
    response = provider.chat(HELLO)
    assert response.tokens_used == used
    wanted = (
        Decimal("3.3") * 1_000 + Decimal("0.33") * 6_000 + Decimal("4.125") * 3_000 + Decimal("16.5") * 1_000
    ) / 10**6
    assert response.cost_usd == wanted
    assert response.metadata["cost"]["cache_writes"] == "0.012375"
    last = list(provider.stream_chat(HELLO))[-1].response
    assert last is not None
    assert last.cost_usd == wanted


def test_the_users_own_price_and_model_name_come_first(serve: Serve) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
    used = TokenUsage(1_000_000, 0)
    engine = ScriptedProvider([reply("Hi", tokens=used)] * 3)
    _, own = serve(engine, model=arn, prices={arn: ModelPrice(7, 8)})
    assert own.chat(HELLO).cost_usd == Decimal(7)
    _, named = serve(ScriptedProvider([reply("Hi", tokens=used)]), model=arn, model_name=f"us.{SONNET}")
    assert named.chat(HELLO).cost_usd == Decimal("3.3")
    assert named.profile.vision
    _, unknown = serve(ScriptedProvider([reply("Hi", tokens=used)]), model=arn)
    response = unknown.chat(HELLO)
    assert response.cost_usd is None
    assert "no price" in response.metadata["cost"]["reason"]


def test_another_tier_and_longer_caching_have_no_price() -> None:
    costs = _bounded()._costs
    used = TokenUsage(1000, 10, 0, 500)
    assert costs.cost(used, {"service_tier": "default"}).is_known
    assert not costs.cost(used, {"service_tier": "priority"}).is_known
    assert costs.cost(used, {"cache_details": [{"ttl": "5m", "inputTokens": 500}]}).is_known
    longer = costs.cost(used, {"cache_details": [{"ttl": "1h", "inputTokens": 500}]})
    assert "longer than 5 minutes" in (longer.reason or "")


def test_a_router_is_priced_by_the_model_it_chose() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:default-prompt-router/anthropic.claude:1"
    made = BedrockProvider(model=arn, region="us-east-1", **KEYS)
    chosen = f"arn:aws:bedrock:us-east-1::foundation-model/{SONNET}"
    assert made._costs.cost(TokenUsage(10**6, 0), {"routed_to": chosen}).usd == Decimal("3.3")
    assert not made._costs.cost(TokenUsage(10**6, 0)).is_known


def test_provisioned_throughput_has_no_price_per_token(serve: Serve) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghijkl"
    _, provider = serve(model=arn, model_name=SONNET)
    assert "by the hour" in provider.chat(HELLO).metadata["cost"]["reason"]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**5), st.data())
def test_no_call_costs_more_than_was_said_before(tokens: int, output: int, data: st.DataObject) -> None:
    provider = _bounded()
    cached = data.draw(st.integers(0, tokens))
    written = data.draw(st.integers(0, tokens - cached))
    cost = provider._costs.cost(TokenUsage(tokens, output, cached, written))
    most = provider.worst_cost(tokens, output)
    assert most.usd is not None
    assert (cost.usd or 0) <= most.usd


_kept: list[BedrockProvider] = []


def _bounded() -> BedrockProvider:
    if not _kept:
        _kept.append(BedrockProvider(model="global.openai.gpt-6-luna", region="us-east-1", **KEYS))
    return _kept[0]


def test_the_limit_of_a_reply_is_what_will_be_sent() -> None:
    made = BedrockProvider(model=f"us.{SONNET}", region="us-east-1", **KEYS)
    assert made.output_limit() == 8192
    assert made.output_limit(ChatOptions(max_tokens=9)) == 9
    assert made.output_limit(ChatOptions(extra_body={"inferenceConfig": {"maxTokens": 77}})) == 77
    assert BedrockProvider(model="acme.m-v1:0", region="us-east-1", **KEYS).output_limit() is None


def test_what_a_filtered_answer_cost_is_on_its_error(serve: Serve) -> None:
    blocked = ContentFilterError("no", side="completion", tokens_used=TokenUsage(1_000_000, 0))
    _, provider = serve(ScriptedProvider([blocked]), model=f"us.{SONNET}")
    with pytest.raises(ContentFilterError) as caught:
        provider.chat(HELLO)
    assert caught.value.cost_usd == Decimal("3.3")


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        (f"us.{SONNET}", {"vision": True, "structured_output": True, "context_window": 200_000}),
        ("anthropic.claude-3-haiku-20240307-v1:0", {"max_output": 4_096, "structured_output": False}),
        ("us.amazon.nova-micro-v1:0", {"vision": False, "context_window": 128_000}),
        ("meta.llama3-8b-instruct-v1:0", {"tools": False}),
    ],
)
def test_a_profile_says_what_is_documented(model: str, facts: dict[str, Any]) -> None:
    profile = profile_of(parse_model_id(model).name)
    assert {name: getattr(profile, name) for name in facts} == facts


def test_of_an_unknown_model_nothing_is_said() -> None:
    assert profile_of("acme.model") is UNKNOWN_PROFILE
    assert profile_of(None) is UNKNOWN_PROFILE
    assert not caches_prompts("acme.model")
    assert caches_prompts("anthropic.claude-opus-4-5")
    assert not caches_prompts("anthropic.claude-3-haiku-20240307")
