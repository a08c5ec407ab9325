"""The builder: a fluent description that cannot be changed, and one error that tells everything."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from loom_py import (
    Agent,
    AgentBuilder,
    AzureOpenAIClient,
    BaseBackend,
    BuilderError,
    QueryResult,
    ScriptedProvider,
    tool,
)
from loom_py.errors import BackendConnectionError, ConfigError, ToolDefinitionError
from loom_py.loop import Limits

ENDPOINT = "https://shop.openai.azure.com"


@pytest.fixture(autouse=True)
def no_azure_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("AZURE_OPENAI_", "OPENAI_")):
            monkeypatch.delenv(name)


@tool
def double(number: int) -> int:
    """Twice a number."""
    return 2 * number


def plain(city: str, days: int = 1) -> str:
    """The weather.

    Args:
        city: its English name.
    """
    return f"{city} {days}"


class Notes(BaseBackend):
    """A list one can search."""

    name = "notes"

    def __init__(self, reachable: bool = True) -> None:
        self.reachable = reachable
        self.closed = 0

    def execute_query(self, query: str, **options: Any) -> QueryResult:
        return QueryResult.from_rows([{"note": query}])

    def ping(self) -> None:
        if not self.reachable:
            raise BackendConnectionError("notes cannot be reached", hint="Start the notes server.")

    def close(self) -> None:
        self.closed += 1


def ready() -> AgentBuilder:
    return AgentBuilder().with_llm(ScriptedProvider(lambda _: "ok"))


def problems_of(builder: AgentBuilder) -> dict[str, str]:
    with pytest.raises(BuilderError) as caught:
        builder.build()
    return {problem.field: problem.message for problem in caught.value.problems}


# ── the chain ────────────────────────────────────────────────────────────────────────────


def test_the_whole_chain_builds_an_agent() -> None:
    agent = (
        AgentBuilder()
        .with_backend(Notes())
        .with_azure_openai_llm(ENDPOINT, "gpt-4o-deployment", "key", temperature=0.0, max_tokens=100)
        .with_tools(double, plain)
        .with_system_prompt("Be brief.")
        .with_name("clerk")
        .with_limits(max_turns=3)
        .with_timeouts(tool=5)
        .with_circuit_breakers()
        .build()
    )
    assert isinstance(agent, Agent)
    assert (agent.name, agent.system_prompt, agent.limits) == ("clerk", "Be brief.", Limits(max_turns=3))
    assert {"double", "plain", "query"} <= {tool.name for tool in agent.tools}
    assert isinstance(agent.provider, AzureOpenAIClient)
    assert agent.provider.config.temperature == 0.0
    assert agent.provider.config.max_tokens == 100
    agent.close()


@pytest.mark.parametrize(
    "step",
    [
        lambda b: b.with_azure_openai_llm(ENDPOINT, "d", "k"),
        lambda b: b.with_azure_openai_entra_auth(ENDPOINT, "d", "t"),
        lambda b: b.with_llm(ScriptedProvider(["x"])),
        lambda b: b.with_backend(Notes()),
        lambda b: b.with_tools(double),
        lambda b: b.with_system_prompt("x"),
        lambda b: b.with_name("x"),
        lambda b: b.with_limits(max_turns=1),
        lambda b: b.with_circuit_breakers(),
    ],
)
def test_no_step_changes_the_builder_it_was_taken_on(step: Callable[[AgentBuilder], AgentBuilder]) -> None:
    base = ready()
    fields = [field.name for field in dataclasses.fields(base)]
    before = [getattr(base, name) for name in fields]
    stepped = step(base)
    assert [getattr(base, name) for name in fields] == before
    assert [getattr(stepped, name) for name in fields] != before


def test_a_builder_cannot_be_changed_by_hand() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ready()._name = "x"  # type: ignore[misc]


def test_one_base_serves_for_several_agents() -> None:
    base = ready().with_tools(double)
    left = base.with_name("left").with_tools(plain).build()
    right = base.with_name("right").build()
    assert [tool.name for tool in left.tools] == ["double", "plain"]
    assert [tool.name for tool in right.tools] == ["double"]
    assert (left.name, right.name) == ("left", "right")


def test_each_build_of_a_named_provider_makes_its_own() -> None:
    base = AgentBuilder().with_azure_openai_llm(ENDPOINT, "d", "k")
    assert base.build().provider is not base.build().provider


def test_asking_again_replaces_and_limits_add_up() -> None:
    builder = (
        ready().with_name("a").with_name("b").with_limits(max_turns=3).with_limits(max_tool_executions=4)
    )
    agent = builder.build()
    assert agent.name == "b"
    assert agent.limits == Limits(max_turns=3, max_tool_executions=4)


def test_a_provider_may_be_given_by_name() -> None:
    agent = AgentBuilder().with_llm("azure-openai", endpoint=ENDPOINT, deployment_id="d", api_key="k").build()
    assert (agent.provider.name, agent.provider.model) == ("azure-openai", "d")


def test_a_static_token_and_a_credential_are_told_apart() -> None:
    by_token = AgentBuilder().with_azure_openai_entra_auth(ENDPOINT, "d", "Bearer abc").build().provider
    assert isinstance(by_token, AzureOpenAIClient)
    assert by_token.config.entra_token is not None
    assert by_token.config.entra_token.get_secret_value() == "abc"
    by_function = AgentBuilder().with_azure_openai_entra_auth(ENDPOINT, "d", lambda: "abc").build().provider
    assert isinstance(by_function, AzureOpenAIClient)
    assert by_function.config.entra_token is None


def test_an_explicit_token_wins_over_a_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "from-the-environment")
    provider = AgentBuilder().with_azure_openai_entra_auth(ENDPOINT, "d", "abc").build().provider
    assert isinstance(provider, AzureOpenAIClient)
    assert provider.config.api_key is None


def test_what_is_left_out_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", ENDPOINT)
    monkeypatch.setenv("AZURE_OPENAI_DEPLOYMENT", "env-deployment")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "k")
    assert AgentBuilder().with_azure_openai_llm().build().provider.model == "env-deployment"


def test_tools_of_every_kind_and_a_backends_own_appear() -> None:
    class Shop:
        def price(self, item: str) -> float:
            """The price of an item."""
            return 1.0

    agent = ready().with_tools(double, plain, Shop().price).with_backend(Notes()).build()
    assert {"double", "plain", "price", "query"} <= {tool.name for tool in agent.tools}
    assert agent.backends[0].name == "notes"


def test_an_agent_closes_its_backend_but_not_a_shared_one() -> None:
    own, shared = Notes(), Notes()
    shared.tool_prefix = "shared_"
    ready().with_backend(own).with_backend(shared, shared=True).build().close()
    assert (own.closed, shared.closed) == (1, 0)


def test_the_repr_holds_no_secret() -> None:
    builder = AgentBuilder().with_azure_openai_llm(ENDPOINT, "d", "sk-very-secret").with_name("clerk")
    assert "secret" not in repr(builder) + str(builder)
    assert "clerk" in repr(builder)


# ── everything that can be wrong ─────────────────────────────────────────────────────────


def test_an_agent_needs_a_model() -> None:
    assert problems_of(AgentBuilder().with_backend(Notes())) == {"llm": "LLM provider is required"}
    with pytest.raises(BuilderError, match="LLM provider is required"):
        AgentBuilder().build()


def test_every_problem_is_in_the_one_error() -> None:
    def untyped(a, b):  # type: ignore[no-untyped-def]
        return a

    with pytest.raises(BuilderError) as caught:
        (
            AgentBuilder()
            .with_azure_openai_llm("http://shop.openai.azure.com", "", max_tokens=0, temperature=3, timeout=0)
            .with_backend(Notes(reachable=False))
            .with_tools(double, double, untyped)
            .with_limits(max_turns=0, max_tool_executions=-1)
            .with_timeouts(tool=0)
            .with_circuit_breakers(failure_threshold=0, open_seconds=-1)
            .with_name(" ")
            .build()
        )
    error = caught.value
    text = error.message
    for part in (
        "https",
        "deployment ID is required",
        "either api_key or entra_token must be provided",
        "max_tokens",
        "temperature",
        "timeout",
        "notes cannot be reached",
        "2 tools are named 'double'",
        "untyped",
        "max_turns",
        "max_tool_executions",
        "tool must be seconds",
        "failure_threshold",
        "open_seconds",
        "name must be text",
    ):
        assert part in text, part
    assert len(error.problems) == 15
    assert f"{len(error.problems)} problems" in text
    assert (error.code, error.grpc_code) == ("builder_error", "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "d", "k"), "endpoint is required"),
        (("http://shop.openai.azure.com", "d", "k"), "endpoint must use https"),
        ((ENDPOINT, "", "k"), "deployment ID is required"),
        ((ENDPOINT, "d", ""), "either api_key or entra_token must be provided"),
        ((ENDPOINT, "d", None), "either api_key or entra_token must be provided"),
    ],
)
def test_a_missing_azure_setting_is_named(arguments: tuple[Any, ...], message: str) -> None:
    (found,) = problems_of(AgentBuilder().with_azure_openai_llm(*arguments)).values()
    assert message in found


@pytest.mark.parametrize(
    "setting",
    [
        {"max_tokens": 0},
        {"max_tokens": 128_001},
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"timeout": 0.5},
        {"timeout": 601},
    ],
)
def test_a_setting_out_of_range_is_named(setting: dict[str, Any]) -> None:
    found = problems_of(AgentBuilder().with_azure_openai_llm(ENDPOINT, "d", "k", **setting))
    assert set(found) == set(setting)


@pytest.mark.parametrize(
    "limits",
    [{"max_turns": 0}, {"max_tool_executions": True}, {"on_limit": "x"}, {"max_tool_calls_per_reply": 1.5}],
)
def test_a_limit_that_makes_no_sense_is_named(limits: dict[str, Any]) -> None:
    assert set(problems_of(ready().with_limits(**limits))) == set(limits)


@pytest.mark.parametrize("timeout", [0, -1, "5", float("nan"), float("inf")])
def test_a_tool_timeout_that_makes_no_sense_is_named(timeout: Any) -> None:
    (message,) = problems_of(ready().with_timeouts(tool=timeout)).values()
    assert "tool must be seconds above 0" in message


def test_a_tool_without_annotations_is_refused_with_its_name() -> None:
    def find(where):  # type: ignore[no-untyped-def]
        return where

    with pytest.raises(BuilderError, match="find") as caught:
        ready().with_tools(find).build()
    assert isinstance(caught.value.problems[0].error, ToolDefinitionError)


@pytest.mark.parametrize("thing", [3, "double", [double], None])
def test_what_is_no_tool_is_refused(thing: Any) -> None:
    assert "neither a tool nor callable" in problems_of(ready().with_tools(thing))["tools"]


def test_a_tool_may_not_have_the_name_of_a_backends() -> None:
    @tool
    def query(text: str) -> str:
        """Something else."""
        return text

    assert (
        "2 tools are named 'query'" in problems_of(ready().with_tools(query).with_backend(Notes()))["tools"]
    )


@pytest.mark.parametrize("thing", [None, 3, object(), ScriptedProvider, Agent])
def test_what_is_no_provider_is_refused(thing: Any) -> None:
    assert "is not an LLM provider" in problems_of(AgentBuilder().with_llm(thing))["llm"]


def test_an_unknown_providers_name_is_refused() -> None:
    assert "no-such-thing" in " ".join(problems_of(AgentBuilder().with_llm("no-such-thing")).values())


def test_settings_beside_a_provider_object_are_refused() -> None:
    found = problems_of(AgentBuilder().with_llm(ScriptedProvider(["x"]), temperature=1.0))
    assert "temperature" in found["llm"]


@pytest.mark.parametrize("thing", [None, "sqlite:///x.db", Notes, object()])
def test_what_is_no_backend_is_refused(thing: Any) -> None:
    assert "is not a backend" in problems_of(ready().with_backend(thing))["backend"]


def test_a_backend_that_cannot_connect_is_a_problem_of_the_build() -> None:
    with pytest.raises(BuilderError, match="notes cannot be reached") as caught:
        ready().with_backend(Notes(reachable=False)).build()
    assert isinstance(caught.value.problems[0].error, BackendConnectionError)
    assert "Start the notes server." in caught.value.message


def test_a_database_nobody_serves_is_a_problem_of_the_build() -> None:
    pytest.importorskip("psycopg")
    sql = pytest.importorskip("loom_py.backends.sql")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        backend = sql.SQLBackend(f"postgresql+psycopg://user:s3cret@127.0.0.1:{port}/shop", timeout=2)
        try:
            (message,) = problems_of(ready().with_backend(backend)).values()
        finally:
            backend.close()
    assert "s3cret" not in message


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    assert "name" in problems_of(ready().with_name(name))


def test_a_system_prompt_must_be_text() -> None:
    assert "must be text, not int" in problems_of(ready().with_system_prompt(3))["system_prompt"]  # type: ignore[arg-type]


def test_a_failed_build_closes_nothing_that_the_caller_made() -> None:
    class Open(ScriptedProvider):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    backend, provider = Notes(), Open(["ok"])
    broken = AgentBuilder().with_backend(backend).with_llm(provider).with_name("")
    assert problems_of(broken)
    assert (backend.closed, provider.closed) == (0, 0)
    assert broken.with_name("mended").build().chat("Go").message == "ok"


def test_a_plugins_own_blunder_is_on_the_list_too() -> None:
    class Blunder(Notes):
        def tools(self) -> Any:
            raise ZeroDivisionError("oops")

    assert "ZeroDivisionError: oops" in problems_of(ready().with_backend(Blunder()))["backend notes"]


def test_builder_errors_are_config_errors() -> None:
    with pytest.raises(ConfigError):
        AgentBuilder().build()
