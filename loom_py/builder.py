"""`AgentBuilder`: a fluent, immutable description of an agent; `build` makes it.

Every ``with_*`` returns a new builder and only notes what was asked for, so a builder can be kept
as a base for several agents. `AgentBuilder.build` checks everything and reports every problem at
once. Describing an agent imports next to nothing; what it needs is imported when it is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    import httpx2
    from tenacity.wait import wait_base

    from loom_py.agent import Agent
    from loom_py.agent_file import Keys
    from loom_py.backends import Backend
    from loom_py.clock import Clock
    from loom_py.guardrails import Validate, Validator
    from loom_py.llm.azure.auth import KeySource, TokenProvider
    from loom_py.llm.prices import DeploymentType, ModelPrice, PriceSetting
    from loom_py.llm.provider import LLMProvider
    from loom_py.resilience.budget import BudgetAlert
    from loom_py.resilience.deployment import Deployment
    from loom_py.resilience.events import Listener
    from loom_py.resilience.pool import Strategy
    from loom_py.resilience.spending import SpendingLedger
    from loom_py.tools import Tool

__all__ = ["AgentBuilder"]


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

    _llm: Mapping[str, Any] | None = None
    _backends: tuple[tuple[Any, bool], ...] = ()
    _tools: tuple[Any, ...] = ()
    _system_prompt: str | None = None
    _output: Any = None
    _name: str = "agent"
    _limits: Mapping[str, Any] = field(default_factory=dict)
    _resilience: Mapping[str, Any] = field(default_factory=dict)
    _guardrails: Mapping[str, Any] | None = None

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
        fast: bool | None = None,
        wire_debug: bool | Callable[[str], object] = False,
        deployments: Sequence[Deployment] = (),
    ) -> AgentBuilder:
        """An Azure OpenAI deployment, by API key. Settings as for `AzureOpenAIClient`.

        What is left out is read from the environment (``AZURE_OPENAI_ENDPOINT``,
        ``AZURE_OPENAI_DEPLOYMENT``, ``AZURE_OPENAI_API_KEY``, …) when the agent is built.

        ``deployments`` makes it a pool of several, each `Deployment.azure` with what it has of its own;
        the other settings are those they share. They are tried in order, unless `with_load_balancing`
        says otherwise.
        """
        return self._with_azure(
            deployments,
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
            fast=fast,
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
        fast: bool | None = None,
        wire_debug: bool | Callable[[str], object] = False,
        deployments: Sequence[Deployment] = (),
    ) -> AgentBuilder:
        """An Azure OpenAI deployment, by Microsoft Entra ID.

        ``credential`` is an azure-identity credential (sync or async), a function that returns a token,
        ``"default"`` for azure-identity's ``DefaultAzureCredential``, or a token. A token lives about
        an hour; the others are refreshed. ``deployments`` as for `with_azure_openai_llm`.
        """
        is_token = credential is None or (isinstance(credential, str) and credential != "default")
        kind = "entra_token" if is_token else "credential"
        return self._with_azure(
            deployments,
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
            fast=fast,
            wire_debug=wire_debug,
        )

    def _with_azure(self, deployments: Sequence[Deployment], **settings: Any) -> AgentBuilder:
        given = {key: value for key, value in settings.items() if value is not None}
        llm = {"provider": "azure-openai", "settings": given, "deployments": tuple(deployments)}
        return replace(self, _llm=llm)

    def with_openai_llm(
        self,
        api_key: str | KeySource | None = None,
        model: str | None = None,
        *,
        base_url: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        service_tier: Literal["auto", "default", "flex", "priority", "scale"] | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        genai_prices: bool | None = None,
        surface: Literal["auto", "chat", "responses"] | None = None,
        http_client: httpx2.Client | None = None,
        async_http_client: httpx2.AsyncClient | None = None,
        fast: bool | None = None,
        wire_debug: bool | Callable[[str], object] | None = None,
    ) -> AgentBuilder:
        """A model of OpenAI's own API, by API key. Settings as for `OpenAIClient`.

        What is left out is read from the environment (``OPENAI_API_KEY``, ``OPENAI_BASE_URL``, …).
        """
        return self._with_provider(
            "openai",
            api_key=api_key,
            model=model,
            base_url=base_url,
            organization=organization,
            project=project,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout=timeout,
            service_tier=service_tier,
            prices=prices,
            genai_prices=genai_prices,
            surface=surface,
            http_client=http_client,
            async_http_client=async_http_client,
            fast=fast,
            wire_debug=wire_debug,
        )

    def with_openai_compatible_llm(
        self,
        base_url: str | None = None,
        model: str | None = None,
        api_key: str | KeySource | None = None,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        **settings: Any,
    ) -> AgentBuilder:
        """A model behind any server with OpenAI's ``/v1`` API (package ``loom-openai-compatible``)."""
        return self._with_provider(
            "openai-compatible",
            base_url=base_url,
            model=model,
            api_key=api_key,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout=timeout,
            prices=prices,
            **settings,
        )

    def with_anthropic_llm(
        self,
        api_key: str | None = None,
        model: str | None = None,
        *,
        base_url: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        **settings: Any,
    ) -> AgentBuilder:
        """A Claude model of Anthropic's own API (package ``loom-anthropic``)."""
        return self._with_provider(
            "anthropic",
            api_key=api_key,
            model=model,
            base_url=base_url,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout=timeout,
            prices=prices,
            **settings,
        )

    def with_bedrock_llm(
        self,
        region: str | None = None,
        model: str | None = None,
        *,
        profile: str | None = None,
        endpoint_url: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        **settings: Any,
    ) -> AgentBuilder:
        """A model on AWS Bedrock, by IAM (package ``loom-bedrock``).

        Credentials come from AWS's usual chain; ``profile`` names one of its configuration.
        """
        return self._with_provider(
            "bedrock",
            region=region,
            model=model,
            profile=profile,
            endpoint_url=endpoint_url,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout=timeout,
            prices=prices,
            **settings,
        )

    def with_ollama_llm(
        self,
        model: str | None = None,
        *,
        host: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float | None = None,
        prices: Mapping[str, PriceSetting] | None = None,
        **settings: Any,
    ) -> AgentBuilder:
        """A model that Ollama serves (package ``loom-ollama``)."""
        return self._with_provider(
            "ollama",
            model=model,
            host=host,
            max_tokens=max_tokens,
            temperature=temperature,
            timeout=timeout,
            prices=prices,
            **settings,
        )

    def _with_provider(self, name: str, **settings: Any) -> AgentBuilder:
        """The installed provider ``name``, with the settings that were given."""
        return self.with_llm(name, **{key: value for key, value in settings.items() if value is not None})

    def with_llm(
        self, provider: LLMProvider | str, /, *, shared: bool = False, **settings: Any
    ) -> AgentBuilder:
        """Any provider: an object, or the name of an installed one with its settings.

        ``"name:model"`` passes the model along. A ``shared`` object is not closed with the agent.
        """
        return replace(self, _llm={"provider": provider, "settings": settings, "shared": shared})

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
    ) -> AgentBuilder:
        """How far one chat may go; see `Limits` for the defaults. For seconds see `with_timeouts`."""
        limits = {
            "max_turns": max_turns,
            "max_tool_executions": max_tool_executions,
            "max_tool_calls_per_reply": max_tool_calls_per_reply,
            "on_limit": on_limit,
            "max_output_corrections": max_output_corrections,
        }
        given = {key: value for key, value in limits.items() if value is not None}
        return replace(self, _limits={**self._limits, **given})

    # ── failures, quotas and money ───────────────────────────────────────────────────────

    def with_retries(
        self,
        *,
        max_attempts: int = 5,
        initial_seconds: float = 1.0,
        multiplier: float = 2.0,
        max_seconds: float = 32.0,
        jitter_seconds: float = 1.0,
        max_wait_seconds: float = 60.0,
        budget_ratio: float = 0.2,
        budget_minimum: int = 10,
        wait: wait_base | None = None,
        restart_streams: bool = False,
    ) -> AgentBuilder:
        """How failed model calls are tried again; see `RetryConfig`. On by default, with these values.

        ``max_attempts=1`` switches retries off. A stream that broke off after something was shown begins
        anew only with ``restart_streams``; a `StreamRestarted` event then says what to forget.
        """
        settings = {
            "max_attempts": max_attempts,
            "initial_seconds": initial_seconds,
            "multiplier": multiplier,
            "max_seconds": max_seconds,
            "jitter_seconds": jitter_seconds,
            "max_wait_seconds": max_wait_seconds,
            "budget_ratio": budget_ratio,
            "budget_minimum": budget_minimum,
            "wait": wait,
        }
        return self._with(retries=settings, restart_streams=restart_streams)

    def with_circuit_breakers(
        self,
        *,
        failure_threshold: int = 5,
        success_threshold: int = 2,
        open_seconds: float = 30.0,
        max_open_seconds: float = 60.0,
        failure_rate: float | None = 0.5,
        window_seconds: float = 60.0,
        minimum_calls: int = 20,
        half_open_probes: int = 1,
    ) -> AgentBuilder:
        """A circuit breaker on each deployment and one on each tool; see `BreakerConfig`.

        A tool whose breaker is open is not offered to the model until it may be tried again, and the
        model is told. The deployments of a pool have breakers in any case.
        """
        settings = {
            "failure_threshold": failure_threshold,
            "success_threshold": success_threshold,
            "open_seconds": open_seconds,
            "max_open_seconds": max_open_seconds,
            "failure_rate": failure_rate,
            "window_seconds": window_seconds,
            "minimum_calls": minimum_calls,
            "half_open_probes": half_open_probes,
        }
        return self._with(breakers=settings)

    def with_rate_limit(
        self,
        *,
        tokens_per_minute: int | None = None,
        requests_per_minute: int | None = None,
        max_queue: int = 1000,
        queue_timeout: float | None = 300.0,
        warn_at: float = 0.8,
        exact_tokens: bool = False,
    ) -> AgentBuilder:
        """The quota of each deployment: calls wait in line rather than run into a 429.

        All agents of the process that call a deployment share its limit. See `RateLimitConfig`.
        """
        settings = {
            "tokens_per_minute": tokens_per_minute,
            "requests_per_minute": requests_per_minute,
            "max_queue": max_queue,
            "queue_timeout": queue_timeout,
            "warn_at": warn_at,
            "exact_tokens": exact_tokens,
        }
        return self._with(rate_limit=settings)

    def with_failover(
        self, deployments: Sequence[Deployment | LLMProvider | str], *, sticky: bool = True
    ) -> AgentBuilder:
        """Deployments to go to, in this order, when those before them cannot be called.

        Each is a `Deployment`, a provider, or the name of one (``"bedrock:claude"``). ``sticky`` keeps a
        session where it was answered last, for the sake of prompt caching.
        """
        return self._with(fallbacks=_listed(deployments), sticky=sticky)

    def with_load_balancing(
        self,
        deployments: Sequence[Deployment | LLMProvider | str] = (),
        *,
        strategy: Strategy = "least-loaded",
        sticky: bool = True,
    ) -> AgentBuilder:
        """Spread the calls over these deployments and those of ``with_…_llm``.

        ``strategy`` is ``"round-robin"``, ``"weighted"``, ``"least-loaded"`` (by the quota that is left),
        ``"lowest-latency"`` or ``"priority"``. Deployments with a greater `Deployment.priority` number, and
        those of `with_failover`, are only used while none with a lower one can be.
        """
        return self._with(balanced=_listed(deployments), strategy=strategy, sticky=sticky)

    def with_hedging(self, *, after_seconds: float) -> AgentBuilder:
        """Ask a second deployment of the pool as well where the first is silent for so long.

        The first to show something is taken, the other is hung up on. Both may be billed.
        """
        return self._with(hedge_after=after_seconds)

    def with_budget(
        self,
        *,
        usd: Decimal | str | float | None = None,
        tokens: int | None = None,
        per: Literal["chat", "session", "agent", "day"] = "chat",
        soft: float = 0.8,
        on_unknown_price: Literal["refuse", "warn", "assume"] = "refuse",
        assumed_price: ModelPrice | None = None,
        approve: Callable[[BudgetAlert], Any] | None = None,
        ledger: SpendingLedger | str | Path | None = None,
    ) -> AgentBuilder:
        """What may be spent; a call that could exceed it is not sent. See `BudgetConfig`.

        Budgets of different ``per`` hold together; asking again for the same one replaces it.
        """
        settings = {
            "usd": usd,
            "tokens": tokens,
            "per": per,
            "soft": soft,
            "on_unknown_price": on_unknown_price,
            "assumed_price": assumed_price,
            "approve": approve,
            "ledger": ledger,
        }
        others = (each for each in self._resilience.get("budgets", ()) if each["per"] != per)
        return self._with(budgets=(*others, settings))

    def with_guardrails(
        self, *validators: Validator | Validate, max_corrections: int = 3, check_names: bool = True
    ) -> AgentBuilder:
        """Check every query of the backends before it runs, and help the model to correct what fails.

        ``validators`` are checks of your own; after ``max_corrections`` failures in a row nothing more is run
        in that chat. See `Guardrails`.
        """
        settings = {
            "validators": validators,
            "max_corrections": max_corrections,
            "check_names": check_names,
        }
        return replace(self, _guardrails=settings)

    def with_timeouts(
        self,
        *,
        connect: float | None = None,
        read: float | None = None,
        total: float | None = None,
        tool: float | None = None,
        run: float | None = None,
    ) -> AgentBuilder:
        """How long things may take, in seconds; see `Timeouts`. Asking again adds to what was asked."""
        settings = {"connect": connect, "read": read, "total": total, "tool": tool, "run": run}
        given = {key: value for key, value in settings.items() if value is not None}
        return self._with(timeouts={**self._resilience.get("timeouts", {}), **given})

    def with_shared_state(self, url: str, *, prefix: str = "loom_py", **settings: Any) -> AgentBuilder:
        """Share breakers, throttling, rate limits and budgets with other processes through Redis.

        Needs the extra ``redis``. See `SharedState` for further settings.
        """
        return self._with(shared={"url": url, "prefix": prefix, **settings})

    def with_listener(self, listener: Listener) -> AgentBuilder:
        """A function that is told what the policies decide, each a typed `PolicyEvent`. Listeners add up."""
        return self._with(listeners=(*self._resilience.get("listeners", ()), listener))

    def with_clock(self, clock: Clock) -> AgentBuilder:
        """What the policies wait on; a `VirtualClock` in tests."""
        return self._with(clock=clock)

    def _with(self, **changes: Any) -> AgentBuilder:
        """The settings of `Resilience`, with ``changes``."""
        return replace(self, _resilience={**self._resilience, **changes})

    # ── building ─────────────────────────────────────────────────────────────────────────

    @classmethod
    def from_yaml(
        cls,
        path: str | Path,
        *,
        keys: Keys | None = None,
        env: Mapping[str, str] | None = None,
        flags: Mapping[str, Any] | None = None,
    ) -> AgentBuilder:
        """The builder of the agent that a YAML file of ``kind: Agent`` describes; needs the extra ``yaml``.

        ``keys`` is asked last for the API key of a provider, ``env`` is the environment, ``os.environ`` by
        default, and ``flags`` are settings that come before all others: ``{"llm.temperature": 0}``.

        Raises one `BuilderError` that lists everything that is wrong with the file, with line and column.
        Modules that the file names are imported. See `loom_py.agent_file`.
        """
        from loom_py.agent_file import load

        return load(path, keys=keys, env=env, flags=flags).apply(cls())

    def build(self) -> Agent:
        """The agent. Raises one `BuilderError` that lists everything that is wrong."""
        from loom_py.assembly import Assembly

        return Assembly(
            name=self._name,
            llm=self._llm,
            backends=self._backends,
            tools=self._tools,
            system_prompt=self._system_prompt,
            output=self._output,
            limits=self._limits,
            resilience=self._resilience,
            guardrails=self._guardrails,
        ).agent()


def _listed(deployments: Any) -> tuple[Any, ...]:
    """What was given as a list; what is none is a list of one, and found wrong when the agent is built."""
    is_list = isinstance(deployments, Iterable) and not isinstance(deployments, str)
    return tuple(deployments) if is_list else (deployments,)
