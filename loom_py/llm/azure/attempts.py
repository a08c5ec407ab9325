"""One call and its corrections: what Azure refuses once is put right once, and remembered.

A deployment's name may tell nothing of its model. When Azure answers 400 because the model does
not know a parameter, or wants another surface, the request is corrected and sent again. What
helped is kept for the deployment; each thing is tried at most once, so there is no loop.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loom_py._log import get_logger
from loom_py.errors import (
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    LoomError,
    UnsupportedParameterError,
)

__all__ = ["Attempts", "Knowledge", "Lessons"]

_log = get_logger(provider="azure-openai")

KEPT = frozenset({"messages", "input", "model", "tools", "stream"})
"""What a request cannot do without."""

_INSTEAD = re.compile(r"use '(\w+)' instead", re.IGNORECASE)
_NEEDS_RESPONSES = re.compile(
    r"function tools with reasoning_effort|only supported in v1/responses|use (the )?/?(v1/)?responses",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a deployment has taught so far."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    needs_responses: bool = False
    carry_reasoning: bool = True

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """``body`` without what the deployment refuses."""
        for name, other in self.renamed.items():
            if name in body:
                body[other] = body.pop(name)
        for name in self.dropped:
            body.pop(name, None)
        return body

    def after(self, error: LoomError, fields: Container[str], *, may_switch: bool) -> Lessons | None:
        """These lessons and the one in ``error``; ``None`` where it teaches nothing new."""
        if not isinstance(error, InvalidRequestError) or isinstance(error, ContextLengthError):
            return None
        if error.provider_code == "invalid_encrypted_content" and self.carry_reasoning:
            return replace(self, carry_reasoning=False)
        if may_switch and not self.needs_responses and _NEEDS_RESPONSES.search(error.message):
            return replace(self, needs_responses=True)
        name = (error.param or "").partition(".")[0]
        if not isinstance(error, UnsupportedParameterError) or name not in fields or name in KEPT:
            return None
        instead = _INSTEAD.search(error.message)
        if instead and name not in self.renamed.values():
            return replace(self, renamed={**self.renamed, name: instead[1]})
        return replace(self, dropped=self.dropped | {name})


class Knowledge:
    """The lessons of one deployment, shared by its concurrent calls."""

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._lock = threading.Lock()
        self.lessons = Lessons()

    def keep(self, lessons: Lessons) -> None:
        """These lessons helped: the next calls begin with them."""
        with self._lock:
            known = self.lessons
            merged = Lessons(
                {**known.renamed, **lessons.renamed},
                known.dropped | lessons.dropped,
                known.needs_responses or lessons.needs_responses,
            )
            if merged == known:
                return
            self.lessons = merged
        _log.info(
            "deployment_learned",
            deployment=self._deployment,
            renamed=dict(merged.renamed),
            dropped=sorted(merged.dropped),
            surface="responses" if merged.needs_responses else None,
            hint="name the model with model_name= and this is known beforehand",
        )


@dataclass(slots=True)
class Attempts:
    """The tries of one call: its lessons, and whether its token was renewed."""

    knowledge: Knowledge
    lessons: Lessons
    has_renewable_token: bool
    may_switch: bool
    first: LoomError | None = None
    renewed: bool = False

    def again(self, error: LoomError, fields: Container[str]) -> bool:
        """Whether to send the request once more; it is then to be written anew."""
        if isinstance(error, AuthenticationError) and error.http_status == 401:
            if self.has_renewable_token and not self.renewed:
                self.renewed = True
                return True
            return False
        lessons = self.lessons.after(error, fields, may_switch=self.may_switch)
        if lessons is None:
            return False
        self.first = self.first or error
        self.lessons = lessons
        return True

    def worked(self) -> None:
        """The last try was accepted: what was learned on the way is kept."""
        if self.lessons is not self.knowledge.lessons:
            self.knowledge.keep(self.lessons)

    def failure(self, last: LoomError) -> LoomError:
        """What to raise: the first refusal where no correction helped, else the last error."""
        if self.first is not None and isinstance(last, InvalidRequestError):
            return self.first
        return last
