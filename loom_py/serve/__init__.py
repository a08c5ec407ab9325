"""Agents behind HTTP: any OpenAI client, chat page or other agent can talk to them.

::

    from loom_py.serve import ServeConfig, serve

    serve({"analyst": agent}, ServeConfig(port=8000))

Needs the extra ``serve``: ``pip install 'loom-py[serve]'``.
"""

from loom_py.errors import MissingDependencyError

try:
    import prometheus_client  # noqa: F401  what the parts need
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        f"a server needs the package {error.name!r}, which is not installed",
        hint="pip install 'loom-py[serve]'",
    ) from error

from loom_py.serve.app import create_app
from loom_py.serve.config import ServeConfig
from loom_py.serve.keys import ApiKey, KeyFile, NewKey, new_key
from loom_py.serve.server import serve, serving
from loom_py.serve.workers import run_server

__all__ = [
    "ApiKey",
    "KeyFile",
    "NewKey",
    "ServeConfig",
    "create_app",
    "new_key",
    "run_server",
    "serve",
    "serving",
]
