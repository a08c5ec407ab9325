"""New provider packages: a working one, ``loom-acme``, copied under a name of your own.

What is copied lies in ``template/``: a package that passes every scenario of the conformance suite as it is.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from loom_py.errors import ConfigError

__all__ = ["PluginNames", "new_plugin"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LEFT_OUT = {"__pycache__", "__init__.pyc"}
MAX_NAME = 40


@dataclass(frozen=True, slots=True)
class PluginNames:
    """What a plugin is called: ``my-llm`` is ``loom-my-llm``, ``loom_my_llm``, ``MyLlm``, ``MY_LLM``."""

    provider: str

    @classmethod
    def of(cls, name: str) -> PluginNames:
        """The names that ``name`` stands for, with or without ``loom-`` before it.

        Raises `ConfigError` for a name that cannot be a package's.
        """
        text = name.strip().lower().replace("_", "-").removeprefix("loom-")
        if not _NAME.fullmatch(text) or len(text) > MAX_NAME or keyword.iskeyword(text):
            raise ConfigError(
                f"{name!r} cannot be a plugin's name",
                field="name",
                hint=f"Use letters, digits and dashes, beginning with a letter, {MAX_NAME} at most: my-llm.",
            )
        return cls(text)

    @property
    def distribution(self) -> str:
        """What is installed."""
        return f"loom-{self.provider}"

    @property
    def module(self) -> str:
        """What is imported."""
        return self.distribution.replace("-", "_")

    @property
    def prefix(self) -> str:
        """What its classes begin with."""
        return "".join(part.capitalize() for part in self.provider.split("-"))

    @property
    def variable(self) -> str:
        """What its environment variables begin with."""
        return self.provider.replace("-", "_").upper()

    def renamed(self, text: str) -> str:
        """A text of the template with these names in it."""
        replaced = (
            ("loom_acme", self.module),
            ("loom-acme", self.distribution),
            ("ACME", self.variable),
            ("Acme", self.prefix),
            ("fake_acme", f"fake_{self.provider.replace('-', '_')}"),
            ("test_acme", f"test_{self.provider.replace('-', '_')}"),
            ("acme", self.provider),
        )
        # all at once, so that a name which holds another is not renamed twice
        pattern = re.compile("|".join(re.escape(old) for old, _ in replaced))
        return pattern.sub(lambda found: dict(replaced)[found[0]], text)


def new_plugin(name: str, folder: str | Path = ".") -> Path:
    """Write a provider package called ``name`` into a new folder ``loom-NAME`` of ``folder``; that folder.

    The package works and passes the conformance suite at once. Raises `ConfigError` for a name that cannot
    be one, and where the folder is there already; nothing is written then.
    """
    names = PluginNames.of(name)
    target = Path(folder) / names.distribution
    if target.exists():
        raise ConfigError(f"{target} is there already", field="name", hint="Choose another name or folder.")
    if not Path(folder).is_dir():
        raise ConfigError(f"there is no folder {folder}", field="folder", hint="Make it first.")
    _copy(files("loom_py.scaffold") / "template", target, names)
    return target


def _copy(source: Traversable, target: Path, names: PluginNames) -> None:
    if source.is_file():
        target.write_text(names.renamed(source.read_text("utf-8")), "utf-8")
        return
    target.mkdir()
    for item in source.iterdir():
        if item.name not in _LEFT_OUT and not item.name.startswith("."):
            _copy(item, target / names.renamed(item.name), names)
