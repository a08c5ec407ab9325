"""Images as parts of a message: found, checked and encoded."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from loom_py import ImagePart

MAGIC = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x00\x00\x00\x00WEBP",
}


@pytest.mark.parametrize(("media_type", "start"), MAGIC.items())
def test_the_type_of_an_image_is_read_from_its_first_bytes(
    media_type: str, start: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "picture.bin"
    file.write_bytes(start + b"rest")
    image = ImagePart.from_path(file, detail="low")
    assert image == ImagePart(data=start + b"rest", media_type=media_type, detail="low")
    assert image.source == f"data:{media_type};base64,{base64.b64encode(start + b'rest').decode()}"
    assert ImagePart.from_bytes(start + b"rest") == ImagePart(data=start + b"rest", media_type=media_type)


def test_a_file_that_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no picture")
    with pytest.raises(ValueError, match=r"notes\.txt: vision models do not read these bytes"):
        ImagePart.from_path(file)
    with pytest.raises(ValueError, match="image/tiff"):
        ImagePart.from_bytes(b"II*\x00", media_type="image/tiff")


def test_an_image_that_is_too_large_or_empty_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "huge.png"
    with file.open("wb") as handle:
        handle.truncate(20 * 1024 * 1024 + 1)
    with pytest.raises(ValueError, match="20 MiB at most"):
        ImagePart.from_path(file)
    with pytest.raises(ValueError, match="1 byte to 20 MiB"):
        ImagePart.from_bytes(b"")


def test_an_image_url_must_be_one_the_service_can_read() -> None:
    assert ImagePart.from_url("https://example.org/cat.png").source == "https://example.org/cat.png"
    with pytest.raises(ValueError, match="must begin with"):
        ImagePart.from_url("file:///etc/passwd")


def test_an_image_has_exactly_one_source() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        ImagePart()
    with pytest.raises(ValueError, match="exactly one"):
        ImagePart(url="https://example.org/a.png", data=b"x")
