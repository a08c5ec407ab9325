"""Scripted trouble: what the emulator is told to do to the next requests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, Protocol, TypeVar

from loom_py.emulator.encode import encode_json
from loom_py.emulator.wire_errors import (
    WireError,
    bad_key,
    content_filtered,
    deployment_not_found,
    gateway_error,
    invalid_request,
    rate_limited,
    resource_not_found,
    server_error,
    timed_out,
)

__all__ = ["Answer", "Cut", "Delay", "Fault", "Faults"]


@dataclass(frozen=True, slots=True)
class Fault:
    """An error answer. Parts left out are Azure's own for that status.

    ``body`` is sent raw if it is text or bytes, as JSON otherwise. ``deployment`` limits the fault
    to one deployment.
    """

    status: int
    code: str | None = None
    message: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    deployment: str | None = None

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"a fault has a status from 400 to 599, not {self.status}")

    def to_error(
        self,
        request_id: str,
        deployment: str,
        region: str,
        *,
        quirks: bool = True,
        worded: Callable[[WireError], WireError] = lambda error: error,
    ) -> WireError:
        """The error to answer with; ``worded`` puts what is left out in a service's own words."""
        if self.body is not None:
            error = WireError(self.status, self.body, media_type=_media_type(self.body))
        else:
            error = worded(_standard_error(self, request_id, deployment, region, quirks=quirks))
            named = error.body.get("error", error.body)
            named.update({} if self.code is None else {"code": self.code})
            named.update({} if self.message is None else {"message": self.message})
        error.is_verbatim = True
        error.headers.update({name.lower(): value for name, value in self.headers.items()})
        return error


def _standard_error(
    fault: Fault, request_id: str, deployment: str, region: str, *, quirks: bool
) -> WireError:
    status = fault.status
    if status == 400:
        return (
            content_filtered()
            if fault.code == "content_filter"
            else invalid_request("The request is invalid.")
        )
    if status == 401:
        return bad_key()
    if status == 404:
        return resource_not_found() if fault.code == "404" else deployment_not_found(quirks)
    if status == 408:
        return timed_out()
    if status == 429:
        message = f"Your requests to {deployment} for {deployment} in {region} have exceeded rate limit."
        return rate_limited(message, quirks=quirks)
    if status >= 500:
        return server_error(request_id, status=status)
    return gateway_error(status, str(status), _phrase(status))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"


def _media_type(body: Any) -> str | None:
    if not isinstance(body, (str, bytes)):
        return "application/json"
    if not body:
        return None
    start = (body if isinstance(body, str) else body.decode("utf-8", "replace")).lstrip()[:1]
    return {"{": "application/json", "[": "application/json", "<": "text/html"}.get(start, "text/plain")


@dataclass(frozen=True, slots=True)
class Answer:
    """A raw answer: ``body`` and ``headers`` go out as they are."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = b""
    deployment: str | None = None

    @property
    def content(self) -> bytes:
        """The bytes of the body; what is neither text nor bytes is sent as JSON."""
        if isinstance(self.body, bytes):
            return self.body
        return self.body.encode() if isinstance(self.body, str) else encode_json(self.body)


@dataclass(frozen=True, slots=True)
class Cut:
    """A stream that breaks off after ``after_chunks`` events.

    The connection is dropped; ``clean`` ends the answer properly instead, only without finish
    reason and ``[DONE]``.
    """

    after_chunks: int = 1
    clean: bool = False
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class Delay:
    """A request that waits ``seconds`` before anything else happens to it."""

    seconds: float
    deployment: str | None = None


class _Targeted(Protocol):
    @property
    def deployment(self) -> str | None: ...


F = TypeVar("F", bound=_Targeted)


class FaultQueue(Generic[F]):
    """Faults of one kind, each taken once, in order, by the requests they are meant for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[F] = deque()

    def add(self, fault: F, times: int = 1) -> None:
        """Let the next ``times`` requests have ``fault``. Raises `ValueError` below 1."""
        if times < 1:
            raise ValueError(f"times must be at least 1, not {times}")
        with self._lock:
            self._waiting.extend([fault] * times)

    def take(self, deployment: str) -> F | None:
        """The fault for a request to ``deployment``, if there is one."""
        with self._lock:
            for fault in self._waiting:
                if fault.deployment in {None, deployment}:
                    self._waiting.remove(fault)
                    return fault
        return None

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._waiting.clear()


class Faults:
    """Everything scripted and not yet used. Answers and failures share one order."""

    def __init__(self) -> None:
        self.answers: FaultQueue[Fault | Answer] = FaultQueue()
        self.cuts: FaultQueue[Cut] = FaultQueue()
        self.delays: FaultQueue[Delay] = FaultQueue()

    def clear(self) -> None:
        """Forget all."""
        self.answers.clear()
        self.cuts.clear()
        self.delays.clear()
