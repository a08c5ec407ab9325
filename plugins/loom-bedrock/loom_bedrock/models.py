"""Which model is behind an id? Model ids, inference profiles and ARNs, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["ModelId", "parse_model_id"]

GEOGRAPHIES = ("global", "us-gov", "us", "eu", "apac", "jp", "au", "in", "ca", "sa", "me", "uk")
"""The prefixes of cross-region inference profiles."""

_ARN = re.compile(r"arn:aws[^:]*:(?P<service>bedrock|sagemaker):(?P<region>[^:]*):[^:]*:(?P<resource>.+)")
_GEOGRAPHY = re.compile(rf"(?P<geography>{'|'.join(GEOGRAPHIES)})\.(?P<rest>[^.]+\..+)")
_VERSION = re.compile(r"(-v\d+)?(:\d+)?(:\d+k|:mm)?\Z")
_NAMED = ("foundation-model", "inference-profile")
"""The kinds of resource whose ARN says the model."""


@dataclass(frozen=True, slots=True)
class ModelId:
    """A model id taken apart.

    ``name`` is the model without geography and version (``anthropic.claude-sonnet-4-5-20250929``),
    ``None`` where an ARN does not tell. ``geography`` is the prefix of an inference profile (``us``,
    ``eu``, ``global``, …) and empty for a bare model id. ``region`` and ``resource`` are those of an ARN.
    """

    name: str | None
    geography: str = ""
    region: str = ""
    resource: str = ""

    @property
    def vendor(self) -> str:
        """Who made the model: ``anthropic``, ``amazon``, ``meta``, …; empty where it is not known."""
        return "" if self.name is None else self.name.partition(".")[0]

    @property
    def is_provisioned(self) -> bool:
        """Whether it is paid by the hour instead of by the token."""
        return self.resource in {"provisioned-model", "endpoint"}


@lru_cache(maxsize=256)
def parse_model_id(model: str) -> ModelId:
    """``model`` taken apart: a model id, an inference profile id or an ARN.

    >>> parse_model_id("us.anthropic.claude-sonnet-4-5-20250929-v1:0").name
    'anthropic.claude-sonnet-4-5-20250929'
    """
    if arn := _ARN.fullmatch(model.strip()):
        kind, _, rest = arn["resource"].partition("/")
        inner = _parts(rest) if kind in _NAMED else ("", None)
        return ModelId(inner[1], inner[0], arn["region"], kind)
    geography, name = _parts(model.strip())
    return ModelId(name, geography)


def _parts(text: str) -> tuple[str, str | None]:
    """Geography and name of a model id."""
    geography = ""
    if match := _GEOGRAPHY.fullmatch(text):
        geography, text = match["geography"], match["rest"]
    name = _VERSION.sub("", text.lower(), count=1)
    return geography, name or None
