"""The tables of the pages say what the code does, and their links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import loom_py.emulator
from loom_py import (
    AzureEmulator,
    AzureOpenAIClient,
    AzureOpenAIConfig,
    ChatOptions,
    Limits,
    LoomError,
    Message,
    ScriptedProvider,
)
from loom_py.emulator import FaultPlan, FaultRule, failure_names
from loom_py.errors import RateLimitError, ServiceUnavailableError, UnsupportedParameterError
from loom_py.llm import infer_model
from loom_py.llm.azure.checks import EFFORTS, VERBOSITIES
from loom_py.llm.azure.config import ENVIRONMENT
from loom_py.llm.prices import DEPLOYMENT_TYPES
from loom_py.resilience.breaker import BreakerConfig

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


def test_the_limits_and_breaker_settings_are_the_defaults() -> None:
    limits = {code(name)[0]: int(value) for name, value, _ in rows("agents.md", "Limit")}
    assert limits == {name: getattr(Limits(), name) for name in limits}
    assert len(limits) == 3
    told = {code(name)[0]: float(value) for name, value, _ in rows("circuit-breakers.md", "Setting")}
    assert told == dataclasses.asdict(BreakerConfig())


def test_the_reference_has_every_public_name_and_every_step_of_the_builder() -> None:
    shown = set(re.findall(r"^::: loom_py\.(\S+)", (DOCS / "reference.md").read_text("utf-8"), re.MULTILINE))
    shown |= {"tool"} & {name.removeprefix("tools.tool.") for name in shown}  # the module has the same name
    steps = {f"AgentBuilder.{name}" for name in vars(loom_py.AgentBuilder) if not name.startswith("_")}
    names = set(loom_py.__all__) - {"__version__", "ContentPart"}
    testing = {f"emulator.{name}" for name in loom_py.emulator.__all__} - {"emulator.AzureEmulator"}
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
