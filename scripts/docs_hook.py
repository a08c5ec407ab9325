"""A hook of mkdocs: docstrings introduce their code by ``::``, which is not for the site's readers."""

from __future__ import annotations

from typing import Any


def on_page_content(html: str, **_: Any) -> str:
    """The page with ``text::`` before a code block shown as ``text:``, and ``::`` alone left out."""
    return html.replace("<p>::</p>", "").replace("::</p>", ":</p>")
