"""Which model is this? Answers from a deployment's name, and from the name a server reports.

A deployment may be called anything, so `infer_model` is a guess by the name, made with care: a
name that suggests a model not listed here (``gpt-4.2-prod``, ``gpt-5.4-codex``) suggests nothing.
`resolve_model` reads the name a server reports and takes no liberties at all.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

__all__ = ["FAMILIES", "family_of", "fine_tuned", "infer_model", "price_model", "resolve_model"]

FAMILIES: tuple[str, ...] = (
    *("gpt-35-turbo", "gpt-35-turbo-16k", "gpt-35-turbo-instruct"),
    *("gpt-4", "gpt-4-32k", "gpt-4-turbo", "gpt-4.5-preview"),
    *("gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano"),
    *("gpt-4o", "gpt-4o-audio", "gpt-4o-realtime", "gpt-4o-transcribe", "gpt-4o-transcribe-diarize"),
    *(
        "gpt-4o-mini",
        "gpt-4o-mini-audio",
        "gpt-4o-mini-realtime",
        "gpt-4o-mini-transcribe",
        "gpt-4o-mini-tts",
    ),
    *("gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5-pro", "gpt-5-codex", "gpt-5-chat"),
    *("gpt-5.1", "gpt-5.1-chat", "gpt-5.1-codex", "gpt-5.1-codex-mini", "gpt-5.1-codex-max"),
    *("gpt-5.2", "gpt-5.2-chat", "gpt-5.2-codex", "gpt-5.2-pro"),
    *("gpt-5.3-chat", "gpt-5.3-codex"),
    *("gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.4-pro"),
    *("gpt-5.5", "gpt-5.5-pro"),
    *("gpt-5.6", "gpt-5.6-sol", "gpt-5.6-terra", "gpt-5.6-luna"),
    *("gpt-6-astra", "gpt-6-sol", "gpt-6-luna", "gpt-6.1-sol", "gpt-6.1-terra"),
    *("gpt-chat-latest", "gpt-audio", "gpt-audio-mini", "gpt-audio-1.5"),
    *("o1", "o1-mini", "o1-preview", "o1-pro"),
    *("o3", "o3-mini", "o3-pro", "o3-deep-research"),
    *("o4-mini", "o4-mini-deep-research"),
    *("codex-mini", "computer-use-preview", "model-router"),
    *("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"),
)
"""The model families Azure OpenAI serves or served, under Azure's names for them."""

_SERVED_ONLY = ("chat-latest", "command-r-plus", "mistral-large")
"""Names a server may report that say too little inside a deployment's name."""

_ALIASES = {
    # Another spelling of the same model.
    "gpt-3.5-turbo": "gpt-35-turbo",
    "gpt-3.5-turbo-16k": "gpt-35-turbo-16k",
    "gpt-3.5-turbo-instruct": "gpt-35-turbo-instruct",
    # GPT-4 Turbo was first published as previews of GPT-4; they never had GPT-4's price.
    "gpt-4-0125": "gpt-4-turbo",
    "gpt-4-0125-preview": "gpt-4-turbo",
    "gpt-4-1106": "gpt-4-turbo",
    "gpt-4-1106-preview": "gpt-4-turbo",
    "gpt-4-preview": "gpt-4-turbo",
    "gpt-4-vision": "gpt-4-turbo",
    "gpt-4-vision-preview": "gpt-4-turbo",
    "gpt-4-turbo-vision": "gpt-4-turbo",
    "gpt-4-turbo-vision-preview": "gpt-4-turbo",
}

_SPOKEN = {"gpt-35": "gpt-35-turbo", "gpt-35-16k": "gpt-35-turbo-16k", "gpt-4.5": "gpt-4.5-preview"}
_SPOKEN["gpt-4-omni"] = "gpt-4o"
"""Short forms people use in the names of deployments; no server reports them."""

_VERSION = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{4}|latest|preview)\Z")

_DATE = re.compile(r"(?<!\d)20\d\d-\d\d-\d\d(?!\d)")

_SEPARATOR = "[-_. ]?"
_VARIANTS = (
    "mini|nano|pro|max|codex|sol|terra|luna|astra|instruct|audio|realtime|transcribe|tts|image"
    f"|deep{_SEPARATOR}research|16k|32k|o"
)
"""Words that make another model of a family. After a match they mean: not that model."""


@lru_cache(maxsize=1024)
def infer_model(deployment: str) -> str | None:
    """The model family that the name of a deployment suggests; ``None`` where it suggests none.

    The longest match wins; case does not matter, and separators may be ``-``, ``_``, ``.``, a space
    or missing. A match stands alone (``demo1`` is not o1), and neither a further version number nor a
    word that makes another model may follow it: ``gpt-4.2`` is not GPT-4.

        >>> infer_model("my-gpt4-turbo")
        'gpt-4-turbo'
        >>> infer_model("custom-name") is None
        True
    """
    name = deployment.lower()
    for pattern, family in _patterns():
        if pattern.search(name):
            return family
    return None


@lru_cache(maxsize=1024)
def resolve_model(served: str) -> str | None:
    """The model a server names, in Azure's spelling and with its version; ``None`` if not known.

    Known is a model of `FAMILIES`, alone or with one version behind it (``-2024-11-20``, ``-0613``,
    ``-latest``, ``-preview``). Nothing is inferred: ``gpt-5-ultra-2027-01-01`` is not known.

        >>> resolve_model("GPT-3.5-turbo-0125")
        'gpt-35-turbo-0125'
    """
    name = served.strip().lower()
    if name in _known():
        return _known()[name]
    version = _VERSION.search(name)
    base = None if version is None else _known().get(name[: version.start()])
    return None if base is None or version is None else base + version.group()


def family_of(model: str) -> str | None:
    """The family of a model a server names, without its version; ``None`` if not known."""
    name = resolve_model(model)
    if name is None or name in _known():
        return name
    return _VERSION.sub("", name)


def price_model(model_name: str | None, served: str | None, deployment: str) -> str | None:
    """The model whose price a call has; ``None`` where nothing tells.

    What the user says (``model_name``) comes first, then the model the server says it ``served``,
    then what the name of the ``deployment`` suggests. A date in a name is kept: versions of a model
    differ in price, and a fine-tuned model (``ft:MODEL:…``) has one of its own: that of ``ft:MODEL``.
    """
    if model_name and (said := resolve_model(model_name) or _inferred_version(model_name)):
        return said
    if served and (reported := resolve_model(served) or fine_tuned(served)):
        return reported
    return _inferred_version(deployment)


def _inferred_version(name: str) -> str | None:
    """The family a name suggests, with the date that stands in the name."""
    if tuned := fine_tuned(name):
        return tuned
    family, date = infer_model(name), _DATE.search(name)
    return family if family is None or date is None else f"{family}-{date.group()}"


def fine_tuned(name: str) -> str | None:
    """``ft:MODEL`` of OpenAI's name for a model fine-tuned from ``MODEL``; ``None`` for another.

    >>> fine_tuned("ft:gpt-4o-mini-2024-07-18:acme:shop:Ab1")
    'ft:gpt-4o-mini-2024-07-18'
    """
    words = name.strip().lower().split(":")
    return f"ft:{words[1]}" if words[0] == "ft" and len(words) > 1 else None


@cache
def _known() -> dict[str, str]:
    """What a server may report, each with Azure's name for it."""
    return {name: name for name in (*FAMILIES, *_SERVED_ONLY)} | _ALIASES


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """A pattern for each spelling, longest first."""
    names = {family: family for family in FAMILIES} | _ALIASES | _SPOKEN
    spellings = sorted(names, key=lambda name: (-len(name), name))
    return tuple((re.compile(_pattern(spelling)), names[spelling]) for spelling in spellings)


def _pattern(spelling: str) -> str:
    words = [_word(word, bare=spelling.count("-") == 1) for word in spelling.split("-")]
    text = rf"(?<![a-z0-9]){_SEPARATOR.join(words)}(?![a-z0-9])(?!\.\d)"
    text += rf"(?!{_SEPARATOR}(?:{_VARIANTS})(?![a-z0-9]))"
    if re.fullmatch(r"gpt-\d", spelling):
        text += r"(?![-_ ]\d{1,2}(?![a-z0-9]))"  # gpt-4-1: is it GPT-4.1, or the first GPT-4?
    if re.fullmatch(r"gpt-[5-9](\.\d)?", spelling):
        text += rf"(?!{_SEPARATOR}chat(?![a-z0-9]))"  # the chat models of GPT-5 and later are models apart
    if spelling == "codex-mini":
        text = rf"\A(?!.*gpt).*{text}"  # gpt-5.4-codex-mini is no codex-mini
    return text


def _word(word: str, *, bare: bool) -> str:
    """One word of a spelling; a version's dot may only be missing where more words make it plain."""
    if word == "4o":
        return f"4{_SEPARATOR}o"
    if word == "35":
        return f"3{_SEPARATOR}5"
    separator = r"\." if bare else _SEPARATOR
    return separator.join(re.escape(part) for part in word.split("."))
