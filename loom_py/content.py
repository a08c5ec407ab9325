"""What a message may hold beside plain text: parts, and the JSON form that all messages share."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

__all__ = ["ContentPart", "ImagePart", "JSONForm", "JSONObject", "TextPart", "part_from_dict"]

JSONObject: TypeAlias = dict[str, Any]

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""Azure OpenAI's limit for one image (its documentation of quotas and limits)."""

IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What the vision models read."""


class JSONForm:
    """The JSON text forms of a class that has ``to_dict`` and ``from_dict``."""

    __slots__ = ()

    def to_dict(self) -> JSONObject:
        """A JSON-compatible ``dict`` that `from_dict` turns back into an equal object."""
        raise TypeError(f"{type(self).__name__} has no JSON form")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The object that `to_dict` wrote."""
        raise TypeError(f"{cls.__name__} has no JSON form")

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The object that `to_json` wrote. Raises `json.JSONDecodeError` on other text."""
        return cls.from_dict(json.loads(text))


@dataclass(frozen=True, slots=True)
class TextPart(JSONForm):
    """A piece of text inside a message with several parts."""

    text: str

    def to_dict(self) -> JSONObject:
        return {"type": "text", "text": self.text}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["text"])


@dataclass(frozen=True, slots=True)
class ImagePart(JSONForm):
    """An image inside a message, by ``url`` or as ``data`` (bytes) with its ``media_type``.

    Best made with `from_path`, `from_bytes` or `from_url`, which check it. ``detail`` is ``"auto"``,
    ``"low"`` or ``"high"``: how closely a vision model should look. Raises `ValueError` unless
    exactly one of ``url`` and ``data`` is given.
    """

    url: str | None = None
    data: bytes | None = field(default=None, repr=False)
    media_type: str = "image/png"
    detail: Literal["auto", "low", "high"] = "auto"

    def __post_init__(self) -> None:
        if (self.url is None) == (self.data is None):
            raise ValueError("an image part takes exactly one of url= and data=")

    @classmethod
    def from_url(cls, url: str, *, detail: Literal["auto", "low", "high"] = "auto") -> Self:
        """The image at an address the model's service can reach.

        Raises `ValueError` for a URL that is not http, https or ``data:``.
        """
        if not url.startswith(("https://", "http://", "data:image/")):
            raise ValueError("an image URL must begin with https://, http:// or data:image/")
        return cls(url=url, detail=detail)

    @classmethod
    def from_bytes(
        cls, data: bytes, *, media_type: str | None = None, detail: Literal["auto", "low", "high"] = "auto"
    ) -> Self:
        """The image in ``data``; its type is read from its first bytes where it is not given.

        Raises `ValueError` for a type that vision models do not read (PNG, JPEG, GIF and WebP they
        do), and for an image of no bytes or more than 20 MiB.
        """
        if not 0 < len(data) <= MAX_IMAGE_BYTES:
            raise ValueError(f"an image must have 1 byte to 20 MiB, not {len(data):,} bytes")
        found = media_type or _image_type(data)
        if found not in IMAGE_TYPES:
            known = ", ".join(sorted(IMAGE_TYPES))
            raise ValueError(f"vision models do not read {found or 'these bytes'}: use one of {known}")
        return cls(data=data, media_type=found, detail=detail)

    @classmethod
    def from_path(cls, path: str | PathLike[str], *, detail: Literal["auto", "low", "high"] = "auto") -> Self:
        """The image in a file, checked as by `from_bytes`. Raises `OSError` where it cannot be read."""
        file = Path(path)
        if (size := file.stat().st_size) > MAX_IMAGE_BYTES:
            raise ValueError(f"{file.name} has {size:,} bytes; an image may have 20 MiB at most")
        try:
            return cls.from_bytes(file.read_bytes(), detail=detail)
        except ValueError as exc:
            raise ValueError(f"{file.name}: {exc}") from None

    @property
    def source(self) -> str:
        """The URL of the image; for ``data`` a ``data:`` URL in base64."""
        if self.url is not None:
            return self.url
        encoded = base64.b64encode(self.data or b"").decode("ascii")
        return f"data:{self.media_type};base64,{encoded}"

    def to_dict(self) -> JSONObject:
        data: JSONObject = {"type": "image", "media_type": self.media_type, "detail": self.detail}
        if self.url is not None:
            data["url"] = self.url
        else:
            data["data"] = base64.b64encode(self.data or b"").decode("ascii")
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        encoded = data.get("data")
        return cls(
            url=data.get("url"),
            data=None if encoded is None else base64.b64decode(encoded),
            media_type=data["media_type"],
            detail=data["detail"],
        )


ContentPart: TypeAlias = TextPart | ImagePart


def part_from_dict(data: Mapping[str, Any]) -> ContentPart:
    """The content part whose ``to_dict`` wrote ``data``."""
    return TextPart.from_dict(data) if data["type"] == "text" else ImagePart.from_dict(data)


def _image_type(data: bytes) -> str | None:
    """The media type by the magic number an image begins with."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None
