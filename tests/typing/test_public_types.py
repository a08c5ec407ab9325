"""The types a user's checker infers along the fluent chain."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from decimal import Decimal
from typing import assert_type

from loom_py import (
    Agent,
    AgentBuilder,
    AzureOpenAIClient,
    BaseBackend,
    ChatOptions,
    ImagePart,
    LLMProvider,
    Message,
    QueryResult,
    Response,
    ScriptedProvider,
    StreamEvent,
    TextPart,
    TokenUsage,
    Tool,
    ToolCall,
    ToolResult,
    configure_logging,
    tool,
)
from loom_py.backends import Backend
from loom_py.resilience.health import Health

ENDPOINT = "https://shop.openai.azure.com"


@tool
def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


class Notes(BaseBackend):
    """A list one can search."""

    name = "notes"

    def execute_query(self, query: str, **options: object) -> QueryResult:
        return QueryResult.from_rows([{"note": query}])


def built() -> Agent:
    return AgentBuilder().with_llm(ScriptedProvider(lambda _: "ok")).build()


def test_every_step_of_the_chain_is_a_builder() -> None:
    builder = AgentBuilder()
    assert_type(builder.with_azure_openai_llm(ENDPOINT, "d", "k"), AgentBuilder)
    assert_type(builder.with_azure_openai_llm(), AgentBuilder)
    assert_type(builder.with_azure_openai_entra_auth(ENDPOINT, "d", "token"), AgentBuilder)
    assert_type(builder.with_azure_openai_entra_auth(ENDPOINT, "d", lambda: "token"), AgentBuilder)
    assert_type(builder.with_llm(ScriptedProvider(["x"])), AgentBuilder)
    assert_type(builder.with_llm("azure-openai", endpoint=ENDPOINT), AgentBuilder)
    assert_type(builder.with_backend(Notes()), AgentBuilder)
    assert_type(builder.with_tools(double, len, print), AgentBuilder)
    assert_type(builder.with_system_prompt("x"), AgentBuilder)
    assert_type(builder.with_name("x"), AgentBuilder)
    assert_type(builder.with_limits(max_turns=3, on_limit="raise"), AgentBuilder)
    assert_type(builder.with_circuit_breakers(failure_threshold=3), AgentBuilder)


def test_the_chain_ends_in_an_agent() -> None:
    agent = AgentBuilder().with_llm(ScriptedProvider(["ok"])).with_tools(double).build()
    assert_type(agent, Agent)
    assert_type(agent.provider, LLMProvider)
    assert_type(agent.health(), Health)
    assert_type(agent.sessions(), tuple[str, ...])
    with agent as entered:
        assert_type(entered, Agent)


async def test_the_four_verbs() -> None:
    agent = built()
    assert_type(agent.chat("Go"), Response)
    assert_type(await agent.achat("Go", session_id="s", options=ChatOptions(temperature=0.0)), Response)
    assert_type(agent.chat([TextPart("Go"), ImagePart(url="https://x/y.png")]), Response)
    stream = agent.stream_chat("Go")
    assert_type(stream, Generator[StreamEvent, None, None])
    astream = agent.astream_chat("Go")
    assert_type(astream, AsyncGenerator[StreamEvent, None])
    for event in stream:
        assert_type(event.delta, str)
        assert_type(event.response, Response | None)
    async for event in astream:
        assert_type(event, StreamEvent)
    assert_type(agent.history("s"), tuple[Message, ...])


def test_a_response_and_its_parts() -> None:
    response = built().chat("Go")
    assert_type(response.message, str)
    assert_type(response.tokens_used, TokenUsage)
    assert_type(response.tokens_used.total, int)
    assert_type(response.cost_usd, Decimal | None)
    assert_type(response.tool_calls, tuple[ToolCall, ...])
    assert_type(response.tool_results, tuple[ToolResult, ...])
    assert_type(Response.from_json(response.to_json()), Response)
    assert_type(Message.user("Hi"), Message)


def test_protocols_are_met_without_inheritance_or_casts() -> None:
    provider: LLMProvider = ScriptedProvider(["x"])
    azure: LLMProvider = AzureOpenAIClient(endpoint=ENDPOINT, deployment_id="d", api_key="k")
    backend: Backend = Notes()
    assert (provider.name, azure.name, backend.name) == ("scripted", "azure-openai", "notes")
    _: Tool[[int], int] = double
    assert_type(double(2), int)
    assert callable(configure_logging)
