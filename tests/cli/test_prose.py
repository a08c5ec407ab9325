"""Markdown that is drawn while it arrives: the same however it was cut, and with nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from loom_py.cli.repl.prose import Prose

WORDS = st.sampled_from(
    [
        "word", "a", "**bold", "words**", "**", "`code`", "`", "# ", "## ", "- ", "* ", "1. ", "> ", "```",
        "~~~", "|", "\n", "\n\n", " ", "    ", "x" * 39, "x" * 60, "2**8", "日本語の文章", "🎉",
        "é", "\t", ",", "\xa0", "\u2003", "\u2028",
    ]
)  # fmt: skip
TEXTS = st.lists(WORDS, max_size=40).map("".join)


def drawn(parts: list[str], width: int = 40) -> list[tuple[str, str]]:
    """What is drawn, character by character with its style."""
    prose = Prose(width)
    pieces = [piece for part in parts for piece in prose.feed(part)] + prose.finish()
    return [(character, piece.style) for piece in pieces for character in piece.text]


def text_of(markdown: str, width: int = 40) -> str:
    return "".join(character for character, _ in drawn([markdown], width))


@given(TEXTS, st.data())
def test_what_is_drawn_does_not_depend_on_how_the_text_was_cut(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert drawn(parts) == drawn([text]) == drawn(list(text))


@given(TEXTS)
def test_nothing_but_marks_of_markdown_and_white_space_is_lost(text: str) -> None:
    marks = set("#>-*+`|•│ \t\n")
    kept = [character for character in text_of(text) if character not in marks]
    assert kept == [character for character in text if character not in marks]


@given(
    st.lists(st.sampled_from(["word", "日本語", "x" * 70, ", ", " ", "**b c**"]), max_size=60),
    st.integers(20, 90),
)
@example(words=["word", "word", "word", "x" * 70], width=40)
def test_no_line_of_prose_is_wider_than_the_screen(words: list[str], width: int) -> None:
    for line in text_of("".join(words), width).split("\n"):
        assert cell_len(line.rstrip()) <= width + 2  # a comma or two stay with their word


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("plain words", "  plain words\n"),
        ("**bold** and `code`, 2**8", "  bold and code, 2**8\n"),
        ("**never closed", "  **never closed\n"),
        ("# A title\n\ntext", "  A title\n\n  text\n"),
        ("- one\n  - two\n10. ten", "  • one\n    • two\n  10. ten\n"),
        ("> said", "  │ said\n"),
        ("```python\n    x = 1  # **no bold**\n```", "  ```python\n      x = 1  # **no bold**\n  ```\n"),
        ("| a | b |", "  | a | b |\n"),
        ("-5 degrees and #1", "  -5 degrees and #1\n"),
        ("", ""),
    ],
)
def test_markdown_is_drawn_as(markdown: str, shown: str) -> None:
    assert text_of(markdown) == shown


def test_lines_break_between_words_and_items_hang() -> None:
    assert text_of("- " + "four " * 12, 30) == (
        "  • four four four four four\n    four four four four four\n    four four\n"
    )


def test_styles_are_those_of_the_marks() -> None:
    styles = dict(drawn(["# T\n**b** `c`\n> q"]))
    assert (styles["T"], styles["b"], styles["c"], styles["q"]) == (
        "bold underline",
        "bold",
        "cyan",
        "italic",
    )


def test_a_word_is_shown_as_soon_as_it_is_whole() -> None:
    prose = Prose(40)
    assert prose.feed("Hel") == []
    assert "".join(piece.text for piece in prose.feed("lo wor")).strip() == "Hello"
