"""Tools: Python functions a model may call.

`tool` makes a `Tool` of a function: its JSON schema from the annotations, its description from the
docstring. `ToolExecutor` checks the arguments a model sent, runs the tools and turns whatever comes
of it into text the model can act on.
"""

from __future__ import annotations

from loom_py.tools.execution import Permit, ToolExecutor, ToolGuard
from loom_py.tools.tool import Tool, as_tool, tool

__all__ = ["Permit", "Tool", "ToolExecutor", "ToolGuard", "as_tool", "tool"]
