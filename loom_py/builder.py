"""`AgentBuilder`: a fluent, immutable description of an agent; `build` makes it.

Every ``with_*`` returns a new builder and only notes what was asked for, so a builder can be kept
as a base for several agents. `AgentBuilder.build` checks everything and reports every problem at
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from loom_py.agent import Agent
from loom_py.backends import Backend
from loom_py.errors import BuilderError, ConfigError, LoomError, Problem, ToolDefinitionError
from loom_py.llm.provider import LLMProvider
from loom_py.llm.registry import create_provider
from loom_py.loop import Limits
from loom_py.output import output_spec
from loom_py.resilience.breaker import BreakerConfig, CircuitBreakers
from loom_py.tools import Tool, as_tool
from loom_py.tools.tool import check_timeout

if TYPE_CHECKING:
    import httpx2

    from loom_py.llm.azure.auth import KeySource, TokenProvider
    from loom_py.llm.prices import DeploymentType, PriceSetting

__all__ = ["AgentBuilder"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _LLM:
    """How to come by the provider: an object, or a registered name with settings."""

    provider: LLMProvider | str
    settings: Mapping[str, Any]
    shared: bool = False


@dataclass(frozen=True, slots=True)
class AgentBuilder:
    """Describe an agent step by step, then `build` it::

        agent = (
            AgentBuilder()
            .with_backend(SQLBackend("sqlite:///shop.db"))
            .with_azure_openai_llm("https://myresource.openai.azure.com", "gpt-4o-deployment", "key")
            .with_circuit_breakers()
            .build()
        )

    Asking twice for the same thing replaces it; tools and backends add up.
    """

    _llm: _LLM | None = None
    _backends: tuple[tuple[Any, bool], ...] = ()
    _tools: tuple[Any, ...] = ()
    _system_prompt: str | None = None
    _output: Any = None
    _name: str = "agent"
    _limits: Mapping[str, Any] | None = None
    _tool_timeout: float | None = None
    _breakers: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        parts = [f"name={self._name!r}", f"llm={'set' if self._llm else 'missing'}"]
        parts += [f"backends={len(self._backends)}", f"tools={len(self._tools)}"]
        return f"AgentBuilder({', '.join(parts)})"

    # ── the model ────────────────────────────────────────────────────────────────────────

    def with_azure_openai_llm(
        self,
        endpoint: str | None = None,
        deployment_id: str | None = None,
        api_key: str | KeySource | None = None,
        *,
        api_version: str | None = None,
        model_name: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        deployment_type: DeploymentType | None = None,
        genai_prices: bool | None = None,
        surface: Literal["auto", "chat", "responses"] | None = None,
        api: Literal["auto", "classic", "v1"] | None = None,
        http_client: httpx2.Client | None = None,
        async_http_client: httpx2.AsyncClient | None = None,
        wire_debug: bool | Callable[[str], object] = False,
    ) -> AgentBuilder:
        """An Azure OpenAI deployment, by API key. Settings as for `AzureOpenAIClient`.

        What is left out is read from the environment (``AZURE_OPENAI_ENDPOINT``,
        ``AZURE_OPENAI_DEPLOYMENT``, ``AZURE_OPENAI_API_KEY``, …) when the agent is built.
        """
        return self._with_azure(
            endpoint=endpoint,
            deployment_id=deployment_id,
            api_key=api_key,
            api_version=api_version,
            model_name=model_name,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout=timeout,
            prices=prices,
            deployment_type=deployment_type,
            genai_prices=genai_prices,
            surface=surface,
            api=api,
            http_client=http_client,
            async_http_client=async_http_client,
            wire_debug=wire_debug,
        )

    def with_azure_openai_entra_auth(
        self,
        endpoint: str | None = None,
        deployment_id: str | None = None,
        credential: str | TokenProvider | Any = None,
        *,
        api_version: str | None = None,
        model_name: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        token_scope: str | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        deployment_type: DeploymentType | None = None,
        genai_prices: bool | None = None,
        surface: Literal["auto", "chat", "responses"] | None = None,
        api: Literal["auto", "classic", "v1"] | None = None,
        http_client: httpx2.Client | None = None,
        async_http_client: httpx2.AsyncClient | None = None,
        wire_debug: bool | Callable[[str], object] = False,
    ) -> AgentBuilder:
        """An Azure OpenAI deployment, by Microsoft Entra ID.

        ``credential`` is an azure-identity credential (sync or async), a function that returns a token,
        ``"default"`` for azure-identity's ``DefaultAzureCredential``, or a token. A token lives about
        an hour; the others are refreshed.
        """
        is_token = credential is None or (isinstance(credential, str) and credential != "default")
        kind = "entra_token" if is_token else "credential"
        return self._with_azure(
            endpoint=endpoint,
            deployment_id=deployment_id,
            **{kind: credential},
            api_version=api_version,
            model_name=model_name,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout=timeout,
            token_scope=token_scope,
            prices=prices,
            deployment_type=deployment_type,
            genai_prices=genai_prices,
            surface=surface,
            api=api,
            http_client=http_client,
            async_http_client=async_http_client,
            wire_debug=wire_debug,
        )

    def _with_azure(self, **settings: Any) -> AgentBuilder:
        given = {key: value for key, value in settings.items() if value is not None}
        return replace(self, _llm=_LLM("azure-openai", given))

    def with_llm(
        self, provider: LLMProvider | str, /, *, shared: bool = False, **settings: Any
    ) -> AgentBuilder:
        """Any provider: an object, or the name of an installed one with its settings.

        ``"name:model"`` passes the model along. A ``shared`` object is not closed with the agent.
        """
        return replace(self, _llm=_LLM(provider, settings, shared))

    # ── tools and backends ───────────────────────────────────────────────────────────────

    def with_backend(self, backend: Backend, *, shared: bool = False) -> AgentBuilder:
        """A data source; its tools appear on the agent by themselves.

        It is pinged when the agent is built. A ``shared`` one is not closed with the agent.
        """
        return replace(self, _backends=(*self._backends, (backend, shared)))

    def with_tools(self, *tools: Tool[..., Any] | Callable[..., Any]) -> AgentBuilder:
        """Functions the model may call: made with ``@tool``, or plain annotated ones."""
        return replace(self, _tools=(*self._tools, *tools))

    # ── the agent ────────────────────────────────────────────────────────────────────────

    def with_system_prompt(self, prompt: str) -> AgentBuilder:
        """Instructions that stand above every conversation."""
        return replace(self, _system_prompt=prompt)

    def with_name(self, name: str) -> AgentBuilder:
        """The agent's name in logs and in its ``repr``."""
        return replace(self, _name=name)

    def with_output(self, output: Any) -> AgentBuilder:
        """The type every answer must fit: a pydantic model, dataclass, TypedDict, union or list.

        ``response.output`` is then its value. ``output=`` of a chat takes another for that chat.
        """
        return replace(self, _output=output)

    def with_limits(
        self,
        *,
        max_turns: int | None = None,
        max_tool_executions: int | None = None,
        max_tool_calls_per_reply: int | None = None,
        on_limit: Literal["answer", "raise"] | None = None,
        max_output_corrections: int | None = None,
        tool_timeout: float | None = None,
    ) -> AgentBuilder:
        """How far one chat may go; see `Limits` for the defaults.

        ``tool_timeout`` is in seconds, for every tool that has none of its own.
        """
        limits = {
            "max_turns": max_turns,
            "max_tool_executions": max_tool_executions,
            "max_tool_calls_per_reply": max_tool_calls_per_reply,
            "on_limit": on_limit,
            "max_output_corrections": max_output_corrections,
        }
        given = {key: value for key, value in limits.items() if value is not None}
        timeout = self._tool_timeout if tool_timeout is None else tool_timeout
        return replace(self, _limits={**(self._limits or {}), **given}, _tool_timeout=timeout)

    def with_circuit_breakers(
        self,
        *,
        failure_threshold: int = 5,
        success_threshold: int = 2,
        open_seconds: float = 30.0,
        max_open_seconds: float = 60.0,
    ) -> AgentBuilder:
        """A circuit breaker on the deployment and one on each tool; see `BreakerConfig`.

        A tool whose breaker is open is not offered to the model until it may be tried again.
        """
        settings = {
            "failure_threshold": failure_threshold,
            "success_threshold": success_threshold,
            "open_seconds": open_seconds,
            "max_open_seconds": max_open_seconds,
        }
        return replace(self, _breakers=settings)

    # ── building ─────────────────────────────────────────────────────────────────────────

    def build(self) -> Agent:
        """The agent. Raises one `BuilderError` that lists everything that is wrong."""
        problems: list[Problem] = []
        provider = self._provider(problems)
        backends = self._checked_backends(problems)
        tools = self._checked_tools(backends, problems)
        if self._output is not None:
            _try(problems, "output", lambda: output_spec(self._output))
        _check_each(problems, "limits", Limits, self._limits or {})
        _check_each(problems, "circuit_breakers", BreakerConfig, self._breakers or {})
        problems += self._plain_problems()
        if problems or provider is None:
            self._discard(provider)
            raise BuilderError(problems)
        breakers = None if self._breakers is None else BreakerConfig(**self._breakers)
        return Agent(
            provider,
            tools=tools,
            backends=backends,
            system_prompt=self._system_prompt,
            name=self._name,
            limits=Limits(**(self._limits or {})),
            output=self._output,
            tool_timeout=self._tool_timeout,
            model_breakers=None if breakers is None else CircuitBreakers("deployment", breakers),
            tool_breakers=None if breakers is None else CircuitBreakers("tool", breakers),
            owned=self._owned(provider),
        )

    def _discard(self, provider: LLMProvider | None) -> None:
        """Close a provider that was made for nothing; what the caller made stays the caller's."""
        if self._llm is not None and provider is not self._llm.provider:
            close = getattr(provider, "close", None)
            if close is not None:
                close()

    def _owned(self, provider: LLMProvider) -> tuple[Any, ...]:
        """What the agent closes with itself."""
        shared = self._llm is not None and self._llm.shared
        own = [] if shared else [provider]
        return (*own, *(backend for backend, is_shared in self._backends if not is_shared))

    def _provider(self, problems: list[Problem]) -> LLMProvider | None:
        llm = self._llm
        if llm is None:
            remedy = "add .with_azure_openai_llm(…) or .with_llm(…)"
            problems.append(Problem("llm", "LLM provider is required", remedy))
            return None
        if isinstance(llm.provider, str):
            name, settings = llm.provider, llm.settings
            return _try(problems, "llm", lambda: create_provider(name, **settings))
        if llm.settings:
            unused = ", ".join(llm.settings)
            problems.append(
                Problem("llm", f"settings ({unused}) go with a provider's name, not with a provider object")
            )
        if isinstance(llm.provider, type) or not isinstance(llm.provider, LLMProvider):
            kind = _kind(llm.provider)
            remedy = "give an LLMProvider, or the name of an installed one"
            problems.append(Problem("llm", f"{kind} is not an LLM provider", remedy))
            return None
        return llm.provider

    def _checked_backends(self, problems: list[Problem]) -> tuple[Backend, ...]:
        good = []
        for number, (backend, _) in enumerate(self._backends, 1):
            field = "backend" if len(self._backends) == 1 else f"backend {number}"
            if isinstance(backend, type) or not isinstance(backend, Backend):
                remedy = "give an object with the Backend methods, such as SQLBackend(url)"
                problems.append(Problem(field, f"{_kind(backend)} is not a backend", remedy))
            elif _try(problems, field, partial(_pinged, backend)) is not None:
                good.append(backend)
        return tuple(good)

    def _checked_tools(
        self, backends: tuple[Backend, ...], problems: list[Problem]
    ) -> tuple[Tool[..., Any], ...]:
        tools: list[Tool[..., Any]] = []
        for thing in self._tools:
            made = _try(problems, "tools", partial(as_tool, thing))
            tools += [] if made is None else [made]
        for backend in backends:
            tools += _try(problems, f"backend {backend.name}", backend.tools) or ()
        names = [tool.name for tool in tools]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            message = f"{names.count(name)} tools are named {name!r}"
            remedy = "rename one with @tool(name=…), or give a backend a tool_prefix"
            problems.append(Problem("tools", message, remedy))
        return tuple(tools)

    def _plain_problems(self) -> list[Problem]:
        problems = []
        name: object = self._name
        if not isinstance(name, str) or not name.strip():
            problems.append(Problem("name", f"the agent's name must be text that is not empty, not {name!r}"))
        prompt: object = self._system_prompt
        if prompt is not None and not isinstance(prompt, str):
            problems.append(Problem("system_prompt", f"the system prompt must be text, not {_kind(prompt)}"))
        _try(problems, "tool_timeout", partial(check_timeout, self._tool_timeout, "tool_timeout"))
        return problems


def _pinged(backend: Backend) -> Backend:
    backend.ping()
    return backend


def _kind(thing: object) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else type(thing).__name__


def _check_each(
    problems: list[Problem], field: str, make: Callable[..., object], settings: Mapping[str, Any]
) -> None:
    """Try every setting by itself, so that each wrong one is reported."""
    for name, value in settings.items():
        _try(problems, field, partial(make, **{name: value}))


def _try(problems: list[Problem], field: str, make: Callable[[], _T]) -> _T | None:
    """What ``make`` gives; what it raises becomes problems."""
    try:
        return make()
    except BuilderError as exc:
        problems += exc.problems
    except (ConfigError, ToolDefinitionError) as exc:
        problems.append(Problem(exc.field or field, exc.message, exc.hint, exc))
    except LoomError as exc:
        problems.append(Problem(field, exc.message, exc.hint, exc))
    except Exception as exc:  # noqa: BLE001 - a plugin's own mistakes belong on the list too
        problems.append(Problem(field, f"{type(exc).__name__}: {exc}"))
    return None
