"""A body as JSON, and what is wrong with it in OpenAI's manner: the field by its path, never its value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from loom_py.errors import InvalidRequestError

__all__ = ["invalid_field", "is_deeper", "read_json", "refuse", "spelled"]

_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_FIELD = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises `InvalidRequestError` for anything else."""
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError:
        refuse("the body is not UTF-8")
    except RecursionError:
        refuse("the body is nested too deeply")
    except ValueError as exc:
        at = f" at character {exc.pos}" if isinstance(exc, json.JSONDecodeError) else ""
        refuse(f"the body is not valid JSON{at}")
    if not isinstance(data, dict):
        refuse(f"the body must be a JSON object, not {_KINDS.get(type(data), 'null')}")
    if _HALF_PAIR.search(body):
        try:
            json.dumps(data, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            refuse("the body holds half of a surrogate pair, which is no character")
        except RecursionError:
            refuse("the body is nested too deeply")
    return data


def is_deeper(value: object, most: int) -> bool:
    """Whether more than ``most`` objects and arrays lie within one another."""
    level: list[Any] = [value]
    for _ in range(most + 1):
        level = [each for each in level if isinstance(each, (dict, list))]
        if not level:
            return False
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return True


_KINDS = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "a boolean"}


def refuse(message: str, param: str | None = None, hint: str | None = None) -> NoReturn:
    """Raises `InvalidRequestError`."""
    raise InvalidRequestError(message, param=param, hint=hint) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    """A number that can be sent on: 1e999 would come out as ``Infinity``, which is no JSON."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def invalid_field(error: ValidationError, data: dict[str, Any]) -> InvalidRequestError:
    """The first problem in OpenAI's manner: the field by its path in ``data``, never its value.

    Where a field may be one of several things, each of them has a complaint; the one that got furthest into
    the field knows what the client meant, and of two the one for which the type is right.
    """
    problems = error.errors(include_url=False, include_input=False)
    problem = max(problems, key=lambda each: (len(_path(each, data)), not each["type"].endswith("_type")))
    path = spelled(_path(problem, data))
    if problem["type"] in ("missing", "union_tag_not_found"):
        return InvalidRequestError(
            f"missing required parameter: {path}", code="missing_required_parameter", param=path
        )
    return InvalidRequestError(f"invalid value for {path}: {_complaint(problem)}", param=path or None)


def _path(problem: ErrorDetails, data: Any) -> list[str | int]:
    """Where in ``data`` that is: pydantic's own path also names the models it tried."""
    path: list[str | int] = []
    for step in problem["loc"]:
        if isinstance(step, int) if isinstance(data, list) else isinstance(data, dict) and step in data:
            path.append(step)
            data = data[step]
    if problem["type"] == "missing":
        path.append(problem["loc"][-1])
    elif problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        path.append("type")
    return path


def spelled(path: Sequence[str | int]) -> str:
    """``messages[0].content``; a name that nobody would give a field is left out."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _FIELD.fullmatch(step):
            text += f".{step}" if text else step
    return text


_MUST_BE = {
    "dict_type": "it must be an object",
    "model_type": "it must be an object",
    "list_type": "it must be an array",
}


def _complaint(problem: ErrorDetails) -> str:
    if problem["type"] == "union_tag_invalid":
        return f"it must be one of {problem['ctx']['expected_tags']}"
    if problem["type"] == "too_long":
        return f"it may have at most {problem['ctx']['max_length']:,} items"
    message = problem["msg"]
    return _MUST_BE.get(problem["type"], message[:1].lower() + message[1:])
