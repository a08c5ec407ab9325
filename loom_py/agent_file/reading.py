"""From a document's nodes to an `AgentFile`: every section read, everything wrong with it reported."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from loom_py.agent_file.context import Context
from loom_py.agent_file.fields import MISSING, Field, fields_of
from loom_py.agent_file.file import AgentFile, Step
from loom_py.agent_file.imports import imported, tools_of
from loom_py.agent_file.model import deployments_of, llm_step
from loom_py.agent_file.nodes import FAILED, Node
from loom_py.agent_file.sections import (
    DEPLOYMENTS,
    SECTIONS,
    SQL_FORMS,
    TOP_LEVEL,
    Section,
    price_fields,
    section,
)
from loom_py.description import Description
from loom_py.loop import Limits
from loom_py.resilience.spec import Resilience

__all__ = ["agent_of"]

Maker = Callable[[], Step]

_RESILIENCE = "resilience"
_NAMES = {place.partition(".")[2]: place for place in SECTIONS if place.startswith(f"{_RESILIENCE}.")}
_ASIDE = "x-"
"""Names that begin so are for anchors, and read by nobody."""


def agent_of(ctx: Context, root: Node) -> AgentFile:
    """The agent that a document describes; what is wrong with it goes to the problems of ``ctx``."""
    reader = _Reader(ctx)
    if isinstance(root.value, Mapping):
        reader.read(root)
    elif not root.is_broken:
        hint = "Begin with kind: Agent, then name, llm and tools."
        ctx.problems.add(root, f"an agent is described by a mapping, not by {root.kind}", hint)
    return AgentFile(ctx.path, reader.name, root.line, tuple(reader.makers), Description(ctx.settings))


class _Reader:
    """Reads one document."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.name = "agent"
        self.makers: list[Maker] = []
        self._deployments = 0

    def read(self, root: Node) -> None:
        ctx = self._ctx
        ctx.hide_secrets(root)
        self._check_top_level(root)
        entries = root.entries
        self._read_name(entries.get("name"))
        self._read_llm(root)
        for place in ("backend", "backends"):
            self._read_backends(entries.get(place))
        self._read_tools(entries.get("tools"))
        self._read_prompt(entries.get("system_prompt"))
        self._read_output(entries.get("output"))
        self._read_sections(root)
        self._read_budgets(entries.get("budget"))
        self._read_listeners(entries.get("listeners"))

    def _add(self, method: str, *args: Any, **kwargs: Any) -> None:
        step = Step(method, args, kwargs)
        self.makers.append(lambda: step)

    def _check_top_level(self, root: Node) -> None:
        ctx = self._ctx
        kind = root.entries.get("kind")
        if kind is None:
            ctx.problems.add(root, "kind is missing", "Add kind: Agent at the top.")
        elif not kind.is_broken and kind.value != "Agent":
            shown = repr(kind.value) if isinstance(kind.value, str) else kind.kind
            ctx.problems.add(kind, f"kind must be Agent, not {shown}", "Write kind: Agent.")
        for name, each in root.entries.items():
            if name in TOP_LEVEL or name.startswith(_ASIDE):
                continue
            hint = f"It belongs under {_RESILIENCE}:" if name in _NAMES else None
            ctx.unknown(each, name, TOP_LEVEL, "an agent", hint)

    # ── the agent ────────────────────────────────────────────────────────────────────────

    def _read_name(self, node: Node | None) -> None:
        if node is None:
            self._ctx.default("name", self.name)
        elif (name := self._text(node, "name")) is not None:
            self.name = name
            self._add("with_name", name)

    def _text(self, node: Node, what: str) -> str | None:
        """The text of ``node``, which must not be empty."""
        if node.is_broken:
            return None
        if not isinstance(node.value, str) or not node.value.strip():
            kind = "empty" if isinstance(node.value, str) else node.kind
            hint = (
                None if isinstance(node.value, (str, tuple, Mapping)) else "Put it in quotes to make it text."
            )
            self._ctx.problems.add(node, f"{what} must be text that is not empty; it is {kind}", hint)
            return None
        self._ctx.record(node, node.value)
        return node.value

    def _read_llm(self, root: Node) -> None:
        node = root.entries.get("llm")
        if node is None or (node.value is None and not node.is_broken):
            balanced = root.entries.get(_RESILIENCE, root).entries.get("load_balancing", root).entries
            if DEPLOYMENTS not in balanced:
                hint = "Add llm: azure-openai:DEPLOYMENT, or the name of an installed provider."
                self._ctx.problems.add(node or root, "an agent needs an llm", hint)
        else:
            pool = node.entries.get(DEPLOYMENTS)
            self._deployments += max(1, 0 if pool is None else len(pool.items))
            if (maker := llm_step(self._ctx, node)) is not None:
                self.makers.append(maker)

    def _read_tools(self, node: Node | None) -> None:
        if node is None or node.value is None:
            return
        from loom_py.tools import as_tool

        ctx, tools = self._ctx, []
        for each in node.items if isinstance(node.value, tuple) else (node,):
            if each.is_broken:
                continue
            found = tools_of(each, ctx.problems)
            for thing in found:
                ctx.attempt(each, partial(as_tool, thing))
            tools += found
            ctx.record(each, each.plain())
        if tools:
            self._add("with_tools", *tools)

    def _read_prompt(self, node: Node | None) -> None:
        if node is None or (node.value is None and not node.is_broken):
            return
        prompt: str | None
        if isinstance(node.value, Mapping):
            schema = {"file": Field("file", str, MISSING, "prompt")}
            given = self._ctx.take(node, schema, "system_prompt")
            if "file" not in given:
                self._ctx.problems.add(node, "system_prompt has no text", "Write text, or file: prompt.md.")
                return
            prompt = self._file(given["file"])
        else:
            prompt = self._text(node, "system_prompt")
        if prompt is not None:
            self._add("with_system_prompt", prompt)

    def _file(self, node: Node) -> str | None:
        ctx = self._ctx
        if (name := self._text(node, "file")) is None:
            return None
        try:
            path = ctx.folder / Path(name)
            if not path.is_file():
                ctx.problems.add(node, f"there is no file {name!r}", "A path begins at the agent's file.")
                return None
            return path.read_text("utf-8")
        except UnicodeDecodeError:
            ctx.problems.add(node, f"the file {name!r} is not UTF-8", "Save it as UTF-8.")
        except (OSError, ValueError) as exc:  # ValueError: a null character in the name
            told = getattr(exc, "strerror", None) or str(exc)
            ctx.problems.add(node, f"the file {name!r} cannot be read: {told}")
        return None

    def _read_output(self, node: Node | None) -> None:
        if node is None or node.value is None:
            return
        from loom_py.output import output_spec

        kind = imported(node, self._ctx.problems)
        if kind is not FAILED and self._ctx.attempt(node, partial(output_spec, kind)) is not FAILED:
            self._ctx.record(node, node.value)
            self._add("with_output", kind)

    def _read_listeners(self, node: Node | None) -> None:
        if node is None or node.value is None:
            return
        for each in node.items if isinstance(node.value, tuple) else (node,):
            if each.is_broken:
                continue
            listener = imported(each, self._ctx.problems)
            if listener is FAILED:
                continue
            self._check(each, Resilience(listeners=(listener,)))
            self._ctx.record(each, each.plain())
            self._add("with_listener", listener)

    # ── backends ─────────────────────────────────────────────────────────────────────────

    def _read_backends(self, node: Node | None) -> None:
        if node is None or (node.value is None and not node.is_broken):
            return
        for each in node.items if isinstance(node.value, tuple) else (node,):
            self._read_backend(each)

    def _read_backend(self, node: Node) -> None:
        from loom_py.backends.registry import create_backend, load_backend

        ctx = self._ctx
        if isinstance(node.value, str):
            url = replace(node, path=node.child("url"))
            node = replace(node, value={"url": url}, variables=(), is_filled=False)
        if not isinstance(node.value, Mapping):
            if not node.is_broken:
                ctx.problems.add(node, f"a backend must be a URL or a mapping, not {node.kind}")
            return
        given = node.entries.get("kind")
        kind = "sql"
        if given is not None:
            if (named := self._text(given, "kind")) is None:
                return
            kind = named
        entries = replace(node, value={name: each for name, each in node.entries.items() if name != "kind"})
        factory = ctx.attempt(replace(node, value={"kind": given or node}), partial(load_backend, kind))
        if factory is FAILED:
            return
        before = len(ctx.problems.found)
        settings = self._backend_settings(entries, kind, factory)
        if len(ctx.problems.found) > before or node.holds_broken():
            return
        backend = ctx.attempt(entries, partial(create_backend, kind, **settings))
        if backend is FAILED:
            return
        if (close := getattr(backend, "close", None)) is not None:
            close()
        self.makers.append(lambda: Step("with_backend", (create_backend(kind, **settings),)))

    def _backend_settings(self, node: Node, kind: str, factory: Callable[..., Any]) -> dict[str, Any]:
        ctx = self._ctx
        forms = SQL_FORMS if kind == "sql" else {}
        try:
            fields = fields_of(factory, "backend", **forms)
            is_open = any(
                each.kind is each.VAR_KEYWORD for each in inspect.signature(factory).parameters.values()
            )
        except (TypeError, ValueError):  # something callable that says nothing of its parameters
            fields, is_open = {}, True
        if is_open:
            fields = {**{name: Field(name, Any, None, "backend") for name in node.entries}, **fields}
        given = ctx.take(node, fields, f"a backend of kind {kind!r}")
        for name, each in fields.items():
            if each.default is MISSING and name not in given:
                ctx.problems.add(node, f"a backend of kind {kind!r} needs {name}")
        values = {name: ctx.value(fields[name], each) for name, each in given.items()}
        return {name: value for name, value in values.items() if value is not FAILED}

    # ── sections ─────────────────────────────────────────────────────────────────────────

    def _read_sections(self, root: Node) -> None:
        group = root.entries.get(_RESILIENCE)
        if group is not None and group.value is not None:
            known = {name: Field(name, Any, None, _RESILIENCE) for name in _NAMES}
            self._ctx.take(group, known, _RESILIENCE)
        for place in SECTIONS:
            holder, _, name = place.rpartition(".")
            above = root if not holder else root.entries.get(holder)
            node = None if above is None else above.entries.get(name)
            part = section(place)
            if node is not None and place != "budget":
                self._read_section(part, node)
            elif part.is_active:
                self._ctx.defaults(place, part.fields, ())

    def _read_section(self, part: Section, node: Node) -> None:
        if (read := self._section(part, node)) is None:
            return
        values = _good(read)
        self._check_section(part, node, _with_stand_ins(read))
        if part.name == "guardrails":
            self._add(part.method, *values.pop("validators", ()), **values)
        else:
            self._add(part.method, **values)

    def _section(self, part: Section, node: Node) -> dict[str, Any] | None:
        """What is given of a section, `FAILED` included; nothing, and ``true``, take its defaults."""
        ctx = self._ctx
        if node.is_broken:
            return None
        if isinstance(node.value, tuple) and part.name.endswith("failover"):
            pool = replace(node, path=node.child(DEPLOYMENTS))
            node = replace(node, value={DEPLOYMENTS: pool})
        if node.value is False:
            retries = part.name.endswith("retries")
            hint = "Write max_attempts: 1 to switch retries off." if retries else "Leave it out."
            ctx.problems.add(node, f"{part.name} cannot be false", hint)
            return None
        if node.value is None or node.value is True:
            node = replace(node, value={})
        if not isinstance(node.value, Mapping):
            ctx.take(node, part.fields, part.name)
            return None
        given = ctx.take(node, part.fields, part.name)
        for name, field in part.fields.items():
            if field.default is MISSING and name not in given:
                ctx.problems.add(node, f"{part.name} needs {name}")
        ctx.defaults(node.path, part.fields, given)
        return {name: self._value(part.fields[name], each) for name, each in given.items()}

    def _value(self, field: Field, node: Node) -> Any:
        if field.name == DEPLOYMENTS:
            self._deployments += len(node.items)
            return deployments_of(self._ctx, node)
        if field.name == "assumed_price":
            return self._price(node)
        return self._ctx.value(field, node)

    def _price(self, node: Node) -> Any:
        from loom_py.llm.prices import ModelPrice

        if node.value is None:
            return FAILED
        given = self._ctx.take(node, price_fields(), "a price")
        values = {name: self._ctx.value(price_fields()[name], each) for name, each in given.items()}
        for name in ("input", "output"):
            if name not in given and isinstance(node.value, Mapping):
                self._ctx.problems.add(node, f"a price needs {name}")
                values[name] = FAILED
        if not values or any(value is FAILED for value in values.values()):
            return FAILED
        return self._ctx.attempt(node, lambda: ModelPrice(**values))

    def _read_budgets(self, node: Node | None) -> None:
        if node is None:
            return
        part, seen = section("budget"), set()
        for each in node.items if isinstance(node.value, tuple) else (node,):
            if (read := self._section(part, each)) is None:
                continue
            values = _good(read)
            self._check_budget(each, _with_stand_ins(read))
            per = str(values.get("per", "chat"))
            if per in seen:
                self._ctx.problems.add(each, f"there are two budgets per {per}", "Keep one.")
            seen.add(per)
            self._add(part.method, **values)

    def _check_budget(self, node: Node, values: Mapping[str, Any]) -> None:
        """The whole, and each setting by itself, so that each wrong one is reported."""
        self._check(node, Resilience(budgets=(values,)))
        for name, value in values.items():
            if name != "assumed_price":
                self._check(node, Resilience(budgets=({"tokens": 1, name: value},)))

    # ── checks ───────────────────────────────────────────────────────────────────────────

    def _check_section(self, part: Section, node: Node, values: Mapping[str, Any]) -> None:
        """Have those who take the values check them, as the builder does."""
        ctx = self._ctx
        name = part.name.rpartition(".")[2]
        if name == "limits":
            for key, value in values.items():
                ctx.attempt(node, partial(Limits, **{key: value}))
        elif name == "guardrails":
            from loom_py.guardrails import Guardrails

            for key, value in values.items():
                ctx.attempt(node.entries.get(key, node), partial(Guardrails, **{key: value}))
        elif name == "load_balancing":
            self._check(node, Resilience(strategy=values.get("strategy")))
        elif name == "hedging":
            self._check(node, Resilience(hedge_after=values.get("after_seconds")))
        elif name in _PARTS:
            own = {key: value for key, value in values.items() if key != "restart_streams"}
            if name != "shared_state" or "url" in own:  # a missing one is reported already
                settings: dict[str, Any] = {_PARTS[name]: own}
                self._check(node, Resilience(**settings))

    def _check(self, node: Node, resilience: Resilience) -> None:
        resilience.check(lambda _, make: self._ctx.attempt(node, make), self._deployments)


def _good(read: Mapping[str, Any]) -> dict[str, Any]:
    """What was read without a mistake."""
    return {name: value for name, value in read.items() if value is not FAILED}


def _with_stand_ins(read: Mapping[str, Any]) -> dict[str, Any]:
    """What was read, with 1 for a quantity that failed: that it is missing would be no news."""
    stand_ins = {name: 1 for name in _QUANTITIES if read.get(name) is FAILED}
    return {**_good(read), **stand_ins}


_QUANTITIES = ("usd", "tokens", "tokens_per_minute", "requests_per_minute")
"""Settings of which a section needs at least one."""

_PARTS = {
    "retries": "retries",
    "circuit_breakers": "breakers",
    "rate_limit": "rate_limit",
    "timeouts": "timeouts",
    "shared_state": "shared",
}
"""What `Resilience` calls the sections it checks."""
