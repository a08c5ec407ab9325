"""The model of an agent and its deployments: whose settings they are, and which of several sources wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from loom_py.agent_file.context import Context, below
from loom_py.agent_file.fields import Field
from loom_py.agent_file.file import Step
from loom_py.agent_file.imports import imported
from loom_py.agent_file.nodes import FAILED, FLAG, Node
from loom_py.agent_file.providers import config_of, environment_of, setting_names
from loom_py.agent_file.sections import AZURE, DEPLOYMENTS, azure_fields, deployment_fields
from loom_py.errors import BuilderError, ConfigError, LoomError, Problem
from loom_py.llm.azure.config import AzureOpenAIConfig
from loom_py.resilience.deployment import Deployment

__all__ = ["deployments_of", "llm_step"]

CREDENTIALS = ("api_key", "entra_token", "credential")
_ITS_OWN = {"endpoint": "endpoints", "deployment_id": "names"}
"""What makes a deployment that one, and what the members of a pool have of it."""
_AZURE_NAMES = {"deployment": "deployment_id", "model": "deployment_id"}


def llm_step(ctx: Context, node: Node) -> Callable[[], Step] | None:
    """The step that sets the model; ``None`` where something is wrong, which is reported."""
    if isinstance(node.value, str):
        spec = replace(node, path=node.child("provider"))
        node = replace(node, value={"provider": spec}, variables=(), is_filled=False)
    if not isinstance(node.value, Mapping):
        if not node.holds_broken():
            ctx.problems.add(node, f"llm must be text or a mapping, not {node.kind}")
        return None
    if "script" in node.entries:
        return _scripted(ctx, node)
    found = _spec(ctx, node, required=True)
    if found is None:
        return None
    name, node = found
    node = _settled(ctx, name, node, environment_wins=True)
    if name == AZURE:
        return _azure_step(ctx, node)
    settings = _settings(ctx, name, node)
    return lambda: Step("with_llm", (name,), settings)


def deployments_of(ctx: Context, node: Node, *, shared: Node | None = None) -> list[Any]:
    """The deployments in a list. ``shared`` is the mapping of the settings they have in common."""
    if not isinstance(node.value, tuple):
        if not node.is_broken:
            ctx.problems.add(node, f"deployments must be a list, not {node.kind}")
        return []
    return [_deployment(ctx, each, shared) for each in node.items]


# ── which provider ───────────────────────────────────────────────────────────────────────


def _spec(ctx: Context, node: Node, *, required: bool) -> tuple[str, Node] | None:
    """The provider's name, and ``node`` with a model of ``name:model`` as an entry of its own."""
    given = node.entries.get("provider")
    if given is None:
        if required:
            hint = "Add provider: azure-openai, or the name of an installed provider."
            ctx.problems.add(node, "llm names no provider", hint)
            return None
        given = Node(AZURE, node.line, node.column, node.child("provider"))
    if given.is_broken:
        return None
    if not isinstance(given.value, str) or not given.value.strip():
        kind = "empty text" if isinstance(given.value, str) else given.kind
        ctx.problems.add(given, f"provider must be text, not {kind}", "Write name or name:model.")
        return None
    name, colon, model = given.value.partition(":")
    name = name.strip().lower().replace("_", "-")
    if not name or (colon and not model.strip()):
        missing = "model after the colon" if name else "provider before the colon"
        ctx.problems.add(given, f"no {missing}", "Write name or name:model.")
        return None
    if not _is_known(ctx, name, given):
        return None
    if "provider" in node.entries:
        ctx.record(given, name, name=given.path)
    entries = {key: each for key, each in node.entries.items() if key != "provider"}
    if colon:
        after_colon = replace(given, value=model.strip(), path=node.child("model"))
        old = entries.get("model")
        kept = after_colon if old is None else _flagged(old, after_colon)
        if kept is None:
            ctx.problems.add(entries["model"], "the model is given twice, here and in provider", at_key=True)
        entries["model"] = kept or after_colon
    return name, replace(node, value=entries)


def _is_known(ctx: Context, name: str, node: Node) -> bool:
    if name == AZURE:
        return True
    from loom_py.llm.registry import load_provider

    try:
        load_provider(name)
    except LoomError as exc:
        ctx.problems.add_error(node, exc)
        return False
    return True


# ── which source wins ────────────────────────────────────────────────────────────────────


def _settled(ctx: Context, name: str, node: Node, *, environment_wins: bool) -> Node:
    """``node`` with what the environment and the keyring give.

    The environment comes before what the file says where ``environment_wins``; in a pool, where it
    would make all deployments one, it only fills in what the file leaves out. Flags stay.
    """
    entries = _by_own_names(ctx, name, node)
    kind = next((each for each in CREDENTIALS if _is_given(entries.get(each))), None)
    for setting, variables in environment_of(name).items():
        old = entries.get(setting)
        if setting in CREDENTIALS and kind not in (None, setting):
            continue
        if _is_given(old) and (not environment_wins or (old is not None and old.source == FLAG)):
            continue
        if (found := ctx.from_environment(node, setting, variables)) is not None:
            entries[setting] = found
            kind = setting if setting in CREDENTIALS else kind
    if kind is None and (key := _kept_key(ctx, name, node)) is not None:
        entries["api_key"] = ctx.foreign(node, "api_key", key, "keyring")
    return replace(node, value=entries)


def _flagged(first: Node, second: Node) -> Node | None:
    """Of two spellings of one setting the one that a flag gave; ``None`` where neither or both are flags'."""
    if (first.source == FLAG) == (second.source == FLAG):
        return None
    return first if first.source == FLAG else second


def _by_own_names(ctx: Context, name: str, node: Node) -> dict[str, Node]:
    """The entries of ``node``; Azure's deployment may also be written ``deployment`` or ``model``.

    Where two spellings meet, the one that a flag gave stays.
    """
    if name != AZURE:
        return dict(node.entries)
    entries: dict[str, Node] = {}
    written: dict[str, str] = {}
    for key, each in node.entries.items():
        own = _AZURE_NAMES.get(key, key)
        kept = each
        if own in entries:
            flagged = _flagged(entries[own], each)
            if flagged is None:
                message = f"the deployment is given twice, as {written[own]} and as {key}"
                hint = "Keep one: --deployment, or the name in --llm." if each.source == FLAG else "Keep one."
                ctx.problems.add(each, message, hint, at_key=True)
            kept = flagged or each
        written[own] = key
        entries[own] = kept if own == key else replace(kept, path=node.child(own))
    return entries


def _is_given(node: Node | None) -> bool:
    return node is not None and (node.is_broken or node.value not in (None, ""))


def _kept_key(ctx: Context, name: str, node: Node) -> str | None:
    if ctx.keys is None or (name != AZURE and "api_key" not in (setting_names(name) or ["api_key"])):
        return None
    try:
        key = ctx.keys.get(name)
    except Exception as exc:  # noqa: BLE001 - whatever a keyring raises
        ctx.problems.add_error(node, exc)
        return None
    if not isinstance(key, str) or not key.strip():
        return None
    ctx.problems.hide(key)
    return key


# ── settings ─────────────────────────────────────────────────────────────────────────────


def _azure_step(ctx: Context, node: Node) -> Callable[[], Step]:
    fields = azure_fields()
    names = [*fields, DEPLOYMENTS]
    for name, each in node.entries.items():
        if name not in names:
            ctx.unknown(each, name, names, "azure-openai")
    pool = node.entries.get(DEPLOYMENTS)
    own = {name: each for name, each in node.entries.items() if name in fields}
    settings = _azure_settings(ctx, own)
    ctx.defaults(node.path, _with_defaults(fields), own)
    members: list[Any] = []
    if pool is not None and pool.value is not None:
        members = deployments_of(ctx, pool, shared=replace(node, value=own))
        _check_flags(ctx, own, members)
    else:
        _check_azure(ctx, node, settings)
    kwargs = dict(settings)
    token = kwargs.pop("entra_token", None)
    if token is not None or "credential" in kwargs:
        kwargs.setdefault("credential", token)
        kwargs.pop("api_key", None)
        method = "with_azure_openai_entra_auth"
    else:
        kwargs.pop("token_scope", None)
        method = "with_azure_openai_llm"
    if members:
        kwargs[DEPLOYMENTS] = tuple(members)
    return lambda: Step(method, (), kwargs)


def _check_flags(ctx: Context, shared: Mapping[str, Node], members: list[Any]) -> None:
    """A flag for what the members of a pool have of their own would change nothing: tell it."""
    azure = [each for each in members if each is not FAILED and each.provider == AZURE]
    for name, called in _ITS_OWN.items():
        given = shared.get(name)
        if given is None or given.source != FLAG or FAILED in members:
            continue
        if not azure or any(name in each.settings for each in azure):
            message = f"llm is a pool here, whose deployments have {called} of their own"
            hint = "Change the file, or replace the pool: --set 'llm.deployments=[…]'."
            ctx.problems.add(given, message, hint)


def _with_defaults(fields: Mapping[str, Field]) -> dict[str, Field]:
    return {name: each for name, each in fields.items() if each.default not in (None, {})}


def _azure_settings(ctx: Context, entries: Mapping[str, Node]) -> dict[str, Any]:
    """The values of Azure's settings, without those that do not fit."""
    fields = azure_fields()
    given = [name for name in CREDENTIALS if _is_given(entries.get(name))]
    if len(given) > 1:
        extra = entries[given[-1]]
        message = f"a deployment takes one credential; {' and '.join(given)} were given"
        ctx.problems.add(extra, message, "Keep one of them.", at_key=True)
        entries = {name: each for name, each in entries.items() if name not in given[1:]}
    values: dict[str, Any] = {}
    for name, each in entries.items():
        value = _credential(ctx, each) if name == "credential" else ctx.value(fields[name], each)
        if value is not FAILED and value is not None:
            values[name] = value
    return values


def _credential(ctx: Context, node: Node) -> Any:
    """``default``, or the object that an import path names; of a class, an object is made."""
    if node.is_broken or node.value is None:
        return FAILED
    if node.value == "default":
        ctx.record(node, node.value)
        return node.value
    thing = imported(node, ctx.problems)
    made = ctx.attempt(node, thing) if isinstance(thing, type) else thing
    if made is not FAILED and not (callable(made) or hasattr(made, "get_token")):
        kind = type(made).__name__
        ctx.problems.add(node, f"a credential must have get_token() or be callable, not {kind}")
        return FAILED
    if made is not FAILED:
        ctx.record(node, node.plain())
    return made


def _check_azure(ctx: Context, node: Node, settings: Mapping[str, Any]) -> None:
    """Have `AzureOpenAIConfig` check what is given. What is missing may come later: `build` tells."""
    given = {name: value for name, value in settings.items() if name in AzureOpenAIConfig.model_fields}
    try:
        AzureOpenAIConfig.resolve(given, has_credential=True)
    except BuilderError as exc:
        problems: tuple[Problem, ...] = exc.problems
    except ConfigError as exc:
        problems = (Problem(exc.field or "", exc.message, exc.hint),)
    else:
        return
    for problem in problems:
        if problem.field.partition(".")[0] in given:
            ctx.problems.add(below(node, problem.field), problem.message, problem.remedy)


def _settings(ctx: Context, name: str, node: Node) -> dict[str, Any]:
    """The settings of another provider; which ones it takes only its factory knows."""
    if node.holds_broken():
        return {}
    _check_names(ctx, name, node)
    values = {key: _setting(ctx, key, each) for key, each in node.entries.items() if each.value is not None}
    settings = {key: value for key, value in values.items() if value is not FAILED}
    _check_values(ctx, name, node, settings)
    return settings


def _setting(ctx: Context, key: str, node: Node) -> Any:
    """A provider's own setting. Text of a variable becomes a number where such a setting is one elsewhere."""
    field = azure_fields().get(key)
    if field is not None and field.form == "value" and node.is_lax:
        return ctx.value(field, node)
    value = node.plain()
    ctx.record(node, value)
    return value


def _check_names(ctx: Context, name: str, node: Node) -> None:
    names = setting_names(name)
    if names is None:
        return
    for key, each in node.entries.items():
        if key not in names:
            ctx.unknown(each, key, names, f"the provider {name!r}")


def _check_values(ctx: Context, name: str, node: Node, settings: Mapping[str, Any]) -> None:
    """Have the provider's own configuration check what is given; what is missing may come later."""
    config = config_of(name)
    if config is None:
        return
    given = {key: value for key, value in settings.items() if key in config.model_fields}
    try:
        config(**given)
    except ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False, include_context=False)
    else:
        return
    for each in found:
        place = ".".join(str(part) for part in each["loc"])
        if each["type"] != "missing" and place.partition(".")[0] in given:
            message = each["msg"].removeprefix("Value error, ")
            message = message.replace("Input should", f"{place} should", 1)
            ctx.problems.add(below(node, place), message)


# ── deployments ──────────────────────────────────────────────────────────────────────────


def _deployment(ctx: Context, node: Node, shared: Node | None) -> Any:
    if isinstance(node.value, str):
        spec = replace(node, path=node.child("provider"))
        node = replace(node, value={"provider": spec}, variables=(), is_filled=False)
    if not isinstance(node.value, Mapping):
        if not node.is_broken:
            ctx.problems.add(node, f"a deployment must be text or a mapping, not {node.kind}")
        return FAILED
    if (found := _spec(ctx, node, required=False)) is None:
        return FAILED
    name, node = found
    known = deployment_fields()
    inner = node.entries.get("settings")
    own = {key: each for key, each in node.entries.items() if key not in known}
    facts = {
        key: value
        for key, each in node.entries.items()
        if key in known and key != "settings" and (value := ctx.value(known[key], each)) is not FAILED
    }
    if inner is not None and inner.value is not None:
        if not isinstance(inner.value, Mapping) and not inner.is_broken:
            ctx.problems.add(inner, f"settings must be a mapping, not {inner.kind}")
        own |= inner.entries
    rest = replace(node, value=own)
    if shared is None or name != AZURE:
        rest = _settled(ctx, name, rest, environment_wins=False)
    else:
        rest = replace(rest, value=_by_own_names(ctx, name, rest))
    settings = _member_settings(ctx, name, rest, shared)
    return ctx.attempt(node, lambda: Deployment(name, settings=settings, **facts))


def _member_settings(ctx: Context, name: str, node: Node, shared: Node | None) -> dict[str, Any]:
    if name != AZURE:
        return _settings(ctx, name, node)
    fields = azure_fields()
    for key, each in node.entries.items():
        if key not in fields:
            ctx.unknown(each, key, [*deployment_fields(), *fields], "a deployment")
    settings = _azure_settings(ctx, {key: each for key, each in node.entries.items() if key in fields})
    _check_azure(ctx, node, settings)
    return settings


# ── a scripted model ─────────────────────────────────────────────────────────────────────


def _scripted(ctx: Context, node: Node) -> Callable[[], Step] | None:
    from loom_py.emulator.script_file import parse_script

    for name, each in node.entries.items():
        if name != "script":
            ctx.unknown(each, name, ["script"], "a scripted llm", "A script stands alone.")
    given = node.entries["script"]
    if given.holds_broken():
        return None
    script = given.plain()
    if ctx.attempt(given, lambda: parse_script(script)) is FAILED:
        return None
    ctx.record(given, f"{len(given.items or given.entries)} steps")
    return lambda: Step("with_llm", (parse_script(script),))
