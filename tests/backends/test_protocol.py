"""A backend of one's own, and the results every backend gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom_py.backends import Backend, BaseBackend, Capabilities, Column, QueryResult, Resource
from loom_py.backends.results import unique_names
from loom_py.errors import BackendError


class Notes(BaseBackend):
    """Notes in memory: all that a small backend needs."""

    name = "notes"

    def __init__(self, *notes: str) -> None:
        self.notes = notes
        self.closed = False

    def execute_query(
        self,
        query: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> QueryResult:
        """Find the notes that contain the query."""
        found = [{"note": note} for note in self.notes if query in note]
        return QueryResult.from_rows(found[offset:][:limit])

    def list_resources(self, filters: Mapping[str, Any] | None = None) -> Sequence[Resource]:
        return [Resource("notes", "list", "what was written down")]

    def close(self) -> None:
        self.closed = True


def test_a_small_backend_is_a_backend_with_tools() -> None:
    with Notes("buy milk", "sell milk", "sleep") as notes:
        assert isinstance(notes, Backend)
        tools = {tool.name: tool for tool in notes.tools()}
        assert list(tools) == ["list_resources", "describe_resource", "query"]
        assert tools["query"](query="milk").splitlines() == [
            "note",
            "---",
            "buy milk",
            "sell milk",
            "(2 rows)",
        ]
        assert tools["list_resources"]() == "notes (list): what was written down"
        assert tools["describe_resource"](resource="notes") == "list notes: what was written down"
        assert "Find the notes" in tools["query"].description
        notes.ping()
        assert notes.capabilities() == Capabilities()
    assert notes.closed


def test_what_is_not_known_says_what_is() -> None:
    notes = Notes()
    with pytest.raises(BackendError) as resource:
        notes.get_schema("nots")
    with pytest.raises(BackendError, match="no operation 'fly'"):
        notes.execute_custom_operation("fly")
    assert resource.value.hint == "Did you mean notes?"


async def test_the_async_twins_come_for_nothing() -> None:
    async with Notes("a", "b") as notes:
        assert (await notes.aexecute_query("a")).row_count == 1
        assert (await notes.aget_schema("notes")).type == "list"
        assert len(await notes.alist_resources()) == 1
        assert await notes.aget_metadata("notes") == {}
        await notes.aping()
        with pytest.raises(BackendError):
            await notes.aexecute_custom_operation("fly")
    assert notes.closed


def test_defaults_of_the_capabilities() -> None:
    some = Capabilities(operations=frozenset({"explain"}), features={"paging": True}, limits={"max_rows": 5})
    assert (some.supports_transactions, some.supports_concurrency, some.supports_streaming) == (
        False,
        True,
        False,
    )
    assert some.max_concurrent_ops == 10
    assert some.supports("explain")
    assert not some.supports("sample")
    assert some.has_feature("paging")
    assert not some.has_feature("other")
    assert (some.limit("max_rows"), some.limit("other")) == (5, None)
    assert json.loads(json.dumps(some.to_dict()))["operations"] == ["explain"]


def test_text_keeps_a_row_on_its_line_and_says_what_was_cut() -> None:
    row = {"a": "x|y\nz", "b": None, "c": b"\x00\x01", "d": "w" * 400, "e": Decimal("1.50"), "f": ""}
    head, _, line, note = QueryResult.from_rows([row]).to_text().splitlines()
    assert head == "a | b | c | d | e | f"
    assert line.startswith("x\\|y\\nz | NULL | <2 bytes> | www")
    assert "… [100 more characters] | 1.50 | " in line
    assert note == "(1 row)"


def test_text_that_grows_too_long_stops_at_a_row_and_says_where_to_go_on() -> None:
    result = QueryResult.from_rows([{"a": "x" * 99} for _ in range(100)], offset=50, truncated=False)
    text = result.to_text(max_chars=1000)
    assert text.count("x" * 99) == 10
    assert "(rows 51 to 60; ask for the next page with offset 60)" in text


def test_an_empty_result_still_shows_its_columns() -> None:
    assert QueryResult((Column("a"),)).to_text() == "a\n---\n(0 rows)"


def test_json_keeps_decimals_exact_and_dates_iso() -> None:
    moment = datetime(2013, 1, 2, 3, 4, tzinfo=UTC)
    rows = [
        {"n": Decimal("0.10"), "t": moment, "b": b"\xff", "f": float("inf"), "l": [Decimal(1), {"k": None}]}
    ]
    (row,) = json.loads(QueryResult.from_rows(rows).to_json())["rows"]
    assert row == {
        "n": "0.10",
        "t": "2013-01-02T03:04:00+00:00",
        "b": "/w==",
        "f": "inf",
        "l": ["1", {"k": None}],
    }


@given(st.lists(st.sampled_from(["a", "a_2", "a_3", "b", "a_2_2", ""]), max_size=12))
def test_names_become_distinct_and_the_first_of_each_stays(names: list[str]) -> None:
    fresh = unique_names(names)
    assert len(set(fresh)) == len(names)
    for index, name in enumerate(names):
        if name not in names[:index]:
            assert fresh[index] == name
