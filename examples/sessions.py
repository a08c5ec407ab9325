"""Conversations: chats with the same session id remember each other, others do not."""

from __future__ import annotations

from offline import azure

from loom_py import AgentBuilder

replies = ("Nice to meet you, Ada.", "Your name is Ada.", "You have not told me your name.")

with (
    azure(*replies) as settings,
    AgentBuilder()
    .with_system_prompt("Answer in one short sentence.")
    .with_azure_openai_llm(*settings)
    .build() as agent,
):
    agent.chat("My name is Ada.", session_id="ada")
    print(agent.chat("What is my name?", session_id="ada").message)
    print(agent.chat("What is my name?", session_id="somebody-else").message)

    print(f"kept: {', '.join(agent.sessions())}")
    for message in agent.history("ada"):
        print(f"  {message.role}: {message.text}")
    agent.delete_session("ada")
    print(f"kept: {', '.join(agent.sessions())}")
