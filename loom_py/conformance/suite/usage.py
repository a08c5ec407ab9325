"""Tokens and money: as reported, never twice, and never guessed."""

from __future__ import annotations

from decimal import Decimal

from loom_py.conformance.scenario import VERBS, Stage, expect, expect_equal, scenario
from loom_py.conformance.script import Answer, Failure, Script
from loom_py.errors import ContentFilterError, IncompleteResponseError
from loom_py.messages import Response, TokenUsage


@scenario("usage/as-reported", "usage")
def as_reported(stage: Stage) -> None:
    """Input and output tokens are those the service reports."""
    with stage.provider(Answer("Hello.", usage=TokenUsage(1234, 567))) as provider:
        for verb in VERBS:
            used = stage.call(provider, verb).whole().tokens_used
            expect_equal((used.input, used.output, used.total), (1234, 567, 1801), "input, output and total")


@scenario("usage/cached-is-part-of-input", "usage", "cached_usage")
def cached_is_part_of_input(stage: Stage) -> None:
    """Cached tokens are a part of the input, not added to it."""
    with stage.provider(Answer("Hello.", usage=TokenUsage(2000, 10, cached_input=1920))) as provider:
        for verb in VERBS:
            used = stage.call(provider, verb).whole().tokens_used
            expect_equal((used.input, used.cached_input), (2000, 1920), "input and cached input")


@scenario("usage/reasoning-is-part-of-output", "usage", "reasoning_usage")
def reasoning_is_part_of_output(stage: Stage) -> None:
    """Reasoning tokens are a part of the output, not added to it."""
    with stage.provider(Answer("Hello.", usage=TokenUsage(50, 700, reasoning=640))) as provider:
        for verb in VERBS:
            used = stage.call(provider, verb).whole().tokens_used
            expect_equal((used.output, used.reasoning), (700, 640), "output and reasoning")


@scenario("usage/of-each-call", "usage")
def of_each_call(stage: Stage) -> None:
    """A response has the tokens of its own call, not a running sum."""
    answers = [Answer("One.", usage=TokenUsage(10, 1)), Answer("Two.", usage=TokenUsage(20, 2))]
    with stage.provider(*answers) as provider:
        seen = [stage.call(provider, "chat").whole().tokens_used.total for _ in answers]
    expect_equal(seen, [11, 22], "the totals")


@scenario("usage/cost-is-decimal", "usage", "prices")
def cost_is_decimal(stage: Stage) -> None:
    """The cost of a call is a Decimal above zero."""
    with stage.provider(Answer("Hello.", usage=TokenUsage(1000, 1000))) as provider:
        for verb in VERBS:
            cost = stage.call(provider, verb).whole().cost_usd
            expect(isinstance(cost, Decimal) and cost > 0, f"a Decimal above 0 from {verb}", repr(cost))


@scenario("usage/cost-adds-up", "usage", "prices")
def cost_adds_up(stage: Stage) -> None:
    """Twice the tokens cost twice the money, to the last digit."""
    with stage.provider(
        Answer("Once.", usage=TokenUsage(333, 77)), Answer("Twice.", usage=TokenUsage(666, 154))
    ) as provider:
        once, twice = _cost(stage.call(provider, "chat").whole()), _cost(stage.call(provider, "chat").whole())
    expect_equal(twice, 2 * once, "the cost of twice the tokens")


@scenario("usage/cached-costs-no-more", "usage", "cached_usage", "prices")
def cached_costs_no_more(stage: Stage) -> None:
    """Input that was cached costs no more than input that was not."""
    with stage.provider(
        Answer("Cold.", usage=TokenUsage(4000, 10)),
        Answer("Warm.", usage=TokenUsage(4000, 10, cached_input=3968)),
    ) as provider:
        cold, warm = _cost(stage.call(provider, "chat").whole()), _cost(stage.call(provider, "chat").whole())
    expect(warm <= cold, f"at most {cold} USD", f"{warm} USD")


@scenario("usage/reasoning-costs-once", "usage", "reasoning_usage", "prices")
def reasoning_costs_once(stage: Stage) -> None:
    """Output costs the same whether part of it was reasoning or not."""
    with stage.provider(
        Answer("Plain.", usage=TokenUsage(100, 500)),
        Answer("Deep.", usage=TokenUsage(100, 500, reasoning=400)),
    ) as provider:
        plain, deep = _cost(stage.call(provider, "chat").whole()), _cost(stage.call(provider, "chat").whole())
    expect_equal(deep, plain, "the cost of output with reasoning in it")


@scenario("usage/unknown-price-is-none", "usage", "unknown_prices")
def unknown_price_is_none(stage: Stage) -> None:
    """Where the price is not known the cost is None: never 0, never a guess."""
    script = Script((Answer("Hello.", usage=TokenUsage(1000, 1000)),), priced=False)
    with stage.provider(script=script) as provider:
        for verb in VERBS:
            expect_equal(stage.call(provider, verb).whole().cost_usd, None, "the cost")


@scenario("usage/length-without-text", "usage", "reasoning_usage", "length")
def length_without_text(stage: Stage) -> None:
    """A token limit used up before any text is an IncompleteResponseError that says what it took."""
    used = TokenUsage(40, 256, reasoning=256)
    with stage.provider(Answer("", finish_reason="length", usage=used)) as provider:
        for verb in VERBS:
            error = stage.call(provider, verb).failure(IncompleteResponseError)
            expect_equal(error.tokens_used, used, "the tokens of the error")


@scenario("usage/filtered-answer", "usage", "content_filter")
def filtered_answer(stage: Stage) -> None:
    """An answer the filter stops has been billed: its error says the tokens."""
    used = TokenUsage(40, 30)
    answer = Answer(failure=Failure("content_filter", after_text="Once upon"), usage=used)
    with stage.provider(answer) as provider:
        for verb in VERBS:
            error = stage.call(provider, verb).failure(ContentFilterError)
            expect_equal(error.tokens_used, used, "the tokens of the error")


def _cost(response: Response) -> Decimal:
    expect(isinstance(response.cost_usd, Decimal), "a Decimal cost", repr(response.cost_usd))
    assert response.cost_usd is not None
    return response.cost_usd
