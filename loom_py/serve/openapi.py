"""The OpenAPI document: the request from the very models that check it, the answers by hand."""

from __future__ import annotations

from typing import Any

from loom_py._version import __version__
from loom_py.serve.wire import ChatRequest

__all__ = ["document"]

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}


def document() -> dict[str, Any]:
    """The description of the API, as OpenAPI 3.1."""
    schema = ChatRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = schema.pop("$defs", {})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "loom serve",
            "version": __version__,
            "description": "Agents behind the API of OpenAI's chat completions.",
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**parts, "ChatRequest": schema, **_answers()},
        },
        "security": [{"key": []}],
        "paths": _paths(),
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answers() -> dict[str, Any]:
    function = _object(name=_TEXT, arguments=_TEXT)
    call = _object(id=_TEXT, type={"const": "function"}, function=function)
    message = _object(role={"const": "assistant"}, content={"type": ["string", "null"]})
    message["properties"]["tool_calls"] = {"type": "array", "items": call}
    reason = {"enum": ["stop", "length", "tool_calls", "content_filter"]}
    choice = _object(index=_COUNT, message=message, finish_reason=reason)
    piece = _object(
        index=_COUNT, delta={"type": "object"}, finish_reason={"anyOf": [reason, {"type": "null"}]}
    )
    usage = _object(prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT)
    error = _object(message=_TEXT, type=_TEXT, param={"type": ["string", "null"]}, code=_TEXT)
    about: dict[str, Any] = {"id": _TEXT, "created": _COUNT, "model": _TEXT}
    model = _object(id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by=_TEXT)
    return {
        "ChatCompletion": _object(
            **about,
            object={"const": "chat.completion"},
            choices={"type": "array", "items": choice},
            usage=usage,
        ),
        "ChatCompletionChunk": _object(
            **about, object={"const": "chat.completion.chunk"}, choices={"type": "array", "items": piece}
        ),
        "Error": _object(error=error),
        "Model": model,
        "Models": _object(object={"const": "list"}, data={"type": "array", "items": _ref("Model")}),
        "Health": _object(status={"enum": ["ok", "degraded", "down", "draining"]}),
    }


def _json(name: str, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(name)}}}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): _json("Error", _WHY[status]) for status in statuses}


_WHY = {
    400: "The request cannot be understood, or asks for what cannot be done.",
    401: "No key, or none that is known.",
    402: "The budget is spent.",
    404: "There is no such thing.",
    408: "The request did not arrive in time.",
    409: "The session is in use.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too much for a minute: see Retry-After.",
    500: "The server failed.",
    502: "The model's service failed.",
    503: "Busy, stopping, or the model cannot be reached: see Retry-After.",
    504: "No answer in time.",
}


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": _TEXT, "description": description}


def _get(summary: str, answer: dict[str, Any], *problems: int, is_open: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": summary, "responses": {"200": answer, **_problems(*problems)}}
    if is_open:
        found["security"] = []
    return {"get": found}


def _named(name: str) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": _TEXT}]


def _paths() -> dict[str, Any]:
    answer = _json("ChatCompletion", "The answer; with stream, chunks as server-sent events and [DONE].")
    answer["content"]["text/event-stream"] = {"schema": _ref("ChatCompletionChunk")}
    chat = {
        "summary": "Ask an agent.",
        "parameters": [
            _header("X-Session-Id", "Keep the conversation here under this name."),
            _header("X-Loom-Events", "true: also tell of tools, policies and cost, under loom."),
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref("ChatRequest")}},
        },
        "responses": {
            "200": answer,
            **_problems(400, 401, 402, 404, 408, 413, 415, 429, 500, 502, 503, 504),
        },
    }
    one = _get("One model.", _json("Model", "The model."), 401, 404)
    one["get"]["parameters"] = _named("model")
    forget = {
        "summary": "Forget a session.",
        "parameters": _named("session"),
        "responses": {"200": {"description": "It is forgotten."}, **_problems(401, 404, 409)},
    }
    health = _json("Health", "How the agents stand; in detail with a key.")
    live = {"description": "The process runs."}
    ready = {"description": "Chats may be sent here."}
    return {
        "/v1/chat/completions": {"post": chat},
        "/v1/models": _get("The models.", _json("Models", "The models."), 401),
        "/v1/models/{model}": one,
        "/v1/sessions/{session}": {"delete": forget},
        "/health": _get("How the agents stand.", health, 503, is_open=True),
        "/health/live": _get("Whether the process runs.", live, is_open=True),
        "/health/ready": _get("Whether chats may be sent here.", ready, 503, is_open=True),
        "/metrics": _get("Figures for Prometheus.", {"description": "Prometheus' text format."}, 401),
    }
