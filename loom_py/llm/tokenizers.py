"""Exact token counts, where the extra ``tokens`` is installed.

The package ``toktok-rs`` brings the encodings with it, so nothing is downloaded, and its time grows with
the length of the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from loom_py.errors import MissingDependencyError
from loom_py.llm.estimates import Count
from loom_py.llm.models import infer_model, resolve_model

__all__ = ["encoding_of", "exact_counter", "is_installed"]

_ENCODINGS = (
    (re.compile(r"gpt-?4o|gpt-?4\.[15]|chatgpt-4o|gpt-?5|\bo[134](?![a-z0-9])"), "o200k_base"),
    (re.compile(r"gpt-?4(?![.\w])|gpt-?4-(?:turbo|32k|vision)|gpt-?3\.?5"), "cl100k_base"),
    (re.compile(r"text-embedding-(?:3|ada-002)"), "cl100k_base"),
)
"""Which encoding a model reads text with, as OpenAI's own tokenizer lists them; the first that fits."""


_MOST_TEXTS = 65_536
"""How many texts' counts are remembered."""


def encoding_of(model: str) -> str | None:
    """The encoding of ``model``, a model's or a deployment's name; ``None`` where it is not known."""
    for name in (resolve_model(model), infer_model(model), model.lower()):
        for pattern, encoding in _ENCODINGS if name else ():
            if name and pattern.search(name):
                return encoding
    return None


def is_installed() -> bool:
    """Whether the extra ``tokens`` is installed. Nothing is imported yet."""
    return find_spec("toktok") is not None


@cache
def exact_counter(model: str) -> Count | None:
    """What counts the tokens of a text for ``model``; ``None`` for a model whose encoding is not known.

    Marks of the chat format inside a text count as the ordinary text they are. The first count loads the
    encoding (about 0.4 s). Raises `MissingDependencyError` without the extra ``tokens``.
    """
    encoding = encoding_of(model)
    if encoding is None:
        return None
    if not is_installed():
        raise MissingDependencyError(
            "exact token counts need the package toktok-rs", hint="pip install 'loom-py[tokens]'"
        )
    batch_count: Callable[[list[str], str], Sequence[int]] = import_module("toktok").batch_count
    known: dict[tuple[int, int], int] = {}

    def count(text: str) -> int:
        key = hash(text), len(text)  # a history is counted again in every turn, and its text is not kept here
        tokens = known.get(key)
        if tokens is None:
            if len(known) >= _MOST_TEXTS:
                known.clear()
            # half a surrogate pair travels as a question mark
            whole = text if text.isascii() else text.encode("utf-8", "replace").decode()
            tokens = known[key] = batch_count([whole], encoding)[0]
        return tokens

    return count
