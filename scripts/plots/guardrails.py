"""What becomes of each query of seven chats, without guardrails and with them. The database is real."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from loom_py import Agent, AgentBuilder, AzureEmulator, Response, ScriptedProvider, SQLBackend, call
from loom_py.llm.scripted import Answer, ScriptedRequest
from loom_py.messages import ToolCall
from scripts.plots.style import COLORS, panels, save

DATABASE = Path(__file__).parents[2] / "examples" / "data" / "flights.db"
MOST = 10
"""Queries that the agent may send in one chat."""

Outcome: TypeAlias = Literal["ran", "refused before it ran", "failed in the database", "not run any more"]

LOOKS: dict[Outcome, tuple[str, str]] = {
    "ran": ("good", "o"),
    "failed in the database": ("bad", "X"),
    "refused before it ran": ("wait", "s"),
    "not run any more": ("muted", "|"),
}


@dataclass(frozen=True)
class Question:
    """A question, and the queries that a model tries for it unless it is told better: the last for ever."""

    text: str
    queries: tuple[str, ...]


STUBBORN = "one that will not stop"

QUESTIONS = (
    Question("right at once", ("SELECT count(*) FROM flights",)),
    Question("a column misspelled", ("SELECT avg(departure_delay) FROM flights",)),
    Question("a table misspelled", ("SELECT count(*) FROM flight",)),
    Question("both misspelled", ("SELECT max(airtime) FROM flihgts",)),
    Question("a slip of syntax", ("SELECT count(* FROM flights", "SELECT count(*) FROM flights")),
    Question("what is not there", ("SELECT avg(ticket_price) FROM flights",)),
    Question(STUBBORN, tuple(f"SELECT avg(fare_{number}) FROM flights" for number in range(MOST))),
)


def draw(path: Path) -> None:
    """Run it and draw it."""
    figure, axes = panels(2, height=2.5)
    for axis, guarded in zip(axes, (False, True), strict=True):
        chats = run(guarded=guarded)
        for row, outcomes in enumerate(chats):
            for kind, (color, marker) in LOOKS.items():
                at = [number for number, outcome in enumerate(outcomes, 1) if outcome == kind]
                axis.scatter(at, [row] * len(at), s=90, color=COLORS[color], marker=marker, linewidths=1.5)
        sent = sum(outcome in ("ran", "failed in the database") for chat in chats for outcome in chat)
        failed = sum(outcome == "failed in the database" for chat in chats for outcome in chat)
        title = "with_guardrails()" if guarded else "without guardrails"
        axis.set_title(f"{title}: {sent} queries run, {failed} of them fail", loc="left", fontsize=10)
        axis.set_yticks(range(len(QUESTIONS)), [question.text for question in QUESTIONS])
        axis.set_ylim(len(QUESTIONS) - 0.4, -0.6)
        axis.set_xlim(0.4, MOST + 4.4)
        axis.set_xticks(range(1, MOST + 1))
        axis.grid(visible=False, axis="y")
    for kind, (color, marker) in LOOKS.items():
        axes[0].scatter([], [], s=60, color=COLORS[color], marker=marker, label=kind)
    axes[0].legend(loc="center right")
    axes[-1].set_xlabel("queries of the chat, in their order")
    save(figure, path)


def run(*, guarded: bool) -> list[list[Outcome]]:
    """What became of each query of each chat."""
    with AzureEmulator(ScriptedProvider(model)) as azure:
        backend = SQLBackend(f"sqlite:///{DATABASE}")
        builder = AgentBuilder().with_azure_openai_llm(**azure.client_kwargs()).with_backend(backend)
        builder = builder.with_limits(max_turns=MOST)
        with (builder.with_guardrails() if guarded else builder).build() as agent:
            return [chat(agent, question) for question in QUESTIONS]


def chat(agent: Agent, question: Question) -> list[Outcome]:
    """One question."""
    response: Response[Any] = agent.chat(question.text)
    return [outcome(str(result.content), is_error=result.is_error) for result in response.tool_results]


def outcome(told: str, *, is_error: bool) -> Outcome:
    """What the model was told of a query, in a word."""
    if not is_error:
        return "ran"
    if "queries in a row have failed" in told:
        return "not run any more"
    is_early = "was not run" in told or "(query_refused)" in told
    return "refused before it ran" if is_early else "failed in the database"


def model(request: ScriptedRequest) -> Answer:
    """Takes the names that it is told (``Did you mean …?``), with guardrails or without; else it guesses."""
    asked = [message.text for message in request.messages if message.role == "user"]
    question = next(each for each in QUESTIONS if each.text == asked[0])
    sent = [made for message in request.messages for made in message.tool_calls]
    if not sent:
        return query(question.queries[0])
    if not request.tools or request.options.tool_choice == "none" or is_over(asked[0], request.text):
        return "That is all."
    mended = str(sent[-1].arguments["sql"])
    wrong = re.findall(r"no (?:such )?(?:column|table):? '?(\w+)", request.text)
    right = re.findall(r"Did you mean (\w+)", request.text)
    for name, known in zip(wrong, right, strict=False):
        mended = re.sub(rf"\b{name}\b", known, mended)
    if wrong and right:
        return query(mended)
    return query(question.queries[min(len(sent), len(question.queries) - 1)])


def is_over(asked: str, told: str) -> bool:
    """Whether it was answered, or told to stop and heeds it."""
    return "Error (" not in told or ("Stop querying" in told and asked != STUBBORN)


def query(sql: str) -> ToolCall:
    """Ask for a query."""
    return call("query_database", sql=sql)
