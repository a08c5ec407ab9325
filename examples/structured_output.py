"""An answer as a value: from free text to a checked object, with one correction on the way."""

from __future__ import annotations

from datetime import date
from typing import Literal

from offline import azure
from pydantic import BaseModel, Field

from loom_py import AgentBuilder


class Ticket(BaseModel):
    """What a customer's letter asks for."""

    topic: Literal["delivery", "invoice", "other"]
    urgency: int = Field(ge=1, le=5, description="5 is most urgent")
    due: date | None = Field(description="the day the customer names, if any")


LETTER = "My lamp was due on 3 November and has still not come. I need it tomorrow!"

REPLIES = (  # what the model says offline: a mistake first
    '{"topic": "delivery", "urgency": 9, "due": "2026-11-03"}',
    '{"topic": "delivery", "urgency": 5, "due": "2026-11-03"}',
)

with (
    azure(*REPLIES) as settings,
    AgentBuilder().with_azure_openai_llm(*settings).build() as agent,
):
    response = agent.chat(LETTER, output=Ticket)

ticket = response.output
print(f"{ticket.topic}, urgency {ticket.urgency}, due {ticket.due}")
print(f"{response.metadata.get('output_corrections', 0)} correction, {response.cost_usd} USD in all")
