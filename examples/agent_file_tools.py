"""The tools of agent.yaml."""

from loom_py import tool


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: rain, 9 °C"
