"""What is refused before it is sent, and what is left for Azure to judge."""

from __future__ import annotations

from typing import Any

import pytest

from loom_py import AzureOpenAIClient, ChatOptions, ImagePart, Message, TextPart, ToolSpec
from loom_py.errors import ConfigError
from loom_py.llm.azure.checks import check_call
from loom_py.llm.profiles import profile_for

HELLO = [Message.user("Hello")]
LOOK = (ToolSpec("look"),)
PICTURE = ImagePart.from_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 8)
SEEN = [Message.user([TextPart("What is this?"), PICTURE])]
SHOWN = [*HELLO, Message.tool([PICTURE], "call_1", "camera")]


def check(messages: Any = HELLO, tools: Any = (), model: str = "prod", **options: Any) -> None:
    check_call(messages, tools, ChatOptions(**options), profile_for(model), model)


@pytest.mark.parametrize(
    ("arguments", "field", "said"),
    [
        ({"reasoning_effort": "hard"}, "reasoning_effort", "none, minimal, low, medium, high, xhigh"),
        ({"verbosity": "loud"}, "verbosity", "low, medium, high"),
        ({"tool_choice": "fly", "tools": LOOK}, "tool_choice", "'fly'"),
        ({"tool_choice": "fly"}, "tool_choice", "'fly'"),
        ({"tools": LOOK, "model": "o1-mini"}, "tools", "takes no tools"),
        ({"reasoning_effort": "high", "model": "gpt-4o"}, "reasoning_effort", "does not reason"),
        ({"messages": SEEN, "model": "o3-mini"}, "messages", "does not read images"),
        ({"messages": SHOWN, "model": "o3-mini"}, "messages", "does not read images"),
    ],
)
def test_what_a_known_model_cannot_do_is_refused_with_the_field(
    arguments: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(**arguments)
    assert caught.value.field == field
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"tool_choice": "look", "tools": LOOK},
        {"tool_choice": "required", "tools": LOOK},
        {"reasoning_effort": "none", "model": "gpt-4o"},
        {"reasoning_effort": "high", "model": "o3"},
        {"reasoning_effort": "high"},
        {"messages": SEEN},
        {"messages": SEEN, "model": "gpt-4o"},
        {"tools": LOOK},
        {"verbosity": "low"},
    ],
)
def test_what_a_model_can_do_or_may_passes(arguments: dict[str, Any]) -> None:
    check(**arguments)


async def ask(client: AzureOpenAIClient, verb: str) -> None:
    call, options = getattr(client, verb), ChatOptions(reasoning_effort="high")
    if verb == "achat":
        await call(HELLO, options=options)
    elif verb == "astream_chat":
        [event async for event in call(HELLO, options=options)]
    else:
        list(call(HELLO, options=options))


@pytest.mark.parametrize("verb", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_the_client_checks_on_every_verb_before_it_connects(verb: str) -> None:
    client = AzureOpenAIClient(endpoint="https://127.0.0.1:1", deployment_id="gpt-4o", api_key="key")
    with pytest.raises(ConfigError, match="does not reason"):
        await ask(client, verb)


def test_a_model_name_decides_over_a_deployments_name_that_misleads() -> None:
    client = AzureOpenAIClient(
        endpoint="https://127.0.0.1:1", deployment_id="gpt-4o", model_name="o3", api_key="key", timeout=1
    )
    assert client.profile.reasoning
