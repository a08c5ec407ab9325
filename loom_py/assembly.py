"""Making an agent of what its builder noted: everything is checked, and every problem is reported at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from loom_py.agent import Agent
from loom_py.errors import BuilderError, ConfigError, LoomError, Problem, ToolDefinitionError
from loom_py.llm.costs import CostLedger
from loom_py.loop import Limits
from loom_py.output import output_spec
from loom_py.resilience.deployment import Deployment
from loom_py.resilience.events import emitter
from loom_py.resilience.gateway import ModelGateway
from loom_py.resilience.spec import Resilience
from loom_py.tools import as_tool

if TYPE_CHECKING:
    from loom_py.backends import Backend
    from loom_py.guardrails import Guardrails
    from loom_py.llm.provider import LLMProvider
    from loom_py.resilience.steps import Policies
    from loom_py.tools import Tool

__all__ = ["LLM", "Assembly"]

_T = TypeVar("_T")

_USUAL_LIMITS = Limits()
"""The limits of every agent for which none were asked for."""

_USUAL_RESILIENCE = Resilience()
"""What guards every agent for which nothing was asked for."""


@dataclass(frozen=True, slots=True)
class LLM:
    """How to come by the provider: an object, or a registered name with settings.

    Where ``deployments`` are given, the settings are what they have in common.
    """

    provider: LLMProvider | str
    settings: Mapping[str, Any]
    shared: bool = False
    deployments: tuple[Deployment, ...] = ()

    def made(self) -> list[Deployment]:
        """The deployments it stands for. Raises `ConfigError` for one that makes no sense."""
        if self.deployments:
            given = [_deployment("llm", each) for each in self.deployments]
            return [each.with_defaults(self.settings) for each in given]
        return [_deployment("llm", self.provider, shared=self.shared, settings=self.settings)]


@dataclass(slots=True)
class Assembly:
    """One agent in the making: the settings as they were given, and the problems found so far.

    ``backends`` come with whether they are shared; ``llm``, ``limits``, ``resilience`` and ``guardrails``
    are the settings of `LLM`, `Limits`, `Resilience` and `Guardrails`.
    """

    name: str
    llm: Mapping[str, Any] | None
    backends: Sequence[tuple[Any, bool]]
    tools: Sequence[Any]
    system_prompt: str | None
    output: Any
    limits: Mapping[str, Any]
    resilience: Mapping[str, Any]
    guardrails: Mapping[str, Any] | None
    problems: list[Problem] = field(default_factory=list)

    def agent(self) -> Agent:
        """The agent. Raises one `BuilderError` that lists everything that is wrong."""
        resilience = Resilience(**self.resilience) if self.resilience else _USUAL_RESILIENCE
        members = self._members(resilience)
        providers = [self._provider(deployment) for deployment, _ in members]
        backends = self._checked_backends() if self.backends else ()
        guardrails = self._checked_guardrails(resilience)
        tools = self._checked_tools(backends, guardrails) if self.tools or backends else ()
        if self.output is not None:
            self._try("output", partial(output_spec, self.output))
        for name, value in self.limits.items():  # each by itself, so that each wrong one is reported
            self._try("limits", partial(Limits, **{name: value}))
        resilience.check(self._try, len(members))
        self._check_texts()
        made = [provider for provider in providers if provider is not None]
        policies = None
        if not self.problems:
            policies = self._try("llm", lambda: resilience.policies(members, made, self.name))
        if policies is None:
            _discard(members, providers)
            raise BuilderError(self.problems)
        return Agent(
            made[0],
            gateway=ModelGateway(policies, ledger=CostLedger(agent=self.name)),
            tools=tools,
            backends=backends,
            system_prompt=self.system_prompt,
            name=self.name,
            limits=Limits(**self.limits) if self.limits else _USUAL_LIMITS,
            output=self.output,
            tool_breakers=resilience.tool_breakers(policies.emit, policies.clock),
            owned=self._owned(members, made, policies),
        )

    # ── the model ────────────────────────────────────────────────────────────────────────

    def _members(self, resilience: Resilience) -> list[tuple[Deployment, int]]:
        """Every deployment that is called, with its priority."""
        primary: Sequence[Deployment] = ()
        if self.llm is not None:
            primary = self._try("llm", LLM(**self.llm).made) or ()
        elif not resilience.balanced:
            remedy = "add .with_azure_openai_llm(…) or .with_llm(…)"
            self.problems.append(Problem("llm", "LLM provider is required", remedy))
        balanced = self._deployments("load_balancing", resilience.balanced)
        return resilience.ranked(primary, balanced, self._deployments("failover", resilience.fallbacks))

    def _deployments(self, field: str, given: Sequence[Any]) -> list[Deployment]:
        return [made for each in given if (made := self._try(field, partial(_deployment, field, each)))]

    def _provider(self, deployment: Deployment) -> LLMProvider | None:
        provider, settings = deployment.provider, deployment.settings
        if not isinstance(provider, str):
            return provider
        from loom_py.llm.registry import create_provider

        return self._try("llm", partial(create_provider, provider, **settings))

    def _owned(
        self,
        members: Sequence[tuple[Deployment, int]],
        providers: Sequence[LLMProvider],
        policies: Policies,
    ) -> tuple[Any, ...]:
        """What the agent closes with itself."""
        own: list[Any] = [
            provider
            for (deployment, _), provider in zip(members, providers, strict=True)
            if not deployment.shared
        ]
        own += [backend for backend, is_shared in self.backends if not is_shared]
        return (*own, *policies.owned())

    # ── tools and backends ───────────────────────────────────────────────────────────────

    def _checked_backends(self) -> tuple[Backend, ...]:
        from loom_py.backends import Backend

        good = []
        for number, (backend, _) in enumerate(self.backends, 1):
            field = "backend" if len(self.backends) == 1 else f"backend {number}"
            if isinstance(backend, type) or not isinstance(backend, Backend):
                remedy = "give an object with the Backend methods, such as SQLBackend(url)"
                self.problems.append(Problem(field, f"{_kind(backend)} is not a backend", remedy))
            elif self._try(field, partial(_pinged, backend)) is not None:
                good.append(backend)
        return tuple(good)

    def _checked_guardrails(self, resilience: Resilience) -> Guardrails | None:
        if (settings := self.guardrails) is None:
            return None
        from loom_py.guardrails import Guardrails

        emit = emitter(resilience.listeners)
        return self._try("guardrails", partial(Guardrails, **settings, emit=emit))

    def _checked_tools(
        self, backends: Sequence[Backend], guardrails: Guardrails | None
    ) -> tuple[Tool[..., Any], ...]:
        tools: list[Tool[..., Any]] = []
        for thing in self.tools:
            made = self._try("tools", partial(as_tool, thing))
            tools += [] if made is None else [made]
        for backend in backends:
            tools += self._try(f"backend {backend.name}", partial(_tools_of, backend, guardrails)) or ()
        names = [tool.name for tool in tools]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            message = f"{names.count(name)} tools are named {name!r}"
            remedy = "rename one with @tool(name=…), or give a backend a tool_prefix"
            self.problems.append(Problem("tools", message, remedy))
        return tuple(tools)

    # ── problems ─────────────────────────────────────────────────────────────────────────

    def _check_texts(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not name.strip():
            message = f"the agent's name must be text that is not empty, not {name!r}"
            self.problems.append(Problem("name", message))
        prompt: object = self.system_prompt
        if prompt is not None and not isinstance(prompt, str):
            message = f"the system prompt must be text, not {_kind(prompt)}"
            self.problems.append(Problem("system_prompt", message))

    def _try(self, field: str, make: Callable[[], _T]) -> _T | None:
        """What ``make`` gives; what it raises becomes problems."""
        try:
            return make()
        except BuilderError as exc:
            self.problems += exc.problems
        except (ConfigError, ToolDefinitionError) as exc:
            self.problems.append(Problem(exc.field or field, exc.message, exc.hint, exc))
        except LoomError as exc:
            self.problems.append(Problem(field, exc.message, exc.hint, exc))
        except Exception as exc:  # noqa: BLE001 - a plugin's own mistakes belong on the list too
            self.problems.append(Problem(field, f"{type(exc).__name__}: {exc}"))
        return None


def _discard(members: Sequence[tuple[Deployment, int]], providers: Sequence[LLMProvider | None]) -> None:
    """Close providers that were made for nothing; what the caller made stays the caller's."""
    for (deployment, _), provider in zip(members, providers, strict=True):
        if provider is not deployment.provider and (close := getattr(provider, "close", None)) is not None:
            close()


def _deployment(field: str, given: Deployment | LLMProvider | str, **more: Any) -> Deployment:
    """``given`` as a deployment; what is wrong with it is wrong with that ``field`` of the builder."""
    if isinstance(given, Deployment):
        return given
    try:
        return Deployment(given, **more)
    except ConfigError as exc:
        exc.field = field
        raise


def _pinged(backend: Backend) -> Backend:
    backend.ping()
    return backend


def _tools_of(backend: Backend, guardrails: Guardrails | None) -> Sequence[Tool[..., Any]]:
    from loom_py.backends import tools_of

    return tools_of(backend, guardrails)


def _kind(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else type(thing).__name__
