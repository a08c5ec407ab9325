"""Tools that return images."""

from __future__ import annotations

from typing import Any

import pytest

from loom_py import ImagePart, Message, TextPart, ToolCall, tool
from loom_py.messages import ToolResult
from loom_py.tools import ToolExecutor
from loom_py.tools.results import render

PICTURE = ImagePart.from_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 8)
LINKED = ImagePart(url="https://example.com/a.png")


@pytest.mark.parametrize(
    ("value", "content"),
    [
        (PICTURE, (PICTURE,)),
        ([PICTURE, LINKED], (PICTURE, LINKED)),
        (("front", PICTURE), (TextPart("front"), PICTURE)),
        ([TextPart("front"), PICTURE, {"side": 2}], (TextPart("front"), PICTURE, TextPart('{"side":2}'))),
        (TextPart("just text"), "just text"),
        (["a", "b"], '["a","b"]'),
        ([], "[]"),
    ],
)
def test_images_stay_images_and_everything_else_is_text(value: Any, content: Any) -> None:
    assert render(value) == content


async def test_the_result_of_a_tool_keeps_its_parts_through_json() -> None:
    @tool
    def camera() -> tuple[str, ImagePart]:
        """Takes a picture."""
        return "front", PICTURE

    executor = ToolExecutor([camera])
    for (result,) in (
        executor.run([ToolCall("c", "camera")]),
        await executor.arun([ToolCall("c", "camera")]),
    ):
        assert result.content == (TextPart("front"), PICTURE)
        assert (result.text, result.is_error) == ("front", False)
        assert ToolResult.from_json(result.to_json()) == result
        message = Message.tool(result.content, result.call_id, result.name)
        assert message.text == "front"
        assert Message.from_json(message.to_json()) == message
