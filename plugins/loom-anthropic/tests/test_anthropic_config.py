"""Settings: where they come from, and what is said of wrong ones."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from loom_anthropic import MODELS, AnthropicConfig, AnthropicProvider, claude_model, create_provider
from loom_py.errors import BuilderError, ConfigError, InvalidEndpointError, MissingAuthError
from loom_py.llm.registry import create_provider as create
from loom_py.messages import TokenUsage
from loom_py.options import ChatOptions

KEY = "sk-ant-test-0123456789"


def resolve(**settings: Any) -> AnthropicConfig:
    return AnthropicConfig.resolve({"api_key": KEY, "model": "claude-sonnet-4-6", **settings})


def test_the_environment_gives_what_no_argument_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_MODEL", "claude-opus-5-5")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://gateway.example/claude/v1/messages/")
    provider = create_provider()
    assert (provider.model, provider.endpoint) == ("claude-opus-5-5", "https://gateway.example/claude")
    described = provider.describe().to_dict()
    assert described["api_key"] == {"value": "sk-a...6789", "source": "environment (ANTHROPIC_API_KEY)"}
    assert KEY not in f"{described}{provider!r}{provider.config!r}"


def test_an_own_token_keeps_the_key_of_the_environment_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    config = AnthropicConfig.resolve({"auth_token": "Bearer token-123456", "model": "claude-opus-5-5"})
    assert config.api_key is None
    assert config.auth_token is not None
    assert config.auth_token.get_secret_value() == "token-123456"


def test_everything_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(BuilderError) as caught:
        create_provider(timeout=0)
    assert {problem.field for problem in caught.value.problems} == {"model", "api_key", "timeout"}
    assert "ANTHROPIC_AUTH_TOKEN" in str(caught.value)


def test_a_missing_credential_is_its_own_error() -> None:
    with pytest.raises(MissingAuthError):
        create_provider(model="claude-opus-5-5")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"api_key": "two\nlines"}, "one line"),
        ({"base_url": "api.anthropic.com"}, "must be a URL"),
        ({"base_url": "http://api.anthropic.com"}, "must use https"),
        ({"base_url": "https://api.anthropic.com?x=1"}, "query"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"thinking": 100}, "1024 tokens or more"),
        ({"thinking": True}, "budget in tokens"),
        ({"thinking": "lots"}, "budget in tokens"),
        ({"thinking": 5000, "max_tokens": 5000}, "must be less than max_tokens"),
        ({"thinking": 5000, "model": "claude-opus-5-5"}, "takes no budget"),
        ({"thinking": "off", "model": "claude-opus-5-5"}, "always thinks"),
        ({"thinking": "adaptive", "model": "claude-haiku-4-5"}, "does not think adaptively"),
        ({"prompt_caching": "2h"}, "prompt_caching"),
        ({"betas": ["a,b"]}, "without commas"),
    ],
)
def test_wrong_settings_are_refused_with_their_reason(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        resolve(**settings)
    assert "two\nlines" not in str(caught.value)


def test_a_wrong_base_url_is_an_endpoint_error_and_loopback_needs_no_tls() -> None:
    with pytest.raises(InvalidEndpointError):
        resolve(base_url="ftp://x")
    assert resolve(base_url="http://127.0.0.1:8080/").base_url == "http://127.0.0.1:8080"


def test_the_registry_finds_the_provider_by_name() -> None:
    provider = create("anthropic:claude-opus-5-5", api_key=KEY)
    assert isinstance(provider, AnthropicProvider)
    assert (provider.name, provider.model) == ("anthropic", "claude-opus-5-5")


def test_a_dated_model_is_its_family_and_an_unknown_one_is_not_guessed() -> None:
    assert claude_model("claude-haiku-4-5-20251001") is MODELS["claude-haiku-4-5"]
    assert claude_model("claude-opus-9").profile.context_window is None
    assert not claude_model("claude-opus-9").sampling
    assert claude_model("house-model").sampling
    for model in MODELS.values():
        assert model.profile.vision
        assert (model.profile.context_window or 0) > (model.profile.max_output or 0)


def provider(model: str, **settings: Any) -> AnthropicProvider:
    return AnthropicProvider(api_key=KEY, model=model, **settings)


def test_the_limit_of_a_reply_is_what_will_be_sent() -> None:
    claude = provider("claude-sonnet-4-6", max_tokens=100)
    assert claude.output_limit() == 100
    assert claude.output_limit(ChatOptions(max_tokens=7)) == 7
    assert claude.output_limit(ChatOptions(extra_body={"max_tokens": 9})) == 9


# ── prices ───────────────────────────────────────────────────────────────────────────────


def test_the_listed_prices_are_those_of_the_package_they_come_from() -> None:
    from loom_anthropic.prices import price_table

    data = pytest.importorskip("genai_prices.data")
    listed = next(one for one in data.providers if one.id == "anthropic").models
    for name in price_table().models:
        theirs = next((model for model in listed if model.id == name), None)
        if theirs is None or isinstance(theirs.prices, list):
            continue
        ours, prices = price_table().get(name), theirs.prices
        assert ours is not None
        first = getattr(prices.input_mtok, "base", prices.input_mtok)
        assert (ours.input, ours.cached_input) == (
            first,
            getattr(prices.cache_read_mtok, "base", prices.cache_read_mtok),
        )
        assert ours.output == getattr(prices.output_mtok, "base", prices.output_mtok)
        assert ours.cache_write == getattr(prices.cache_write_mtok, "base", prices.cache_write_mtok)


def test_each_kind_of_token_has_its_price() -> None:
    from loom_anthropic.prices import ClaudePrices

    usage = TokenUsage(1_000_000, 100_000, cached_input=500_000, cache_writes=200_000)
    cost = ClaudePrices("claude-sonnet-4-6").cost(usage, "claude-sonnet-4-6")
    assert (cost.uncached_input, cost.cached_input) == (Decimal("0.9"), Decimal("0.15"))
    assert (cost.cache_writes, cost.output) == (Decimal("0.75"), Decimal("1.5"))
    hour = ClaudePrices("claude-sonnet-4-6", ttl="1h").cost(usage, "claude-sonnet-4-6")
    assert hour.cache_writes == Decimal("1.2")


def test_a_long_prompt_costs_the_long_price_where_there_is_one() -> None:
    from loom_anthropic.prices import ClaudePrices

    haiku = ClaudePrices("claude-haiku-5-5")
    assert haiku.cost(TokenUsage(100_000, 0)).usd == Decimal("0.01")
    assert haiku.cost(TokenUsage(100_001, 0)).usd == Decimal("0.0500005")


def test_the_worst_cost_is_never_less_than_the_cost() -> None:
    claude = provider("claude-haiku-5-5", prompt_caching="1h")
    usage = TokenUsage(150_000, 1000, cache_writes=150_000)
    cost = claude._prices.cost(usage, "claude-haiku-5-5").usd
    worst = claude.worst_cost(150_000, 1000).usd
    assert cost is not None
    assert worst is not None
    assert worst >= cost


def test_own_prices_win_and_unknown_ones_are_unknown() -> None:
    own = provider("claude-opus-9", prices={"claude-opus-9": {"input": 1, "output": 2}})
    assert own.worst_cost(1_000_000, 0).usd == Decimal(1)
    unknown = provider("claude-opus-9").worst_cost(1000, 0)
    assert unknown.usd is None
    assert "claude-opus-9" in (unknown.reason or "")
    priority = provider("claude-opus-5-5")._prices.cost(TokenUsage(1000, 1), "claude-opus-5-5", "priority")
    assert priority.usd is None
