"""Objects by import path: ``module:name``, looked for in the file's own folder first."""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from loom_py.agent_file.nodes import FAILED, Node
from loom_py.agent_file.problems import Problems
from loom_py.errors import LoomError
from loom_py.tools import Tool

__all__ = ["PATTERN", "importable", "imported", "tools_of"]

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
PATTERN = rf"^{_NAME}(:{_NAME})?$"
"""What an import path looks like; the name after the colon may be left out for tools."""

_PATH = re.compile(rf"(?P<module>{_NAME})(?::(?P<name>{_NAME}))?\Z")
_ONE_AT_A_TIME = threading.RLock()  # sys.path and sys.modules are the whole process's


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Modules in ``folder`` can be imported meanwhile; ``sys.path`` is as before afterwards.

    A module that was imported before under the name of one in the folder gets its name back, so that
    two files may each have their own ``tools.py``. The standard library's names stay its own.
    """
    with _ONE_AT_A_TIME:
        place = str(folder)
        taken = _taken(folder)
        for name in taken:
            del sys.modules[name]
        importlib.invalidate_caches()
        sys.path.insert(0, place)
        try:
            yield
        finally:
            if place in sys.path:
                sys.path.remove(place)
            for name in {each.partition(".")[0] for each in taken}:
                for module in _family(name):
                    del sys.modules[module]
            sys.modules.update(taken)


def imported(node: Node, problems: Problems) -> Any:
    """The object that the text of ``node`` names, ``module:name``; `FAILED` where there is none."""
    found = _split(node, problems)
    if found is None:
        return FAILED
    module, name = found
    if name is None:
        problems.add(node, f"{node.value!r} names no object of the module", f"Write {node.value}:NAME.")
        return FAILED
    made = _module(module, node, problems)
    return FAILED if made is None else _attribute(made, name, node, problems)


def tools_of(node: Node, problems: Problems) -> list[Any]:
    """The tools that the text of ``node`` names: one object, or all of a module made with ``@tool``."""
    found = _split(node, problems)
    if found is None:
        return []
    module, name = found
    made = _module(module, node, problems)
    if made is None:
        return []
    if name is not None:
        thing = _attribute(made, name, node, problems)
        return [] if thing is FAILED else [thing]
    tools = list({id(thing): thing for thing in vars(made).values() if isinstance(thing, Tool)}.values())
    if not tools:
        hint = f"Make some with @tool, or name a function: {module}:NAME."
        problems.add(node, f"the module {module!r} has no tools", hint)
    return tools


def _split(node: Node, problems: Problems) -> tuple[str, str | None] | None:
    if not isinstance(node.value, str) or (found := _PATH.match(node.value.strip())) is None:
        shown = repr(node.value) if isinstance(node.value, str) else node.kind
        problems.add(node, f"{shown} is no import path", "Write module:name, such as my_tools:weather.")
        return None
    return found["module"], found["name"]


def _module(name: str, node: Node, problems: Problems) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            hint = f"It is looked for beside {problems.path.name} and among the installed packages."
            if name.endswith(".py"):
                hint = f"Write it without .py: {str(node.value).replace('.py', '', 1)}"
            problems.add(node, f"there is no module {name!r}", hint)
        else:
            missing = f"Install what brings {exc.name!r}."
            problems.add(node, f"the module {name!r} cannot be imported: {exc}", missing)
    except SyntaxError as exc:
        where = f" ({Path(exc.filename).name}, line {exc.lineno})" if exc.filename else ""
        problems.add(node, f"the module {name!r} cannot be imported: {exc.msg}{where}")
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever a user's module raises
        told = exc.message if isinstance(exc, LoomError) else f"{type(exc).__name__}: {exc}"
        remedy = exc.hint if isinstance(exc, LoomError) else None
        problems.add(node, f"the module {name!r} cannot be imported: {told.removesuffix(': ')}", remedy)
    return None


def _attribute(module: ModuleType, name: str, node: Node, problems: Problems) -> Any:
    thing: Any = module
    for part in name.split("."):
        try:
            thing = getattr(thing, part)
        except AttributeError:
            hint = _close(part, thing)
            problems.add(node, f"{module.__name__!r} has no {name!r}", hint)
            return FAILED
        except Exception as exc:  # noqa: BLE001 - a lazy attribute of a user's module
            problems.add(node, f"{node.value!r} cannot be imported: {type(exc).__name__}: {exc}")
            return FAILED
    return thing


def _close(name: str, thing: Any) -> str | None:
    from difflib import get_close_matches

    names = [each for each in dir(thing) if not each.startswith("_")]
    close = get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else None


def _taken(folder: Path) -> dict[str, ModuleType]:
    """Modules that have the name of one in ``folder`` and are another."""
    found: dict[str, ModuleType] = {}
    for name in {each.partition(".")[0] for each in tuple(sys.modules)}:
        if name in sys.stdlib_module_names or name in ("__main__", "loom_py"):
            continue
        if _is_in(folder, name) and not _is_from(folder, sys.modules.get(name)):
            found |= _family(name)
    return found


def _family(name: str) -> dict[str, ModuleType]:
    """A module and those below it."""
    return {
        each: module
        for each, module in tuple(sys.modules.items())
        if each == name or each.startswith(f"{name}.")
    }


def _is_in(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def _is_from(folder: Path, module: ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).resolve().is_relative_to(folder.resolve())
