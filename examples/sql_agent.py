"""An agent over a SQL database: it looks the tables up, writes a query, and cannot change a thing.

The database is ten days of flights from New York, February 2013; see ``data/README.md``.
"""

from __future__ import annotations

from pathlib import Path

from offline import azure

from loom_py import AgentBuilder, SQLBackend, call

DATABASE = Path(__file__).parent / "data" / "flights.db"
QUERY = """
    SELECT origin, count(*) AS flights, round(avg(dep_delay), 1) AS minutes
    FROM flights GROUP BY origin ORDER BY minutes DESC
"""
replies = (
    call("list_tables"),
    call("describe_table", table="flights"),
    call("query_database", sql="DELETE FROM flights"),  # a model may try; the walls hold
    call("query_database", sql=QUERY),
    "The first row is the airport where flights leave latest.",
)

with (
    azure(*replies) as settings,
    AgentBuilder()
    .with_backend(SQLBackend(f"sqlite:///{DATABASE}"))
    .with_azure_openai_llm(*settings)
    .with_circuit_breakers()
    .build() as agent,
):
    response = agent.chat("From which airport do flights leave latest?")

for result in response.tool_results:
    print(f"── {result.name}{' failed' if result.is_error else ''}\n{result.content}\n")
print(response.message)
print(f"{response.tokens_used.total} tokens, {response.cost_usd} USD")
