"""The sections of a file: which method of the builder each stands for, and its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic.fields import FieldInfo

from loom_py.agent_file.fields import MISSING, Field, fields_of
from loom_py.guardrails import Guardrails
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.llm.prices import ModelPrice
from loom_py.loop import Limits
from loom_py.resilience.breaker import BreakerConfig
from loom_py.resilience.budget import BudgetConfig
from loom_py.resilience.deployment import Deployment
from loom_py.resilience.limiter import RateLimitConfig
from loom_py.resilience.pool import Strategy
from loom_py.resilience.retry import RetryConfig
from loom_py.resilience.shared import SharedState
from loom_py.resilience.timeouts import Timeouts

__all__ = [
    "AZURE",
    "DEPLOYMENTS",
    "SECTIONS",
    "SQL_FORMS",
    "TOP_LEVEL",
    "Section",
    "azure_fields",
    "deployment_fields",
    "price_fields",
    "section",
]

AZURE = "azure-openai"
DEPLOYMENTS = "deployments"

_MONEY = int | float | str
_NOT_SETTINGS = ("emit", "clock", "server_time")


SQL_FORMS: dict[str, Any] = {
    "url": str,
    "include_tables": list[str] | None,
    "exclude_tables": list[str] | None,
}
"""How the settings of an SQL backend are written whose types a file cannot hold."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section: its ``name``, the builder's ``method`` it stands for, and its ``fields``.

    ``is_active`` sections hold for every agent, with their defaults where the file has none.
    """

    name: str
    method: str
    fields: Mapping[str, Field]
    is_active: bool = False


def _extra(section: str, name: str, kind: Any, default: Any, **more: Any) -> dict[str, Field]:
    return {name: Field(name, kind, default, section, **more)}


def _retries() -> dict[str, Field]:
    fields = fields_of(RetryConfig, "retries", wait="import")
    return fields | _extra("retries", "restart_streams", bool, False)


def _pool(section: str, deployments: Any) -> dict[str, Field]:
    strategy = _extra(section, "strategy", Strategy, "least-loaded") if section == "load_balancing" else {}
    return {
        **_extra(section, DEPLOYMENTS, list[Any], deployments, form="mapping"),
        **strategy,
        **_extra(section, "sticky", bool, True),
    }


def _budget() -> dict[str, Field]:
    fields = fields_of(BudgetConfig, "budget", usd=_MONEY | None, ledger=str | None, approve="import")
    return fields | _extra("budget", "assumed_price", dict[str, Any] | None, None, form="mapping")


def _guardrails() -> dict[str, Field]:
    fields = fields_of(Guardrails, "guardrails", only=("max_corrections", "check_names"))
    return _extra("guardrails", "validators", list[str], (), form="import") | fields


_MAKERS: dict[str, tuple[str, Callable[[], dict[str, Field]]]] = {
    "limits": ("with_limits", lambda: fields_of(Limits, "limits")),
    "resilience.retries": ("with_retries", _retries),
    "resilience.circuit_breakers": (
        "with_circuit_breakers",
        lambda: fields_of(BreakerConfig, "circuit_breakers"),
    ),
    "resilience.rate_limit": ("with_rate_limit", lambda: fields_of(RateLimitConfig, "rate_limit")),
    "resilience.failover": ("with_failover", lambda: _pool("failover", MISSING)),
    "resilience.load_balancing": ("with_load_balancing", lambda: _pool("load_balancing", ())),
    "resilience.hedging": (
        "with_hedging",
        lambda: _extra("hedging", "after_seconds", float, MISSING),
    ),
    "resilience.timeouts": ("with_timeouts", lambda: fields_of(Timeouts, "timeouts")),
    "resilience.shared_state": (
        "with_shared_state",
        lambda: fields_of(SharedState, "shared_state", without=_NOT_SETTINGS),
    ),
    "budget": ("with_budget", _budget),
    "guardrails": ("with_guardrails", _guardrails),
}

SECTIONS = tuple(_MAKERS)
"""The sections' places in a file."""

TOP_LEVEL = (
    "kind",
    "name",
    "llm",
    "backend",
    "backends",
    "tools",
    "system_prompt",
    "output",
    "limits",
    "resilience",
    "budget",
    "guardrails",
    "listeners",
)


@cache
def section(place: str) -> Section:
    """The section in this place of a file, such as ``resilience.retries``."""
    method, fields = _MAKERS[place]
    return Section(place, method, fields(), is_active=place in ("limits", "resilience.retries"))


@cache
def azure_fields() -> Mapping[str, Field]:
    """The settings of an Azure OpenAI deployment: those of `AzureOpenAIConfig`, and the credential."""
    fields = {
        name: _azure_field(name, info)
        for name, info in AzureOpenAIConfig.model_fields.items()
        if name != "sources"
    }
    fields |= _extra("azure", "credential", str, None, form="import")
    return fields | _extra("azure", "wire_debug", bool, False)


def _azure_field(name: str, info: FieldInfo) -> Field:
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    if name == "prices":
        return Field(name, dict[str, Any], default, "azure", "mapping")
    is_secret = name in ("api_key", "entra_token")
    kind: Any = str | None if is_secret else info.annotation
    return Field(name, kind, default, "azure")


@cache
def deployment_fields() -> Mapping[str, Field]:
    """What a pool is to know of a deployment, without the settings of its provider."""
    fields = fields_of(
        Deployment, "deployment", without=("shared", "settings", "provider"), residency=str | list[str] | None
    )
    provider = _extra("deployment", "provider", str, AZURE)
    return provider | fields | _extra("deployment", "settings", dict[str, Any], None, form="mapping")


@cache
def price_fields() -> Mapping[str, Field]:
    """The fields of a `ModelPrice`, in USD per 1 million tokens."""
    money: dict[str, Any] = dict.fromkeys(
        (
            "cached_input",
            "cache_write",
            "above_input",
            "above_output",
            "above_cached_input",
            "above_cache_write",
        ),
        _MONEY | None,
    )
    return fields_of(ModelPrice, "price", input=_MONEY, output=_MONEY, **money)
