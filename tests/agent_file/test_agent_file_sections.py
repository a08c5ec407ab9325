"""Every section: it is what the builder's method takes, checked by what the builder checks with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from loom_py import AgentBuilder, AzureEmulator, ScriptedProvider
from loom_py.agent_file import Step, check, load
from loom_py.agent_file.fields import Field
from loom_py.agent_file.sections import SECTIONS, azure_fields, section
from loom_py.agent_file.words import WORDS
from loom_py.errors import BuilderError

Write = Callable[..., Path]

NOT_IN_A_FILE = {"http_client", "async_http_client"}
"""Live objects."""

NO_SECTION = {
    "with_clock": "for tests",
    "with_openai_llm": "llm: {provider: openai, …}",
    "with_openai_compatible_llm": "llm: {provider: openai-compatible, …}",
    "with_anthropic_llm": "llm: {provider: anthropic, …}",
    "with_bedrock_llm": "llm: {provider: bedrock, …}",
    "with_ollama_llm": "llm: {provider: ollama, …}",
    "with_llm": "llm:",
    "with_azure_openai_llm": "llm: {provider: azure-openai, …}",
    "with_azure_openai_entra_auth": "llm: {provider: azure-openai, credential: …}",
    "with_backend": "backend:",
    "with_tools": "tools:",
    "with_system_prompt": "system_prompt:",
    "with_name": "name:",
    "with_output": "output:",
    "with_listener": "listeners:",
}
"""The methods that are no section of settings, and how a file says the same."""


def parameters(method: str) -> dict[str, inspect.Parameter]:
    """The named parameters of a method of the builder; those of a provider of its own are open."""
    found = inspect.signature(getattr(AgentBuilder, method)).parameters
    return {
        name: each for name, each in found.items() if name != "self" and each.kind is not each.VAR_KEYWORD
    }


@pytest.mark.parametrize("place", SECTIONS)
def test_a_section_has_the_names_of_the_builders_keywords(place: str) -> None:
    part = section(place)
    names = set(parameters(part.method))
    extra = {"timeout", "heartbeat", "lease"} if part.method == "with_shared_state" else set()
    assert part.fields.keys() == names | extra


@pytest.mark.parametrize("place", SECTIONS)
def test_a_section_has_the_defaults_of_the_builders_keywords(place: str) -> None:
    part = section(place)
    for name, each in parameters(part.method).items():
        if each.kind is each.VAR_POSITIONAL or (each.default is None and part.method == "with_limits"):
            continue  # the limits' own defaults are those of `Limits`
        assert part.fields[name].default == each.default, name


def test_azures_settings_are_those_of_both_builder_methods() -> None:
    names = {*parameters("with_azure_openai_llm"), *parameters("with_azure_openai_entra_auth")}
    assert azure_fields().keys() - {"entra_token"} == names - NOT_IN_A_FILE - {"deployments"}


def test_no_method_of_the_builder_is_forgotten() -> None:
    methods = {name for name in vars(AgentBuilder) if name.startswith("with_")}
    assert methods == {section(place).method for place in SECTIONS} | NO_SECTION.keys()


@pytest.mark.parametrize("place", SECTIONS)
def test_every_field_is_described(place: str) -> None:
    fields: Mapping[str, Field] = section(place).fields
    assert all(each.description.endswith(".") for each in fields.values())
    words = WORDS[place.rpartition(".")[2]]
    assert words.keys() == fields.keys()


def steps(write: Write, text: str, **env: str) -> dict[str, Step]:
    agent = load(write(f"kind: Agent\nllm: azure-openai\n{text}"), env=env)
    return {step.method: step for step in agent.steps()}


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("limits: {max_turns: 3, on_limit: raise}", "with_limits", {"max_turns": 3, "on_limit": "raise"}),
    ("limits:", "with_limits", {}),
    ("resilience: {retries: {max_attempts: 2}}", "with_retries", {"max_attempts": 2}),
    ("resilience: {circuit_breakers: true}", "with_circuit_breakers", {}),
    ("resilience: {circuit_breakers: }", "with_circuit_breakers", {}),
    ("resilience: {circuit_breakers: {failure_rate: null}}", "with_circuit_breakers", {"failure_rate": None}),
    (
        "resilience: {rate_limit: {tokens_per_minute: 10, queue_timeout: 2}}",
        "with_rate_limit",
        {"tokens_per_minute": 10, "queue_timeout": 2},
    ),
    ("resilience: {timeouts: {run: 30, tool: 1.5}}", "with_timeouts", {"run": 30, "tool": 1.5}),
    ("budget: {usd: 0.5, per: day}", "with_budget", {"usd": 0.5, "per": "day"}),
    ('budget: {usd: "0.50"}', "with_budget", {"usd": "0.50"}),
    ("guardrails: {max_corrections: 2}", "with_guardrails", {"max_corrections": 2}),
]


@pytest.mark.parametrize(("text", "method", "expected"), CASES, ids=[case[0] for case in CASES])
def test_a_section_becomes_a_call_of_the_builder(
    write: Write, text: str, method: str, expected: dict[str, Any]
) -> None:
    step = steps(write, text)[method]
    assert (step.args, step.kwargs) == ((), expected)


WRONG: list[tuple[str, str, str]] = [
    ("limits: {max_turns: 0}", "limits.max_turns", "max_turns must be a whole number of at least 1, not 0"),
    ("limits: {max_turns: true}", "limits.max_turns", "max_turns must be a whole number, not true"),
    ("limits: 3", "limits", "limits must be a mapping, not a number"),
    (
        "resilience: {retries: {multiplier: 0.5}}",
        "resilience.retries.multiplier",
        "multiplier must be a number of at least 1, not 0.5",
    ),
    (
        "resilience: {retries: {restart_streams: 1}}",
        "resilience.retries.restart_streams",
        "restart_streams must be true or false, not 1",
    ),
    ("resilience: {retries: false}", "resilience.retries", "resilience.retries cannot be false"),
    (
        "resilience: {rate_limit: {max_queue: 3}}",
        "resilience.rate_limit",
        "a rate limit needs tokens_per_minute or requests_per_minute",
    ),
    (
        "resilience: {timeouts: {run: .inf}}",
        "resilience.timeouts.run",
        "run must be seconds above 0, not inf",
    ),
    ("resilience: {hedging: {}}", "resilience.hedging", "resilience.hedging needs after_seconds"),
    (
        "resilience: {failover: {sticky: true}}",
        "resilience.failover",
        "resilience.failover needs deployments",
    ),
    ("resilience: {retry: {}}", "resilience.retry", "resilience has no setting 'retry'"),
    ("retries: {}", "retries", "an agent has no setting 'retries'"),
    ("budget: {}", "budget", "a budget needs usd, tokens or both"),
    ("budget: [{usd: 1}, {usd: 2}]", "budget[1]", "there are two budgets per chat"),
    (
        "budget: {usd: 1, on_unknown_price: assume, assumed_price: {input: 1}}",
        "budget.assumed_price",
        "a price needs output",
    ),
    (
        "guardrails: {max_corrections: 0}",
        "guardrails.max_corrections",
        "max_corrections must be a whole number from 1, not 0",
    ),
    ("name: 5", "name", "name must be text that is not empty; it is a number"),
    ("name: ''", "name", "name must be text that is not empty; it is empty"),
    ("system_prompt: {path: x}", "system_prompt", "system_prompt has no text"),
    ("system_prompt: {file: none.md}", "system_prompt.file", "there is no file 'none.md'"),
    ("backend: {kind: graph, url: x}", "backend.kind", "no backend of kind 'graph'; installed: sql"),
    ("backend: {max_rows: 3}", "backend", "a backend of kind 'sql' needs url"),
    (
        "backend: {url: 'sqlite:///x.db', max_rows: 0}",
        "backend.max_rows",
        "max_rows must be at least 1, not 0",
    ),
    (
        "backend: {url: 'sqlite:///x.db', tables: [a]}",
        "backend.tables",
        "a backend of kind 'sql' has no setting 'tables'",
    ),
]


@pytest.mark.parametrize(("text", "field", "message"), WRONG, ids=[case[0] for case in WRONG])
def test_what_is_wrong_is_told_at_its_place(write: Write, text: str, field: str, message: str) -> None:
    problems = check(write(f"kind: Agent\nllm: azure-openai\n{text}\n"), env={})
    assert (field, message) in [(each.field, each.message) for each in problems]
    assert {each.line for each in problems} == {3}


def test_all_problems_are_told_at_once_in_the_order_of_their_lines(write: Write) -> None:
    path = write(
        """\
        kind: Agnt
        llm: {provider: azure-openai, endpoint: http://example.com, max_tokens: 0, temprature: 1}
        tools: [no_such_module]
        limits: {max_turns: 0, max_tool_executions: 0}
        resilience: {retries: {max_attempts: 0}, timeouts: {run: -1}}
        budget: {tokens: 0}
        """
    )
    problems = check(path, env={})
    assert [each.line for each in problems] == [1, 2, 2, 2, 3, 4, 4, 5, 5, 6]
    with pytest.raises(BuilderError) as caught:
        AgentBuilder.from_yaml(path, env={})
    assert caught.value.problems == tuple(problems)


def test_a_value_that_failed_is_not_called_missing_as_well(write: Write) -> None:
    path = write(
        """\
        kind: Agent
        llm: azure-openai
        resilience: {rate_limit: {tokens_per_minute: a}, hedging: {after_seconds: b}, shared_state: {url: 5}}
        budget: {usd: "${NOT_SET}", soft: 3}
        """
    )
    assert [(each.line, each.field.rpartition(".")[2]) for each in check(path, env={})] == [
        (3, "tokens_per_minute"),
        (3, "after_seconds"),
        (3, "url"),
        (4, "usd"),
        (4, "soft"),
    ]


def test_a_price_is_checked_as_prices_are(write: Write) -> None:
    text = "budget: {usd: 1, on_unknown_price: assume, assumed_price: {input: -1, output: 1}}"
    problems = check(write(f"kind: Agent\nllm: azure-openai\n{text}\n"), env={})
    assert [each.message for each in problems] == ["input must not be negative: -1"]


def test_a_kind_is_needed(write: Write) -> None:
    assert check(write("llm: azure-openai\n"))[0].message == "kind is missing"


def test_an_agent_needs_a_model(write: Write) -> None:
    assert [each.message for each in check(write("kind: Agent\n"))] == ["an agent needs an llm"]


def test_the_settings_of_azure_are_checked_by_its_own_configuration(write: Write) -> None:
    text = """\
    kind: Agent
    llm:
      provider: azure-openai
      endpoint: https://x.openai.azure.com/openai/deployments/a
      temperature: 3
      prices:
        gpt-4o: {input: nonsense, output: 1}
    """
    problems = check(write(text), env={})
    assert {each.line for each in problems} == {4, 5, 7}
    assert {each.field for each in problems} >= {"llm.endpoint", "llm.temperature", "llm.prices.gpt-4o.input"}


def test_a_pool_of_deployments_shares_the_other_settings(write: Write) -> None:
    path = write(
        """\
        kind: Agent
        llm:
          provider: azure-openai
          api_key: one-key-for-all
          deployments:
            - {endpoint: https://a.openai.azure.com, deployment_id: a, priority: 1, residency: [eu]}
            - {endpoint: https://b.openai.azure.com, model: b, api_key: its-own, weight: 2}
        """
    )
    builder = AgentBuilder.from_yaml(path, env={})
    with builder.build() as agent:
        assert list(agent.health().deployments) == ["azure-openai/a", "azure-openai/b"]


def test_one_deployment_takes_one_credential(write: Write) -> None:
    path = write("kind: Agent\nllm: {provider: azure-openai, api_key: abc, credential: default}\n")
    assert [each.message for each in check(path, env={})] == [
        "a deployment takes one credential; api_key and credential were given"
    ]


def test_a_deployment_is_given_by_one_of_its_names(write: Write) -> None:
    path = write("kind: Agent\nllm: {provider: azure-openai, deployment: a, deployment_id: b}\n")
    assert [each.message for each in check(path, env={})] == [
        "the deployment is given twice, as deployment and as deployment_id"
    ]


def test_an_unknown_provider_names_the_package_to_install(write: Write) -> None:
    problem = check(write("kind: Agent\nllm: zzz_quux:model\n"))[0]
    assert (problem.line, problem.column, problem.field) == (2, 6, "llm.provider")
    assert problem.hint is not None
    assert "loom-zzz-quux" in problem.hint


def test_hedging_with_one_deployment_is_refused_as_the_builder_does(write: Write) -> None:
    text = "kind: Agent\nllm: azure-openai:a\nresilience: {hedging: {after_seconds: 1}}\n"
    assert [each.line for each in check(write(text), env={})] == [3]
    fine = text.replace("{hedging", "{failover: [azure-openai:b], hedging")
    assert check(write(fine), env={}) == []


def test_an_agent_of_a_file_answers_through_azure_as_one_of_code_does(write: Write) -> None:
    text = """\
    kind: Agent
    name: greeter
    llm:
      provider: azure-openai
      endpoint: ${URL}
      deployment: gpt-4o-deployment
      api_key: ${KEY}
    system_prompt: Greet.
    resilience: {retries: {max_attempts: 1}, circuit_breakers: }
    budget: {tokens: 100000, per: agent}
    """
    with AzureEmulator(ScriptedProvider(["Hello!"])) as azure:
        env = {"URL": azure.endpoint, "KEY": azure.api_key}
        with AgentBuilder.from_yaml(write(text), env=env).build() as agent:
            assert agent.name == "greeter"
            assert agent.chat("Hi").message == "Hello!"
        body = azure.requests[0].body
    assert body["messages"][0] == {"role": "system", "content": "Greet."}


def test_a_scripted_model_runs_offline_and_anew_for_each_agent(write: Write) -> None:
    path = write(
        """\
        kind: Agent
        llm:
          script:
            - {call: double, arguments: {number: 21}}
            - It is 42.
        tools: calculating:double
        """
    )
    write("def double(number: int) -> int:\n    '''Twice.'''\n    return 2 * number\n", "calculating.py")
    builder = AgentBuilder.from_yaml(path)
    for made in (builder, AgentBuilder.from_yaml(path)):
        with made.build() as agent:
            assert agent.chat("What is 21 times 2?").message == "It is 42."


def test_two_agents_of_one_file_do_not_share_a_backend(write: Write) -> None:
    agent = load(write("kind: Agent\nllm: azure-openai\nbackend: 'sqlite://'\n"), env={})
    first, second = ({step.method: step for step in agent.steps()}["with_backend"] for _ in range(2))
    assert first.args[0] is not second.args[0]


def test_backends_are_made_with_their_settings(write: Write) -> None:
    made = steps(write, "backend: {url: 'sqlite://', max_rows: 7, include_tables: [a], name: shop}\n")
    backend = made["with_backend"].args[0]
    assert (backend.name, backend.max_rows) == ("shop", 7)


def test_what_the_builder_checks_is_told_in_the_words_of_a_file(write: Write) -> None:
    path = write("kind: Agent\nllm: {script: [Hi]}\nbudget: {}\nresilience: {hedging: {after_seconds: 1}}\n")
    budget, hedging = check(path)
    assert budget.message == "a budget needs usd, tokens or both"
    assert hedging.message == "hedging asks a second deployment, and there is only one"
    assert hedging.hint == "Add failover or load_balancing, or take hedging out."
