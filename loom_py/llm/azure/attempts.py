"""One call and its corrections: what Azure refuses once is put right once, and remembered.

A deployment's name may tell nothing of its model. When Azure answers 400 because the model does
not know a parameter, or wants another surface, the request is corrected and sent again. What
helped is kept for the deployment; each thing is tried at most once, so there is no loop.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loom_py._log import get_logger
from loom_py.errors import (
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    LoomError,
    NotFoundError,
    UnsupportedParameterError,
)
from loom_py.llm.profiles import ModelProfile, profile_for

__all__ = ["Attempts", "Knowledge", "Lessons"]

KEPT = frozenset(
    {"messages", "input", "instructions", "model", "tools", "stream", "store", "response_format", "text"}
    | {"text.format"}
)
"""What a request cannot do without, or would mean something else without."""

_INSTEAD = re.compile(r"use '(\w+)' instead", re.IGNORECASE)
_TOOLS_NEED_RESPONSES = re.compile(r"function tools with reasoning_effort", re.IGNORECASE)
_NEEDS_RESPONSES = re.compile(r"only supported in v1/responses|use (the )?/?(v1/)?responses", re.IGNORECASE)
_WRONG_MODEL = re.compile(r"does not work with the specified model, ([\w.-]*\w)", re.IGNORECASE)
_UNRECOGNIZED = re.compile(r"(?:unrecognized|incompatible) request arguments? supplied: (\w+)", re.IGNORECASE)
_ONE_VALUE = re.compile(r"supported values (are|include)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a deployment has taught so far.

    ``renamed`` and ``dropped`` are parameters, nested ones with a dot. ``refused`` are pairs of a
    parameter and the JSON of the value it does not take; other values of it are still sent.
    """

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    refused: frozenset[tuple[str, str]] = frozenset()
    needs_responses: bool = False
    tools_need_responses: bool = False
    carry_reasoning: bool = True

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that the next call should know."""
        return replace(self, carry_reasoning=True) == Lessons()

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """``body`` without what the deployment refuses."""
        for name, other in self.renamed.items():
            if name in body:
                body.setdefault(other, body.pop(name))
        for name in self.dropped:
            _drop(body, name)
        for name, value in self.refused:
            if _json_at(body, name) == value:
                _drop(body, name)
        return body

    def profile(self, profile: ModelProfile) -> ModelProfile:
        """``profile`` with what has been learned of the model."""
        if self.tools_need_responses:
            profile = replace(profile, tools_need_responses=True, reasoning=True)
        return replace(profile, surface="responses") if self.needs_responses else profile

    def after(self, error: LoomError, body: Mapping[str, Any], *, may_switch: bool) -> Lessons | None:
        """These lessons and the one in ``error``; ``None`` where it teaches nothing new."""
        is_refusal = isinstance(error, (InvalidRequestError, NotFoundError))
        if is_refusal and may_switch and "messages" in body and (switched := self._switched(error.message)):
            return switched
        if not isinstance(error, InvalidRequestError) or isinstance(error, ContextLengthError):
            return None
        if error.provider_code == "invalid_encrypted_content" and self.carry_reasoning:
            return replace(self, carry_reasoning=False)
        name = _refused_parameter(error)
        if name in KEPT or _json_at(body, name) is None:
            return None
        instead = _instead(name, error.message)
        if instead and "." not in name and name not in self.renamed.values() and instead not in KEPT:
            return replace(self, renamed={**self.renamed, name: instead})
        if _ONE_VALUE.search(error.message):
            return replace(self, refused=self.refused | {(name, str(_json_at(body, name)))})
        return replace(self, dropped=self.dropped | {name})

    def _switched(self, message: str) -> Lessons | None:
        """The lesson that the model wants the responses API, at least for tools, if it is new."""
        if not self.tools_need_responses and _TOOLS_NEED_RESPONSES.search(message):
            return replace(self, tools_need_responses=True)
        named = _WRONG_MODEL.search(message)
        wants = _NEEDS_RESPONSES.search(message) or (named and profile_for(named[1]).surface == "responses")
        return replace(self, needs_responses=True) if wants and not self.needs_responses else None


def _refused_parameter(error: InvalidRequestError) -> str:
    """The parameter that is not known or not supported; empty where that is not the trouble."""
    if unknown := _UNRECOGNIZED.search(error.message):  # an older API says it without a code
        return unknown[1]
    is_refused = isinstance(error, UnsupportedParameterError) or error.provider_code == "unknown_parameter"
    return (error.param or "") if is_refused else ""


def _instead(name: str, message: str) -> str | None:
    found = _INSTEAD.search(message)
    if found is None and name == "max_completion_tokens":
        return "max_tokens"  # the older name, which an API that does not know the newer one has
    return found[1] if found else None


def _json_at(body: Mapping[str, Any], path: str) -> str | None:
    """The JSON of what ``body`` has at ``path``; ``None`` where it has nothing there."""
    value: Any = body
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return json.dumps(value, default=repr)


def _drop(body: dict[str, Any], path: str) -> None:
    """Take what is at ``path`` out of ``body``, and a group that is empty then. Groups are copied."""
    name, _, rest = path.partition(".")
    if rest and isinstance(body.get(name), Mapping):
        body[name] = dict(body[name])
        _drop(body[name], rest)
        if body[name]:
            return
    elif rest:
        return
    body.pop(name, None)


class Knowledge:
    """The lessons of one deployment, shared by its concurrent calls."""

    def __init__(self, deployment: str, provider: str) -> None:
        self._deployment = deployment
        self._provider = provider
        self._lock = threading.Lock()
        self.lessons = Lessons()

    def keep(self, lessons: Lessons) -> None:
        """These lessons helped: the next calls begin with them."""
        with self._lock:
            known = self.lessons
            merged = Lessons(
                {**known.renamed, **lessons.renamed},
                known.dropped | lessons.dropped,
                known.refused | lessons.refused,
                known.needs_responses or lessons.needs_responses,
                known.tools_need_responses or lessons.tools_need_responses,
            )  # whose reasoning it cannot read is a matter of the conversation, not of the deployment
            if merged == known:
                return
            self.lessons = merged
        get_logger(provider=self._provider).info(
            "deployment_learned",
            deployment=self._deployment,
            renamed=dict(merged.renamed),
            dropped=sorted(merged.dropped),
            refused=sorted(merged.refused),
            surface="responses" if merged.needs_responses or merged.tools_need_responses else None,
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

    def again(self, error: LoomError, body: Mapping[str, Any]) -> bool:
        """Whether to send the request once more; it is then to be written anew."""
        if isinstance(error, AuthenticationError) and "http_status" in vars(error):  # it was received
            if self.has_renewable_token and not self.renewed:
                self.renewed = True
                return True
            return False
        lessons = self.lessons.after(error, body, may_switch=self.may_switch)
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
        """What to raise: the first refusal where putting it right did not help, else the last error."""
        if self.first is None or not isinstance(last, (InvalidRequestError, NotFoundError)):
            return last
        return last if self._is_another(last) else self.first

    def _is_another(self, last: LoomError) -> bool:
        """Whether a refusal is of something that the corrections have not touched."""
        if isinstance(last, ContextLengthError):
            return True
        if not isinstance(last, InvalidRequestError) or isinstance(last, UnsupportedParameterError):
            return False
        return bool(last.param) and last.param not in self.lessons.renamed.values()
