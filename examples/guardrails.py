"""Guardrails: a query is checked before it runs, and the model is told how to mend it.

The model misspells a column, is told the right name, and corrects itself. Nothing wrong is ever run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from offline import azure

from loom_py import AgentBuilder, SQLBackend, call
from loom_py.guardrails import Issue

DATABASE = Path(__file__).parent / "data" / "flights.db"
QUERY = (
    "SELECT carrier, avg(dep_delay) AS minutes FROM flights GROUP BY carrier ORDER BY minutes DESC LIMIT 1"
)


def no_star(sql: str) -> Iterator[Issue]:
    """A check of one's own: a function of the query's text."""
    if "SELECT *" in sql.upper():
        yield Issue("error", "SELECT * reads every column", "Name the columns that are needed.")


replies = (
    call("query_database", sql="SELECT * FROM flights"),
    call("query_database", sql=QUERY.replace("dep_delay", "departure_delay")),
    call("query_database", sql=QUERY),
    "The first row is the airline whose flights leave latest.",
)

with (
    azure(*replies) as settings,
    AgentBuilder()
    .with_backend(SQLBackend(f"sqlite:///{DATABASE}"))
    .with_azure_openai_llm(*settings)
    .with_guardrails(no_star, max_corrections=3)
    .build() as agent,
):
    response = agent.chat("Which airline leaves latest?")

for result in response.tool_results:
    print(f"── {result.name}{' failed' if result.is_error else ''}\n{result.content}\n")
print(response.message)
