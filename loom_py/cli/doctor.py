"""What ``loom doctor`` does: everything between here and an answer, tried step by step.

Each step is a `Finding`; after the first that fails, those that need it are skipped.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loom_py.cli.exits import ExitCode, exit_code
from loom_py.cli.failures import KEEP_A_KEY, masked_secrets
from loom_py.cli.screen import out, print_table, safe
from loom_py.cli.streams import write_json
from loom_py.cli.ways import Way, way_to
from loom_py.errors import (
    BuilderError,
    ConfigError,
    IncompleteResponseError,
    LoomError,
    MissingAuthError,
    RateLimitError,
)
from loom_py.messages import Message, Response
from loom_py.options import ChatOptions

if TYPE_CHECKING:
    from loom_py.builder import AgentBuilder
    from loom_py.llm.provider import LLMProvider

__all__ = ["Finding", "examine", "examine_all", "show_findings"]

Status: TypeAlias = Literal["ok", "warning", "failed", "skipped"]

MARKS: dict[Status, tuple[str, str]] = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "failed": ("✗", "bold red"),
    "skipped": ("·", "dim"),
}
WIDTH = 12
"""Cells of a mark and the name of a step."""
PROMPT = "Reply with the word: ready"
MOST_TOKENS = 64
"""Tokens of the trial's reply: enough for a word, also where the model thinks first."""
SOON = 21
"""Days before its end from which on a certificate is warned of."""
LOW = 0.1
"""The share of a quota below which it is warned of."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step found: ``told`` in a line, and what to do where something is wrong."""

    step: str
    status: Status
    told: str
    remedy: str | None = None
    code: ExitCode = field(default=ExitCode.OK)

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {**asdict(self), "code": int(self.code)}


def examine_all(builder: AgentBuilder, *, timeout: float, call: bool, as_json: bool) -> ExitCode:
    """Examine every model of the agent, and print what is found; the worst of its exit codes."""
    findings: dict[str, list[Finding]] = {}
    console = out()
    try:
        agent = builder.build()
    except ConfigError as error:
        findings["settings"] = list(_wrong_settings(error))
        if not as_json:
            for finding in findings["settings"]:
                _show(console, finding)
    else:
        with agent:
            for provider in agent.providers:
                if as_json:
                    found = list(examine(provider, timeout=timeout, call=call))
                else:
                    found = show_findings(console, provider, timeout=timeout, call=call)
                findings.setdefault(name_of(provider), []).extend(found)
    if as_json:
        write_json({name: [each.to_dict() for each in found] for name, found in findings.items()})
    return max((each.code for found in findings.values() for each in found), default=ExitCode.OK)


def examine(provider: LLMProvider, *, timeout: float = 10.0, call: bool = True) -> Iterator[Finding]:
    """One finding after the other, from the settings to an answer. ``timeout`` is in seconds, for each step.

    With ``call`` one short reply is asked for, which costs a few tokens.
    """
    yield _settings(provider)
    place = urlsplit(getattr(provider, "endpoint", None) or "")
    reached = True
    for finding in _connection(place, timeout) if place.hostname else ():
        reached = reached and finding.status != "failed"
        yield finding
    if not call:
        yield Finding("answer", "skipped", "no call was to be made")
    elif not reached:
        yield Finding("answer", "skipped", "the service cannot be reached")
    else:
        yield from _answer(provider, timeout)


# ── the steps ────────────────────────────────────────────────────────────────────────────


def _wrong_settings(error: ConfigError) -> Iterator[Finding]:
    if not isinstance(error, BuilderError):
        yield Finding("settings", "failed", error.message, error.hint, ExitCode.USAGE)
        return
    for problem in error.problems:
        remedy = problem.remedy
        if isinstance(problem.error, MissingAuthError):
            remedy = f"{remedy or ''} {KEEP_A_KEY}".strip()
        yield Finding("settings", "failed", problem.message, remedy, ExitCode.USAGE)


def _settings(provider: LLMProvider) -> Finding:
    """The settings are whole, for there is a provider: which they are, and from where."""
    describe: Callable[[], Any] | None = getattr(provider, "describe", None)
    if describe is None:
        return Finding("settings", "ok", repr(provider))
    wanted = ("endpoint", "host", "base_url", "region", "deployment_id", "model", "api_version", "api_key")
    told = [
        f"{each.name} {each.value} ({each.source})"
        for each in describe()
        if each.name in wanted and each.value is not None and each.source != "default"
    ]
    return Finding("settings", "ok", ", ".join(told) or "all by default")


def _connection(place: SplitResult, timeout: float) -> Iterator[Finding]:
    """Everything up to the service, or to the proxy on the way to it."""
    try:
        way = way_to(place)
    except ConfigError as error:
        yield Finding("proxy", "failed", error.message, error.hint, ExitCode.USAGE)
        return
    reached = True
    for step in (_name, _port, _encryption):
        finding = step(way, timeout) if reached else _skipped(step.__name__)
        reached = reached and finding.status != "failed"
        yield finding


def _name(way: Way, timeout: float) -> Finding:
    """The host has an address."""
    host = way.host
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: no name could be written so
        remedy = (
            f"Is {way.variable} right?"
            if way.variable
            else "Is the host right? Without a network or behind a private endpoint it has no address here."
        )
        return Finding("DNS", "failed", f"{way.kind}{host} has no address", remedy, ExitCode.UNAVAILABLE)
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    return Finding("DNS", "ok", f"{way.kind}{host} is {', '.join(addresses[:3])}")


def _port(way: Way, timeout: float) -> Finding:
    """Something listens there."""
    host = f"[{way.host}]" if ":" in way.host else way.host
    where = f"{way.kind}{host}:{way.port}"
    began = time.perf_counter()
    try:
        socket.create_connection((way.host, way.port), timeout).close()
    except TimeoutError:
        remedy = "A firewall may drop the packets: is the port open for you, or is a proxy needed?"
        if way.variable:
            remedy = f"Is {way.variable} right, and the port open for you?"
        return Finding("TCP", "failed", f"{where} does not answer", remedy, ExitCode.UNAVAILABLE)
    except OSError as error:
        remedy = "Nothing listens there: is the port right, and the service running?"
        if way.variable:
            remedy = f"Nothing listens there: is {way.variable} right, and the proxy running?"
        said = error.strerror or type(error).__name__
        return Finding("TCP", "failed", f"{where}: {said}", remedy, ExitCode.UNAVAILABLE)
    return Finding("TCP", "ok", f"{where} in {_milliseconds(began)}")


def _encryption(way: Way, timeout: float) -> Finding:
    """The certificate is one that this machine trusts."""
    host = way.host
    if not way.is_https:
        return Finding("TLS", "skipped", "plain http")
    if way.variable:
        return Finding("TLS", "skipped", "through the proxy: the answer will tell")
    context = ssl.create_default_context()
    began = time.perf_counter()
    try:
        with (
            socket.create_connection((host, way.port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=host) as encrypted,
        ):
            certificate, version = encrypted.getpeercert() or {}, encrypted.version()
    except ssl.SSLCertVerificationError as error:
        remedy = (
            "A proxy that reads along shows a certificate of its own: trust its root with SSL_CERT_FILE."
            if "self" in error.verify_message or "issuer" in error.verify_message
            else "Is the host name right, and this machine's clock?"
        )
        return Finding("TLS", "failed", error.verify_message, remedy, ExitCode.UNAVAILABLE)
    except OSError as error:
        remedy = "Does the port speak https?"
        return Finding("TLS", "failed", f"no handshake: {error}", remedy, ExitCode.UNAVAILABLE)
    left = _days_left(certificate)
    told = f"{version} in {_milliseconds(began)}, certificate good for {left} days"
    if left < SOON:
        return Finding("TLS", "warning", told, "Its owner has to renew it.")
    return Finding("TLS", "ok", told)


def _answer(provider: LLMProvider, timeout: float) -> Iterator[Finding]:
    """A call is let in, finds its model, and is answered; what the quota says then."""
    options = ChatOptions(max_tokens=MOST_TOKENS, timeout=timeout)
    began = time.perf_counter()
    try:
        response = provider.chat([Message.user(PROMPT)], options=options)
    except IncompleteResponseError:  # it answered, if only with its thoughts
        yield Finding("answer", "ok", f"in {_milliseconds(began)}, cut short while it thought")
        return
    except RateLimitError as error:
        remedy = (
            f"Wait {error.retry_after:g} s, or raise the quota." if error.retry_after else "Raise the quota."
        )
        told = f"credential and model are right, but {error.message}"
        yield Finding("answer", "warning", told, remedy, ExitCode.UNAVAILABLE)
        return
    except LoomError as error:
        told = f"{error.message} ({error.code})"
        yield Finding("answer", "failed", told, error.hint or _REMEDIES.get(error.code), exit_code(error))
        return
    cost = "cost unknown" if response.cost_usd is None else f"{response.cost_usd:f} USD"
    used = f"{response.tokens_used.total} tokens, {cost}"
    yield Finding("answer", "ok", f"{response.model} in {_milliseconds(began)}, {used}")
    yield from _quota(response)


def _quota(response: Response) -> Iterator[Finding]:
    """What the answer's headers say is left of the minute."""
    facts = response.metadata
    for kind in ("tokens", "requests"):
        left, limit = _number(facts.get(f"remaining_{kind}")), _number(facts.get(f"limit_{kind}"))
        if left is None or left < 0:
            continue
        told = f"{left:,} {kind} left" + (f" of {limit:,} a minute" if limit and limit > 0 else "")
        if limit and limit > 0 and left < LOW * limit:
            yield Finding("quota", "warning", told, "Others use this deployment, or the quota is small.")
        else:
            yield Finding("quota", "ok", told)


_REMEDIES = {
    "unauthorized": "The key is not this resource's, or has been changed: copy it again.",
    "permission_denied": "The credential lacks a role such as Cognitive Services OpenAI User.",
    "timeout": "Give it longer with --timeout.",
}


def _skipped(step: str) -> Finding:
    names = {"_port": "TCP", "_encryption": "TLS"}
    return Finding(names.get(step, step), "skipped", "what comes before it failed")


def _days_left(certificate: Any) -> int:
    ends = certificate.get("notAfter")
    if ends is None:
        return 0
    moment = datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC)
    return (moment - datetime.now(UTC)).days


def _number(text: Any) -> int | None:
    try:
        return int(text)
    except (TypeError, ValueError):
        return None


def _milliseconds(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.0f} ms"


# ── showing ──────────────────────────────────────────────────────────────────────────────


def _kept(findings: Iterator[Finding], kept: list[Finding]) -> Iterator[Finding]:
    for finding in findings:
        kept.append(finding)
        yield finding


def show_findings(
    console: Console, provider: LLMProvider, *, timeout: float = 10.0, call: bool = True
) -> list[Finding]:
    """Examine a provider, and print each finding as it comes."""
    console.print(Text(safe(name_of(provider)), style="bold"), soft_wrap=True)
    found = []
    for finding in examine(provider, timeout=timeout, call=call):
        _show(console, finding)
        found.append(finding)
    return found


def name_of(provider: LLMProvider) -> str:
    """What a provider is called here."""
    return f"{provider.name} {provider.model}"


def _show(console: Console, finding: Finding) -> None:
    mark, style = MARKS[finding.status]
    line = Table.grid(padding=(0, 1))
    line.add_column(width=WIDTH, no_wrap=True)
    line.add_row(Text(f"  {mark} {finding.step}", style), Text(safe(masked_secrets(finding.told))))
    if finding.remedy:
        line.add_row("", Text(safe(finding.remedy), "dim"))
    print_table(line, console)
