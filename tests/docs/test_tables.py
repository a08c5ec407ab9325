"""The tables of the pages say what the code does, and their links lead somewhere."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

import loom_py.clock
import loom_py.emulator
import loom_py.errors
import loom_py.guardrails.events
import loom_py.resilience.events
from loom_py import (
    AgentBuilder,
    AzureEmulator,
    AzureOpenAIClient,
    AzureOpenAIConfig,
    ChatOptions,
    Deployment,
    Health,
    Limits,
    LoomError,
    Message,
    PolicyEvent,
    ScriptedProvider,
)
from loom_py.emulator import FaultPlan, FaultRule, failure_names
from loom_py.errors import RateLimitError, ServiceUnavailableError, UnsupportedParameterError
from loom_py.llm import infer_model
from loom_py.llm.azure.checks import EFFORTS, VERBOSITIES
from loom_py.llm.azure.config import ENVIRONMENT
from loom_py.llm.prices import DEPLOYMENT_TYPES
from loom_py.resilience.breaker import BreakerConfig
from loom_py.resilience.budget import BudgetConfig
from loom_py.resilience.budget.config import UnknownPrice
from loom_py.resilience.lanes import DeploymentHealth
from loom_py.resilience.limiter import RateLimitConfig
from loom_py.resilience.retry import RetryConfig
from loom_py.resilience.shared import SharedState
from loom_py.resilience.strategies import Strategy
from loom_py.resilience.timeouts import Timeouts

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def rows(page: str, first_head: str) -> list[list[str]]:
    """The cells of the table whose head begins with ``first_head``."""
    lines = (DOCS / page).read_text("utf-8").splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {first_head} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def code(cell: str) -> list[str]:
    """The words of a cell that are set as code."""
    return re.findall(r"`([^`]+)`", cell)


def test_the_models_of_the_azure_guide_are_those_that_are_inferred() -> None:
    table = rows("azure.md", "Deployment")
    assert len(table) >= 7
    for names, model in table:
        expected = code(model)[0] if code(model) else None
        assert {name: infer_model(name) for name in code(names)} == dict.fromkeys(code(names), expected)


def test_the_environment_of_the_azure_guide_is_what_is_read() -> None:
    assert [tuple(code(names)) for names, _ in rows("azure.md", "Variable")] == list(ENVIRONMENT.values())


def test_the_defaults_of_the_azure_guide_are_the_clients() -> None:
    told = {code(row[0])[0]: row[1].strip("`") for row in rows("azure.md", "Setting")}
    fields = AzureOpenAIConfig.model_fields
    for name in ("max_tokens", "temperature", "timeout"):
        assert float(told[name]) == fields[name].default
    assert told["api_version"] == fields["api_version"].default


def test_the_limits_of_the_page_of_agents_are_the_defaults() -> None:
    limits = {code(name)[0]: int(value) for name, value, _ in rows("agents.md", "Limit")}
    assert limits == {name: getattr(Limits(), name) for name in limits}
    assert len(limits) == 3


POLICY_EVENTS = {
    kind.name: {field.name for field in dataclasses.fields(kind)}
    for module in (loom_py.resilience.events, loom_py.guardrails.events)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, PolicyEvent) and kind.name
}
"""The fields of every event, by the name under which it is logged."""

WORDS = {"none": None, "`False`": False}


@pytest.mark.parametrize(
    ("page", "config", "step", "more"),
    [
        ("circuit-breakers.md", BreakerConfig, AgentBuilder.with_circuit_breakers, {}),
        ("retries.md", RetryConfig, AgentBuilder.with_retries, {"restart_streams": False}),
        ("rate-limits.md", RateLimitConfig, AgentBuilder.with_rate_limit, {}),
        ("timeouts.md", Timeouts, AgentBuilder.with_timeouts, {}),
    ],
)
def test_the_settings_of_a_policys_page_are_those_of_its_class_and_of_the_builder(
    page: str, config: type[Any], step: Callable[..., object], more: dict[str, object]
) -> None:
    told = {
        code(row[0])[0]: WORDS[row[1]] if row[1] in WORDS else float(row[1]) for row in rows(page, "Setting")
    }
    assert told == {field.name: field.default for field in dataclasses.fields(config)} | more
    parameters = list(inspect.signature(step).parameters.values())[1:]  # without self
    assert told == {parameter.name: parameter.default for parameter in parameters}


def test_the_page_of_logs_has_every_event_of_the_policies() -> None:
    told = [
        name
        for head in ("Event", "Policy event")
        for names, *_ in rows("logging.md", head)
        for name in code(names)
    ]
    assert sorted(set(told) & POLICY_EVENTS.keys()) == sorted(POLICY_EVENTS)


def test_the_pages_name_the_fields_of_the_policies_events() -> None:
    """Every table of events, on whichever page: the fields are those of the class, and all of them."""
    seen = set()
    for page in DOCS.glob("*.md"):
        for line in page.read_text("utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            names = code(cells[0]) if line.startswith("|") and len(cells) == 3 else []
            if len(names) == 1 and names[0] in POLICY_EVENTS and code(cells[2]):
                assert set(code(cells[2])) == POLICY_EVENTS[names[0]], f"{page.name}: {names[0]}"
                seen.add(names[0])
    assert {"circuit_breaker", "retry_scheduled", "token_quota_warning"} <= seen


def test_the_reference_has_every_public_name_and_every_step_of_the_builder() -> None:
    shown = set(re.findall(r"^::: loom_py\.(\S+)", (DOCS / "reference.md").read_text("utf-8"), re.MULTILINE))
    shown |= {"tool"} & {name.removeprefix("tools.tool.") for name in shown}  # the module has the same name
    steps = {f"AgentBuilder.{name}" for name in vars(loom_py.AgentBuilder) if not name.startswith("_")}
    names = set(loom_py.__all__) - {"__version__", "ContentPart"}
    elsewhere = {"AzureEmulator", "OpenAIEmulator", *loom_py.clock.__all__}  # with the rest of the package
    testing = {f"emulator.{name}" for name in loom_py.emulator.__all__ if name not in elsewhere}
    assert (names | steps | testing) - shown == set()


def test_the_links_of_the_readme_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text("utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


# ── troubleshooting ──────────────────────────────────────────────────────────────────────

STREAMS_ONLY = {"broken-sse", "stream-error", "content-filter-down", "json-for-stream"}


def failures() -> dict[str, list[str]]:
    """The rows of every troubleshooting table, by the failure's name."""
    lines = (DOCS / "troubleshooting.md").read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:3] == "| `"]
    return {code(row[0])[0]: row[1:] for row in cells}


def raised(name: str, *, stream: bool) -> LoomError | None:
    """What the client raises when the emulator acts that failure out."""
    plan = FaultPlan(rules=[FaultRule(error=name)])
    words = ScriptedProvider(lambda request: "one two three four five six")
    with (
        AzureEmulator(words, faults=plan) as azure,
        AzureOpenAIClient(**azure.client_kwargs(), surface="chat") as client,
    ):
        try:
            if stream:
                list(client.stream_chat([Message.user("Hello!")]))
            else:
                client.chat([Message.user("Hello!")])
        except LoomError as error:
            return error
    return None


def test_the_troubleshooting_tables_have_every_failure_the_emulator_knows() -> None:
    assert sorted(failures()) == failure_names()


@pytest.mark.parametrize("name", failure_names())
def test_the_failure_raises_what_its_row_says(name: str) -> None:
    row = failures()[name]
    error = raised(name, stream=name in STREAMS_ONLY)
    said = code(row[1])
    if row[1].startswith("none"):
        # sent alone it cannot be put right, for what is disliked is not in the request
        assert error is None or isinstance(error, UnsupportedParameterError)
    elif said:
        assert type(error).__name__ == said[0]
    else:  # "the error that it is"
        assert isinstance(error, ServiceUnavailableError)
    if isinstance(error, RateLimitError):
        assert code(row[2]) == ([error.kind] if error.kind else [])


@pytest.mark.parametrize("name", [name for name in failure_names() if name[:3] in {"401", "403", "404"}])
def test_the_words_of_azure_in_the_row_are_those_that_come(name: str) -> None:
    error = raised(name, stream=False)
    words = failures()[name][0].rstrip(" …")
    assert error is not None
    if not words.startswith("the same"):
        assert all(part.strip(" .") in error.message for part in words.split(". "))


def test_the_deployment_types_of_the_page_of_costs_are_all_there_are() -> None:
    told = [name for names, _ in rows("costs.md", "`deployment_type=`") for name in code(names)]
    assert sorted(told) == sorted(DEPLOYMENT_TYPES)


def test_the_options_of_the_azure_guide_are_all_there_are() -> None:
    told = [name for names, _ in rows("azure.md", "Option") for name in code(names)]
    assert sorted(told) == sorted(field.name for field in dataclasses.fields(ChatOptions))


def test_the_efforts_and_verbosities_of_the_azure_guide_are_those_that_are_taken() -> None:
    told = {code(name)[0]: code(words) for name, words in rows("azure.md", "Option")}
    assert tuple(told["reasoning_effort"]) == EFFORTS
    assert tuple(told["verbosity"]) == VERBOSITIES


def test_the_effects_and_conditions_of_a_fault_rule_are_all_there_are() -> None:
    told = [
        name
        for head in ("What happens", "To which requests")
        for names, _ in rows("faults.md", head)
        for name in code(names)
    ]
    assert sorted(told) == sorted(field.name for field in dataclasses.fields(FaultRule))


POLICY_CLASSES = {
    kind.name: kind.__name__
    for module in (loom_py.resilience.events, loom_py.guardrails.events)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, PolicyEvent) and kind.name
}


def value(cell: str) -> object:
    """A default as a table tells it."""
    return None if cell == "none" else ast.literal_eval(cell.strip("`"))


def test_the_settings_of_the_page_of_budgets_are_those_of_its_class_and_of_the_builder() -> None:
    told = {code(row[0])[0]: value(row[1]) for row in rows("budgets.md", "Setting")}
    assert told == {field.name: field.default for field in dataclasses.fields(BudgetConfig)}
    parameters = list(inspect.signature(AgentBuilder.with_budget).parameters.values())[1:]  # without self
    assert told == {parameter.name: parameter.default for parameter in parameters}
    assert tuple(code(row[0])[0] for row in rows("budgets.md", "`on_unknown_price=`")) == get_args(
        UnknownPrice
    )


def test_the_deployments_of_the_page_of_failover_have_the_settings_of_the_class() -> None:
    told = [(name, row[1]) for row in rows("failover.md", "`Deployment(…)`") for name in code(row[0])]
    assert [name for name, _ in told] == [field.name for field in dataclasses.fields(Deployment)][1:]
    made = Deployment()
    named = {name: value(default) for name, default in told if name not in ("name", "priority", "settings")}
    assert named == {name: None if (own := getattr(made, name)) == frozenset() else own for name in named}
    assert {code(row[0])[0] for row in rows("failover.md", "`strategy=`")} == set(get_args(Strategy))


def test_the_settings_of_the_page_of_shared_state_are_those_of_the_class() -> None:
    told = {code(row[0])[0]: value(row[1]) if row[1] else None for row in rows("shared-state.md", "Setting")}
    found = inspect.signature(SharedState).parameters
    assert told == {name: None if name == "url" else found[name].default for name in told}
    assert found.keys() - told.keys() == {"emit", "clock", "server_time", "client"}


def test_the_page_for_those_on_call_has_every_event_with_its_class() -> None:
    told: dict[str, str] = {}
    for names, kinds, *_ in rows("on-call.md", "Event"):
        told |= dict(zip(code(names), code(kinds), strict=True))
    assert told == POLICY_CLASSES


def test_the_page_for_those_on_call_tells_every_part_of_the_health() -> None:
    parts = {code(row[0])[0]: code(row[1]) for row in rows("on-call.md", "Part")}
    assert list(parts) == [field.name for field in dataclasses.fields(Health)]
    fields = {field.name for field in dataclasses.fields(DeploymentHealth)} - {"name"}
    assert set(parts["deployments"]) == fields | {"is_available"}


def test_the_errors_of_the_page_for_those_on_call_are_there() -> None:
    told = [name for names, _ in rows("on-call.md", "Error") for name in code(names)]
    assert len(told) >= 7
    assert [name for name in told if not hasattr(loom_py.errors, name)] == []
