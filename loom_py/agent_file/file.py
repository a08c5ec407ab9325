"""`AgentFile`: an agent as its file describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from loom_py.description import Description

__all__ = ["AgentFile", "Keys", "Step"]

BuilderT = TypeVar("BuilderT")


class Keys(Protocol):
    """Where API keys are kept, such as the system's keyring."""

    def get(self, name: str, /) -> str | None:
        """The key of the provider ``name`` (``"azure-openai"``, ``"openai"``, …), or ``None``."""


@dataclass(frozen=True, slots=True)
class Step:
    """A ``method`` of the builder to call, with its arguments; its ``repr`` never shows their values."""

    method: str
    args: tuple[Any, ...] = field(default=(), repr=False)
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        names = [f"<{type(value).__name__}>" for value in self.args]
        names += [f"{name}=…" for name in self.kwargs]
        return f"Step({self.method}({', '.join(names)}))"


@dataclass(frozen=True, slots=True)
class AgentFile:
    """An agent as a document of a file describes it; everything in it has been checked.

    Attributes:
        path: the file.
        line: the line in which the document begins, from 1.
        name: the agent's name.
    """

    path: Path
    name: str
    line: int = 1
    _makers: tuple[Callable[[], Step], ...] = field(default=(), repr=False, compare=False)
    _settings: Description = field(default_factory=Description, repr=False, compare=False)

    def steps(self) -> tuple[Step, ...]:
        """The builder's methods to call, in order. Each time backends are made anew, so that no two
        agents share one; nothing connects yet.
        """
        return tuple(make() for make in self._makers)

    def apply(self, builder: BuilderT) -> BuilderT:
        """``builder`` with all `steps` taken."""
        for step in self.steps():
            builder = getattr(builder, step.method)(*step.args, **step.kwargs)
        return builder

    def describe(self) -> Description:
        """Every setting and where its value comes from.

        A source is ``flag``, ``environment (NAME)``, ``FILE:LINE``, ``keyring`` or ``default``. Secrets
        are masked, and so is every text that a variable is part of.
        """
        return self._settings
