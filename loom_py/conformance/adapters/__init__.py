"""The adapters that come with loom_py, found by name."""
