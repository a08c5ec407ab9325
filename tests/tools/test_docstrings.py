from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom_py.tools.docstrings import parse_docstring

GOOGLE = """Find flights.

    Only those of one day.

    Args:
        origin (str): Where from,
            as an airport code.
        filters (dict[str, tuple(int, int)], optional): Bounds: lower and upper.
        *rest: The others.

    Returns:
        The flights.

    Example:
        find("JFK")
    """

NUMPY = """Find flights.

    Only those of one day.

    Parameters
    ----------
    origin : str
        Where from,
        as an airport code.
    low, high : int, optional
        The bounds.

    Returns
    -------
    list
        The flights.
    """

SPHINX = """Find flights.

    Only those of one day.

    :param str origin: Where from,
        as an airport code.
    :param low: The bounds.
    :type low: int
    :returns: The flights.
    :raises ValueError: never
    """


def test_google_style_is_read() -> None:
    description, params = parse_docstring(GOOGLE)
    assert description == 'Find flights.\n\nOnly those of one day.\n\nExample:\n    find("JFK")'
    assert params == {
        "origin": "Where from, as an airport code.",
        "filters": "Bounds: lower and upper.",
        "rest": "The others.",
    }


def test_numpy_style_is_read() -> None:
    assert parse_docstring(NUMPY) == (
        "Find flights.\n\nOnly those of one day.",
        {"origin": "Where from, as an airport code.", "low": "The bounds.", "high": "The bounds."},
    )


def test_sphinx_style_is_read() -> None:
    assert parse_docstring(SPHINX) == (
        "Find flights.\n\nOnly those of one day.",
        {"origin": "Where from, as an airport code.", "low": "The bounds."},
    )


def test_a_parameter_section_without_indentation_is_read() -> None:
    text = "Sum.\n\nArgs:\na: first\nb (int): second\n\nMore."
    assert parse_docstring(text) == ("Sum.\n\nMore.", {"a": "first", "b": "second"})


def test_a_blank_line_between_entries_does_not_end_the_section() -> None:
    text = "Sum.\n\nArgs:\n    a: first\n\n    b: second\n"
    assert parse_docstring(text) == ("Sum.", {"a": "first", "b": "second"})


def test_text_without_a_style_is_all_description() -> None:
    text = "Note: this is prose: really.\nAnd :this: too (even): this."
    assert parse_docstring(text) == (text, {})


@pytest.mark.parametrize("text", [None, "", "   \n  "])
def test_no_docstring_says_nothing(text: str | None) -> None:
    assert parse_docstring(text) == ("", {})


PIECES = st.sampled_from(
    [
        "Args:",
        "Parameters",
        "-----",
        "    x (int: a",
        "x : int",
        ":param x:",
        ":param:",
        ")",
        "",
        "  ",
        "Returns:",
    ]
)


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=9))).map("\n".join)))
def test_no_text_makes_it_fail(text: str) -> None:
    description, params = parse_docstring(text)
    assert isinstance(description, str)
    assert all(params.values())
