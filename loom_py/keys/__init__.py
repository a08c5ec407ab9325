"""API keys kept by the user's machine, by the name of the provider they are for.

::

    from loom_py.keys import open_store

    store = open_store()  # the system's keyring
    store.set("azure-openai", key)
    AgentBuilder.from_yaml("agent.yaml", keys=store)

A store holds nothing but names and keys. Where there is no keyring, a file of the user's own
(`FileStore`) can be used instead; that is always asked for, never chosen in silence.
"""

from __future__ import annotations

from loom_py.description import masked
from loom_py.keys._places import default_file
from loom_py.keys.file_store import FileStore
from loom_py.keys.keyring_store import KeyringStore
from loom_py.keys.opening import LazyStore, open_store
from loom_py.keys.store import KeyStore, key_name

__all__ = [
    "FileStore",
    "KeyStore",
    "KeyringStore",
    "LazyStore",
    "default_file",
    "key_name",
    "masked",
    "open_store",
]
