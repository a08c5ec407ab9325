"""Types as answers: their schemas, and what is made of an answer's text."""

from __future__ import annotations

import json
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from loom_py.errors import ConfigError, OutputValidationError
from loom_py.output import OutputSpec, strict_schema


class Item(BaseModel):
    name: str
    price: float = Field(gt=0)


class Order(BaseModel):
    items: list[Item]
    note: str | None = None


@dataclass
class Point:
    x: int
    y: int = 0


class Person(TypedDict):
    name: str
    age: int


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Plain(typing.TypedDict):
    name: str


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Order, '{"items": [{"name": "lamp", "price": 12}]}', Order(items=[Item(name="lamp", price=12)])),
        (Point, '{"x": 1, "y": 2}', Point(1, 2)),
        (Person, '{"name": "Ada", "age": 36}', {"name": "Ada", "age": 36}),
        (Plain, '{"name": "Ada"}', {"name": "Ada"}),
        (list[Plain], '{"result": [{"name": "Ada"}]}', [{"name": "Ada"}]),
        (list[Point], '{"result": [{"x": 1}]}', [Point(1)]),
        (int | str, '{"result": "many"}', "many"),
        (Cat | Dog, '{"result": {"kind": "dog", "tricks": []}}', Dog(kind="dog", tricks=[])),
        (Pet, '{"result": {"kind": "cat", "lives": 9}}', Cat(kind="cat", lives=9)),
        (bool, "true", True),
        (Point, '```json\n{"x": 1}\n```', Point(1)),
    ],
)
def test_an_answer_becomes_a_value_of_the_type(kind: Any, text: str, value: Any) -> None:
    assert OutputSpec(kind).parse(text) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"items": [{"name": "lamp", "price": -1}]}', "items.0.price: input should be greater than 0"),
        ("{}", "items: field required"),
        ("Sure! Here it is.", "the answer is not JSON"),
        ("", "the answer is not JSON"),
        ("[1]", "input should be an object"),
    ],
)
def test_an_answer_that_does_not_fit_says_where(text: str, problem: str) -> None:
    with pytest.raises(OutputValidationError) as caught:
        OutputSpec(Order).parse(text)
    assert problem in caught.value.message
    assert caught.value.text == text


def _objects(schema: Any) -> list[dict[str, Any]]:
    found = []
    if isinstance(schema, dict):
        found += [schema] if schema.get("type") == "object" else []
        found += [inner for value in schema.values() for inner in _objects(value)]
    elif isinstance(schema, list):
        found += [inner for value in schema for inner in _objects(value)]
    return found


@pytest.mark.parametrize("kind", [Order, Point, Person, list[Point], int | str, Cat | Dog, Pet])
def test_the_strict_schema_closes_every_object_and_requires_all_of_it(kind: Any) -> None:
    asked = OutputSpec(kind).response_format["json_schema"]
    assert asked["strict"] is True
    assert asked["schema"]["type"] == "object"
    for inner in _objects(asked["schema"]):
        assert inner["additionalProperties"] is False
        assert inner["required"] == list(inner["properties"])
    text = json.dumps(asked["schema"])
    for keyword in ('"default"', '"title"', '"oneOf"', '"discriminator"'):
        assert keyword not in text


def test_a_type_without_a_strict_form_is_asked_for_as_it_is() -> None:
    asked = OutputSpec(dict[str, int]).response_format["json_schema"]
    assert asked["strict"] is False
    assert asked["schema"]["properties"]["result"]["additionalProperties"] == {"type": "integer"}


def test_a_property_named_like_a_keyword_survives_the_strict_form() -> None:
    class Odd(BaseModel):
        default: int
        title: str
        oneOf: list[int]  # noqa: N815

    strict = strict_schema(OutputSpec(Odd).schema)
    assert strict is not None
    assert list(strict["properties"]) == ["default", "title", "oneOf"]


def test_names_are_what_the_service_takes() -> None:
    assert OutputSpec(Order).name == "Order"
    assert OutputSpec(list[Point]).name == "list_of_Point"
    assert OutputSpec(Cat | Dog).name == "Cat_or_Dog"


def test_a_type_that_has_no_schema_is_a_config_error() -> None:
    class Opaque:
        pass

    with pytest.raises(ConfigError, match="Opaque cannot be an output"):
        OutputSpec(Opaque)


@given(st.text())
def test_any_text_is_parsed_or_refused_and_never_crashes(text: str) -> None:
    try:
        value: Any = OutputSpec(Point).parse(text)
    except OutputValidationError:
        return
    assert isinstance(value, Point)
