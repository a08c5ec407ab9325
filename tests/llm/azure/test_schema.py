"""Tool names and schemas: legal for the service, with nothing lost on the way."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loom_py.llm.azure.schema import clean_schema, encode_tools, legal_name
from loom_py.messages import ToolSpec

LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")

names = st.one_of(
    st.text(max_size=90),
    st.text("ab:_./ é", max_size=6),
    st.text("a", min_size=60, max_size=80),
)


# ── names ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("execute_sql", "execute_sql"),
        ("vantage-mcp:execute_sql", "vantage-mcp_execute_sql"),
        ("server:namespace:tool", "server_namespace_tool"),
        (":tool", "_tool"),
        ("", "_"),
        ("my.tool-name", "my_tool-name"),
        ("größe", "gr__e"),
        ("a/b c", "a_b_c"),
    ],
)
def test_a_name_becomes_legal(name: str, legal: str) -> None:
    assert legal_name(name) == legal


@given(st.lists(names, unique=True, max_size=8))
@example(["a:b", "a_b", "a;b"])
@example(["x" * 65, "x" * 66, "x" * 64])
def test_names_are_legal_stay_apart_and_find_their_way_back(given_names: list[str]) -> None:
    encoded = encode_tools([ToolSpec(name) for name in given_names])
    wire = [definition["function"]["name"] for definition in encoded.definitions]
    assert all(LEGAL.fullmatch(name) for name in wire)
    assert len(set(wire)) == len(given_names)
    assert [encoded.own_name(name) for name in wire] == given_names
    assert [encoded.wire_name(name) for name in given_names] == wire
    assert all(own == name for own, name in zip(given_names, wire, strict=True) if LEGAL.fullmatch(own))


def test_a_name_that_equals_another_s_digest_form_stays_apart() -> None:
    first = encode_tools([ToolSpec("a_b"), ToolSpec("a:b")]).wire_name("a:b")
    taken = encode_tools([ToolSpec("a_b"), ToolSpec(first), ToolSpec("a:b")])
    assert len({taken.wire_name(name) for name in ("a_b", first, "a:b")}) == 3


def test_a_prefix_the_model_made_up_is_taken_off() -> None:
    encoded = encode_tools([ToolSpec("db:query")])
    assert encoded.own_name("functions.db_query") == "db:query"
    assert encoded.own_name("functions.unknown") == "unknown"
    assert encoded.wire_name("functions.db_query") == "db_query"


def test_unknown_names_pass_and_are_legal_on_the_way_out() -> None:
    encoded = encode_tools([ToolSpec("known")])
    assert encoded.own_name("unknown") == "unknown"
    assert encoded.wire_name("un:known") == "un_known"


# ── schemas ──────────────────────────────────────────────────────────────────────────────


def test_empty_arrays_and_empty_defaults_go_and_nothing_else() -> None:
    schema = {
        "type": "object",
        "required": [],
        "properties": {
            "a": {"type": "string", "enum": [], "default": ""},
            "b": {"type": "boolean", "default": False},
            "c": {"type": "integer", "default": 0},
            "d": {"type": "object", "properties": {"e": {"type": "string"}}, "required": []},
        },
    }
    assert clean_schema(schema) == {
        "type": "object",
        "properties": {
            "a": {"type": "string"},
            "b": {"type": "boolean", "default": False},
            "c": {"type": "integer", "default": 0},
            "d": {"type": "object", "properties": {"e": {"type": "string"}}},
        },
    }


RICH: dict[str, Any] = {
    "type": "object",
    "properties": {
        "param1": {"type": "string", "enum": ["a", "b", "c"], "pattern": "^[a-c]$", "maxLength": 3},
        "number": {"type": "number", "minimum": 0, "exclusiveMaximum": 9.5, "multipleOf": 0.5},
        "list": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"]},
        },
        "either": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "one": {"oneOf": [{"$ref": "#/$defs/Place"}, {"not": {"type": "string"}}]},
        "map": {"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}},
    },
    "required": ["param1"],
    "additionalProperties": False,
    "$defs": {"Place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
}


def test_a_rich_schema_is_kept_whole() -> None:
    assert clean_schema(RICH) == RICH
    assert encode_tools([ToolSpec("t", "d", RICH)]).definitions[0]["function"]["parameters"] == RICH


@pytest.mark.parametrize(
    "word", ["required", "enum", "default", "properties", "items", "type", "$defs", "const"]
)
def test_a_property_may_be_called_like_a_keyword(word: str) -> None:
    schema = {
        "type": "object",
        "properties": {word: {"type": "string", "description": "a property"}},
        "required": [word],
    }
    assert clean_schema(schema) == schema


def test_values_are_never_taken_for_schemas() -> None:
    schema = {
        "type": "object",
        "properties": {
            "filter": {"type": "object", "properties": {}, "default": {"required": [], "default": ""}},
            "kind": {"const": []},
            "x": {"enum": [{"default": ""}, []], "examples": [{"required": []}]},
        },
    }
    assert clean_schema(schema) == schema


@pytest.mark.parametrize(
    ("given_schema", "expected"),
    [
        ({}, {"type": "object", "properties": {}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"type": "object", "properties": None}, {"type": "object", "properties": {}}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"required": ()}, {"type": "object", "properties": {}}),
        (
            {"type": "object", "properties": {"metadata": {"type": "object"}}, "required": ["command"]},
            {
                "type": "object",
                "properties": {"metadata": {"type": "object", "properties": {}}},
                "required": ["command"],
            },
        ),
        (
            {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {}}}},
            {
                "$ref": "#/$defs/A",
                "$defs": {"A": {"type": "object", "properties": {}}},
                "type": "object",
                "properties": {},
            },
        ),
    ],
)
def test_parameters_are_always_an_object_with_properties(given_schema: Any, expected: Any) -> None:
    encoded = encode_tools([ToolSpec("t", "", given_schema)])
    assert encoded.definitions[0]["function"]["parameters"] == expected


@pytest.mark.parametrize(
    ("given_schema", "kind"),
    [
        ({"properties": {"a": {"type": "string"}}}, "object"),
        ({"items": {"type": "string"}}, "array"),
        ({"enum": ["a", "b"]}, "string"),
    ],
)
def test_a_missing_type_is_filled_in_where_it_is_plain(given_schema: dict[str, Any], kind: str) -> None:
    assert clean_schema(given_schema) == {**given_schema, "type": kind}


def test_a_missing_type_is_not_guessed() -> None:
    for schema in (
        {"enum": ["a", 1]},
        {"anyOf": [{"type": "string"}]},
        {"$ref": "#"},
        {"description": "any"},
    ):
        assert clean_schema(schema) == schema


keys = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "default",
        "anyOf",
        "$ref",
        "additionalProperties",
        "not",
        "minimum",
        "description",
        "x-own",
        "prefixItems",
        "$defs",
    ]
)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.just([]), st.just("object")
)
schemas = st.recursive(
    st.dictionaries(keys, leaves, max_size=4),
    lambda inner: st.dictionaries(
        keys,
        st.one_of(inner, st.lists(inner, max_size=2), st.dictionaries(keys, inner, max_size=2)),
        max_size=4,
    ),
    max_leaves=12,
)


@given(schemas)
def test_cleaning_twice_is_cleaning_once_and_the_input_is_untouched(schema: dict[str, Any]) -> None:
    before = copy.deepcopy(schema)
    cleaned = clean_schema(schema)
    assert schema == before
    assert clean_schema(cleaned) == cleaned
