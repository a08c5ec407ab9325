"""loom_py: the agent library you can put on call."""
