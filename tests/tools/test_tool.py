from __future__ import annotations

import asyncio
import functools
import inspect
from typing import Any

import pytest

from loom_py.errors import ToolDefinitionError
from loom_py.messages import ToolSpec
from loom_py.tools import Tool, as_tool, tool


def forecast(city: str, days: int = 1) -> str:
    """The forecast.

    For any city.

    Args:
        city: Its English name.
    """
    return f"{city} {days}"


class Shop:
    def __init__(self, name: str) -> None:
        self.name = name

    @tool
    def price(self, item: str) -> str:
        """Price of an item."""
        return f"{self.name}: {item}"

    @tool(name="async_price", timeout=3)
    async def aprice(self, item: str) -> str:
        return f"{self.name}: {item}"

    @tool
    @classmethod
    def kind(cls, upper: bool) -> str:
        return cls.__name__.upper() if upper else cls.__name__

    @classmethod
    @tool
    def kind_too(cls, upper: bool) -> str:
        return cls.__name__.upper() if upper else cls.__name__

    @tool
    @staticmethod
    def tax(amount: float) -> float:
        return amount / 2

    @staticmethod
    @tool
    def tax_too(amount: float) -> float:
        return amount / 2

    def plain(self, item: str) -> str:
        return f"{self.name}: {item}"

    def __call__(self, item: str) -> str:
        """Buy it."""
        return f"bought {item} at {self.name}"


def call(made: Tool[..., Any], **arguments: Any) -> Any:
    args, kwargs = made.bind(arguments)
    return made(*args, **kwargs)


def test_a_function_becomes_a_tool_that_is_still_the_function() -> None:
    made = tool(forecast)
    assert made("Rome", days=2) == "Rome 2"
    assert (made.name, made.description, made.timeout) == ("forecast", "The forecast.\n\nFor any city.", None)
    assert made.function is forecast
    assert not made.is_async
    assert made.spec == ToolSpec("forecast", "The forecast.\n\nFor any city.", made.parameters)
    assert made.spec is made.spec
    assert (made.__name__, made.__doc__) == ("forecast", forecast.__doc__)
    assert inspect.signature(made) == inspect.signature(forecast)
    assert repr(made) == "<Tool forecast(city, days)>"


def test_the_decorator_takes_a_name_a_description_and_a_timeout() -> None:
    made = tool(name="weather.now", description="  Now.  ", timeout=2.5)(forecast)
    assert (made.name, made.description, made.timeout) == ("weather.now", "Now.", 2.5)
    assert repr(made) == "<Tool weather.now(city, days), timeout=2.5 s>"
    again = tool(made, name="again")
    assert (again.name, again.timeout, again("Rome")) == ("again", None, "Rome 1")


async def test_methods_of_a_class_are_bound_to_their_object() -> None:
    shop, other = Shop("A"), Shop("B")
    assert call(shop.price, item="pear") == "A: pear"
    assert call(other.price, item="pear") == "B: pear"
    assert list(shop.price.parameters["properties"]) == ["item"]
    assert await shop.aprice("fig") == "A: fig"
    assert (shop.aprice.name, shop.aprice.is_async, shop.aprice.timeout) == ("async_price", True, 3)
    assert Shop.price(shop, "pear") == "A: pear"


def test_class_methods_and_static_methods_are_tools_in_either_order() -> None:
    class Market(Shop):
        pass

    market: Any = Market("M")
    assert call(as_tool(market.kind), upper=True) == "MARKET"
    assert call(as_tool(market.kind_too), upper=False) == "Market"
    assert call(as_tool(Market.kind), upper=False) == "Market"
    assert call(as_tool(market.tax), amount="4") == 2.0
    assert call(as_tool(Market.tax_too), amount=4) == 2.0


def test_a_method_without_its_object_is_refused() -> None:
    for method in (Shop.price, Shop.plain):
        with pytest.raises(ToolDefinitionError, match="method without an object") as caught:
            as_tool(method)
        assert "instance." in (caught.value.hint or "")


def test_bound_methods_callable_objects_and_partials_are_tools() -> None:
    shop = Shop("A")
    assert call(as_tool(shop.plain), item="pear") == "A: pear"
    bought = as_tool(shop)
    assert (bought.name, bought.description, call(bought, item="fig")) == (
        "Shop",
        "Buy it.",
        "bought fig at A",
    )
    fixed = as_tool(functools.partial(forecast, "Rome"))
    assert (fixed.name, call(fixed, days="3")) == ("forecast", "Rome 3")
    assert fixed.description.startswith("The forecast.")
    cached = as_tool(functools.lru_cache(forecast))
    assert (cached.name, call(cached, city="Oslo")) == ("forecast", "Oslo 1")


def test_a_tool_kept_as_a_class_attribute_is_not_bound() -> None:
    made = tool(forecast)

    class Holder:
        weather = made

    assert Holder().weather is made  # type: ignore[comparison-overlap] # a checker takes it for a method


def test_async_functions_are_known_however_they_are_wrapped() -> None:
    async def wait(a: int, b: int = 0) -> int:
        return a + b

    class Waiter:
        async def __call__(self, a: int) -> int:
            return a

    assert as_tool(wait).is_async
    assert as_tool(functools.partial(wait, b=1)).is_async
    assert as_tool(Waiter()).is_async


def test_a_sync_function_around_an_async_one_is_sync() -> None:
    async def wait(a: int) -> int:
        return a

    @functools.wraps(wait)
    def blocking(a: int) -> int:
        return asyncio.run(wait(a))

    made: Tool[..., Any] = as_tool(blocking)
    assert not made.is_async
    assert call(made, a="3") == 3


def test_what_is_not_callable_is_refused() -> None:
    with pytest.raises(ToolDefinitionError, match="neither a tool nor callable"):
        as_tool("forecast")
    with pytest.raises(ToolDefinitionError, match="by position"):
        tool("forecast")  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["", "  ", "x" * 257, 5])
def test_a_bad_name_is_refused(name: Any) -> None:
    with pytest.raises(ToolDefinitionError, match="name of tool 'forecast'") as caught:
        tool(forecast, name=name)
    assert caught.value.hint


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(ToolDefinitionError, match="lambda"):
        tool(lambda: 1)
    assert tool(lambda: 1, name="one")() == 1
    assert tool(forecast, name="x" * 256).name == "x" * 256


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "5"])
def test_a_bad_timeout_is_refused(timeout: Any) -> None:
    with pytest.raises(ToolDefinitionError, match="above 0"):
        tool(timeout=timeout)(forecast)


def test_a_tool_that_is_described_anew_tells_models_so() -> None:
    @tool
    def forecast(city: str) -> str:
        """The forecast."""
        return city

    before = forecast.spec
    forecast.description = "The forecast for a city."
    assert (before.description, forecast.spec.description) == ("The forecast.", "The forecast for a city.")
