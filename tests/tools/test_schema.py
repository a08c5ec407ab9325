from __future__ import annotations

import enum
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Optional, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from loom_py.errors import ToolArgumentsError, ToolDefinitionError
from loom_py.tools import Tool, tool

if TYPE_CHECKING:
    from collections import OrderedDict as OnlyForCheckers


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    title: str
    zip: int = Field(ge=1, title="Post code")


@dataclass
class Point:
    x: float
    y: float = 0.0


class Options(TypedDict):
    page: int
    size: NotRequired[int]


def bind(made: Tool[..., Any], **arguments: Any) -> Any:
    args, kwargs = made.bind(arguments)
    return made(*args, **kwargs)


def test_every_kind_of_type_is_kept_in_the_schema() -> None:
    @tool
    def everything(
        mode: Literal["fast", "slow"],
        colour: Colour,
        home: Address,
        at: Optional[Point],  # noqa: UP045 (the old spelling must work)
        options: Options,
        when: datetime,
        price: Decimal,
        tags: list[dict[str, int | str]],
    ) -> None:
        pass

    schema = everything.parameters
    properties = schema["properties"]
    assert properties["mode"] == {"enum": ["fast", "slow"], "type": "string"}
    assert schema["$defs"]["Colour"] == {"enum": ["red", "blue"], "type": "string"}
    assert schema["$defs"]["Address"] == {
        "type": "object",
        "properties": {"title": {"type": "string"}, "zip": {"type": "integer", "minimum": 1}},
        "required": ["title", "zip"],
    }
    assert properties["at"] == {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}]}
    assert schema["$defs"]["Options"]["required"] == ["page"]
    assert properties["when"] == {"type": "string", "format": "date-time"}
    assert {"type": "number"} in properties["price"]["anyOf"]
    assert properties["tags"]["items"]["additionalProperties"] == {
        "anyOf": [{"type": "integer"}, {"type": "string"}]
    }
    assert schema["required"] == list(properties)
    assert schema["additionalProperties"] is False
    json.dumps(schema)


def test_values_arrive_as_the_annotated_types() -> None:
    @tool
    def show(colour: Colour, home: Address, at: Point, options: Options, price: Decimal) -> Any:
        return colour, home, at, options, price

    assert bind(
        show, colour="red", home={"title": "Dr", "zip": "5"}, at={"x": 1}, options={"page": 1}, price="1.50"
    ) == (Colour.RED, Address(title="Dr", zip=5), Point(1.0), {"page": 1}, Decimal("1.50"))


def test_types_of_an_enclosing_function_are_found() -> None:
    class Local(BaseModel):
        n: int

    @tool
    def count(local: Local) -> int:
        return local.n

    assert bind(count, local={"n": "3"}) == 3


def test_a_property_called_title_stays() -> None:
    @tool
    def name_it(title: str, description: str = "") -> str:
        return title + description

    assert name_it.parameters["properties"] == {
        "title": {"type": "string"},
        "description": {"type": "string", "default": ""},
    }


def test_a_function_without_parameters_has_empty_properties() -> None:
    @tool
    def now() -> str:
        return "now"

    assert now.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert bind(now) == "now"
    with pytest.raises(ToolArgumentsError, match="x: unknown argument; the tool takes no arguments"):
        now.bind({"x": 1})


def test_names_that_pydantic_uses_itself_work() -> None:
    @tool
    def odd(
        schema: int, json: int, model_config: int, _x: int, model_dump: int, self: int, copy: int = 7
    ) -> Any:
        return schema, json, model_config, _x, model_dump, self, copy

    names = ["schema", "json", "model_config", "_x", "model_dump", "self", "copy"]
    assert list(odd.parameters["properties"]) == names
    args, kwargs = odd.bind(dict(zip(names, range(7), strict=True)))
    assert odd.function(*args, **kwargs) == tuple(range(7))


def test_descriptions_come_from_the_docstring_unless_the_annotation_says_so() -> None:
    @tool
    def search(
        a: int,
        b: Annotated[int, "from the annotation"],
        c: Annotated[int, Field(description="from the field", le=7)],
        d: int = Field(4, description="a default field"),
    ) -> Any:
        """Search.

        Args:
            a: from the docstring
            b: not this
            c: not this
            d: not this
        """
        return a, b, c, d

    told = {name: facts.get("description") for name, facts in search.parameters["properties"].items()}
    assert told == {
        "a": "from the docstring",
        "b": "from the annotation",
        "c": "from the field",
        "d": "a default field",
    }
    assert bind(search, a=1, b=2, c=3) == (1, 2, 3, 4)
    assert search.parameters["required"] == ["a", "b", "c"]


def test_only_given_arguments_are_passed() -> None:
    marker = object()

    @tool
    def f(a: int, b: Any = marker, c: float = float("nan")) -> Any:
        return b

    assert f.bind({"a": "5"}) == ((), {"a": 5})
    assert bind(f, a=1) is marker
    json.dumps(f.parameters, allow_nan=False)


def test_a_default_of_none_lets_the_model_send_null() -> None:
    @tool
    def f(limit: int = None) -> Any:  # type: ignore[assignment] # noqa: RUF013 (users write this)
        return limit

    assert bind(f, limit=None) is None


def test_positional_only_parameters_are_passed_by_position() -> None:
    @tool
    def f(a: int, b: int = 2, c: int = 3, /, d: int = 4) -> Any:
        return a, b, c, d

    assert bind(f, a="1", c=9) == (1, 2, 9, 4)
    assert f.bind({"a": 1, "d": 5}) == ((1,), {"d": 5})


@pytest.mark.parametrize("spelling", ["userId", "user-id", "USER_ID", "UserId", "user id", "user_id_"])
def test_another_spelling_of_a_name_is_understood(spelling: str) -> None:
    @tool
    def f(user_id: int) -> int:
        return user_id

    assert f.bind({spelling: 1}) == ((), {"user_id": 1})


def test_an_ambiguous_spelling_is_an_unknown_argument() -> None:
    @tool
    def f(user_id: int = 0, userid: int = 0) -> int:
        return user_id

    with pytest.raises(ToolArgumentsError, match="userId: unknown argument"):
        f.bind({"userId": 1})
    with pytest.raises(ToolArgumentsError, match="USER-ID: unknown argument"):
        f.bind({"user_id": 1, "USER-ID": 2})


def test_every_problem_is_listed_by_path_with_the_expected_arguments() -> None:
    @tool
    def f(city: str, days: Annotated[int, Field(le=7)] = 3, homes: list[Address] | None = None) -> None:
        pass

    with pytest.raises(ToolArgumentsError) as caught:
        f.bind({"days": 9, "homes": [{"title": "a", "zip": 0}, {"zip": 2}], "cty": "x"})
    assert caught.value.message.split("; ") == [
        "city: field required",
        "days: input should be less than or equal to 7, got 9",
        "homes[0].zip: input should be greater than or equal to 1, got 0",
        "homes[1].title: field required",
        "cty: unknown argument, did you mean 'city'? (known arguments: city, days, homes)",
    ]
    hint = caught.value.hint or ""
    assert hint.startswith(
        "Expected arguments: city (string, required), days (integer of at most 7, default 3)"
    )


def test_a_validator_that_breaks_is_an_argument_error() -> None:
    def broken(value: object) -> object:
        raise KeyError("gone")

    from pydantic import BeforeValidator

    @tool
    def f(a: Annotated[int, BeforeValidator(broken)]) -> None:
        pass

    with pytest.raises(ToolArgumentsError, match="KeyError"):
        f.bind({"a": 1})


# ── functions that cannot be tools ───────────────────────────────────────────────────────


def takes_args(*numbers: int) -> None: ...


def takes_kwargs(**options: int) -> None: ...


def misses_annotation(city, days: int = 1):  # type: ignore[no-untyped-def]
    return city


def unresolvable(box: OnlyForCheckers[str, int]) -> None: ...


def takes_a_module(callback: Callable[[], int], thing: NotJSON) -> None: ...


class NotJSON:
    pass


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (takes_args, r"'takes_args' takes \*numbers"),
        (takes_kwargs, r"'takes_kwargs' takes \*\*options"),
        (misses_annotation, "parameter 'city' of tool 'misses_annotation' has no type annotation"),
        (unresolvable, "parameter 'box' of tool 'unresolvable' cannot be resolved"),
        (takes_a_module, "parameter 'callback' of tool 'takes_a_module' has a type without a JSON schema"),
        (max, "signature of 'max' cannot be read"),
    ],
)
def test_a_function_without_a_schema_says_why_and_what_to_do(
    function: Callable[..., Any], message: str
) -> None:
    with pytest.raises(ToolDefinitionError, match=message) as caught:
        tool(function)
    assert caught.value.hint


def test_what_a_partial_has_fixed_is_not_the_models_to_give() -> None:
    def query(text: str, user: int, limit: int = 5) -> Any:
        return text, user, limit

    made: Tool[..., Any] = tool(functools.partial(query, user=7))
    assert list(made.parameters["properties"]) == ["text", "limit"]
    assert bind(made, text="x", limit="2") == ("x", 7, 2)
    with pytest.raises(ToolArgumentsError, match="user: unknown argument"):
        made.bind({"text": "x", "user": 8})


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"name": st.text(), "mode": st.sampled_from(["a", "b"])},
        optional={
            "count": st.integers(-5, 5),
            "ratio": st.floats(allow_nan=False, allow_infinity=False),
            "tags": st.lists(st.text(max_size=3), max_size=3),
            "point": st.fixed_dictionaries({"x": st.integers(-9, 9)}),
        },
    )
)
def test_arguments_that_fit_the_schema_always_bind(arguments: dict[str, Any]) -> None:
    args, kwargs = SAMPLE.bind(arguments)
    assert args == ()
    assert set(kwargs) == set(arguments)
    assert {key: kwargs[key] for key in arguments if key != "point"} == {
        key: value for key, value in arguments.items() if key != "point"
    }


@tool
def sample(
    name: str,
    mode: Literal["a", "b"],
    count: Annotated[int, Field(ge=-5, le=5)] = 0,
    ratio: float = 1.0,
    tags: list[str] | None = None,
    point: Point | None = None,
) -> None:
    pass


SAMPLE: Tool[..., Any] = sample


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=6), st.none() | st.booleans() | st.integers() | st.text(max_size=5)))
def test_no_arguments_make_binding_fail_in_another_way(arguments: dict[str, Any]) -> None:
    try:
        SAMPLE.bind(arguments)
    except ToolArgumentsError as exc:
        problem = exc
    else:
        return
    assert problem.message
    assert problem.hint
