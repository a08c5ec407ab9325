"""The types a user's checker infers for decorated functions."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, assert_type

from loom_py.tools import Tool, as_tool, tool


@tool
def plain(city: str, days: int = 1) -> float:
    return days / len(city)


@tool(name="configured", timeout=5)
def configured(city: str) -> list[str]:
    return [city]


@tool
async def asynchronous(city: str) -> int:
    return len(city)


class Shop:
    @tool
    def price(self, item: str) -> float:
        return float(len(item))


def test_a_decorated_function_keeps_its_call_signature() -> None:
    assert_type(plain("Rome", days=4), float)
    assert_type(configured("Rome"), list[str])
    _: Tool[[str], list[str]] = configured
    assert plain("Rome", days=4) == 1.0
    assert configured("Rome") == ["Rome"]


async def test_an_async_function_still_gives_a_coroutine() -> None:
    coroutine: Coroutine[Any, Any, int] = asynchronous("Rome")
    assert assert_type(await coroutine, int) == 4


def test_a_method_loses_its_self() -> None:
    shop = Shop()
    assert_type(shop.price("pear"), float)
    assert shop.price("pear") == 4.0


def test_as_tool_gives_a_tool_of_anything() -> None:
    assert_type(as_tool(plain), Tool[..., Any])
    assert as_tool(plain) is plain
