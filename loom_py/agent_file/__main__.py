"""``python -m loom_py.agent_file`` prints the JSON schema of an agent's file."""

from __future__ import annotations

import json
import sys

from loom_py.agent_file.schema import json_schema

if __name__ == "__main__":
    sys.stdout.write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
