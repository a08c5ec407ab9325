"""An agent as a YAML file: run it, see where its settings come from, and what is wrong with another."""

import tempfile
from pathlib import Path

from loom_py import AgentBuilder
from loom_py.agent_file import check, load

FILE = Path(__file__).with_name("agent.yaml")

with AgentBuilder.from_yaml(FILE).build() as agent:
    print(f"{agent.name}: {agent.chat('How is the weather in Oslo?').message}")

settings = load(FILE, flags={"limits.max_turns": 2}).describe().to_dict()
for name in ("limits.max_turns", "resilience.retries.max_attempts", "resilience.retries.max_seconds"):
    print(f"{name}: {settings[name]['value']} ({settings[name]['source']})")

with tempfile.TemporaryDirectory() as folder:
    broken = Path(folder) / "broken.yaml"
    broken.write_text("kind: Agent\nllm: azure-openai\nlimits: {max_turn: 5}\nbudget: {usd: '${LIMIT}'}\n")
    for problem in check(broken, env={}):
        print(f"line {problem.line}, column {problem.column}: {problem.message} → {problem.hint}")
