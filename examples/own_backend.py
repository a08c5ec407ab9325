"""A data source of your own: write `execute_query`, and its tools appear on the agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offline import azure

from loom_py import AgentBuilder, BaseBackend, QueryResult, call
from loom_py.backends import Resource


class Notes(BaseBackend):
    """Notes in memory, found by the words in them."""

    name = "notes"
    tool_prefix = "notes_"

    def __init__(self, notes: Sequence[str]) -> None:
        self.notes = notes

    def execute_query(
        self,
        query: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> QueryResult:
        """Find the notes that hold a word."""
        found = [{"note": note} for note in self.notes if query.lower() in note.lower()]
        return QueryResult.from_rows(found[offset:][:limit])

    def list_resources(self, filters: Mapping[str, Any] | None = None) -> Sequence[Resource]:
        return [Resource("notes", "list", f"{len(self.notes)} notes")]


backend = Notes(["Loom delivered on Monday", "Order more yarn", "Loom needs oil"])
replies = (call("notes_query", query="loom"), "The loom came on Monday and needs oil.")

with (
    azure(*replies) as settings,
    AgentBuilder().with_backend(backend).with_azure_openai_llm(*settings).build() as agent,
):
    print("tools:", ", ".join(tool.name for tool in agent.tools))
    response = agent.chat("What do my notes say of the loom?")
    print(response.tool_results[0].content)
    print(response.message)
