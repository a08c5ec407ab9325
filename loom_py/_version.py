"""The version, read by the build and by `loom_py.__version__`."""

__version__ = "0.1.0"
