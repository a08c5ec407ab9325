"""An agent behind HTTP: OpenAI's own client talks to it, with a key of so many requests a minute."""

from __future__ import annotations

from openai import OpenAI

from loom_py import AgentBuilder, ScriptedProvider
from loom_py.llm.scripted import call
from loom_py.serve import ServeConfig, new_key, serving


def stock(product: str) -> int:
    """How many of a product are in stock.

    Args:
        product: its name.
    """
    return {"Desk Lamp": 12}.get(product, 0)


model = ScriptedProvider([call("stock", product="Desk Lamp"), "There are 12 lamps."])
agent = AgentBuilder().with_llm(model).with_tools(stock).with_name("shop").build()

ada = new_key("ada", requests_per_minute=60)  # ada.secret is shown once; ada.key holds its hash

# serve(agent, ServeConfig(…)) does the same until SIGTERM; this is for a while, and any free port.
with serving(agent, ServeConfig(port=0, keys=(ada.key,))) as url:
    with OpenAI(base_url=f"{url}/v1", api_key=ada.secret) as client:
        print("models:", [found.id for found in client.models.list()])
        stream = client.chat.completions.create(
            model="shop", messages=[{"role": "user", "content": "How many lamps?"}], stream=True
        )
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="")
    print()
