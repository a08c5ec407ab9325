"""Which models a server has, for where none is named."""

from __future__ import annotations

from typing import Any

from loom_py.errors import ConfigError

__all__ = ["only_model", "served_models"]

SECONDS = 5.0
"""How long the server may take to answer."""


def served_models(base_url: str, api_key: str | None = None, http_client: Any = None) -> tuple[str, ...]:
    """The names of the models that the server at ``base_url`` lists, with one request (5 s at most).

    Raises `ConfigError` where it gives no list.
    """
    import httpx2

    client = http_client or httpx2.Client()
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        answer = client.get(f"{base_url}/models", headers=headers, timeout=SECONDS)
        answer.raise_for_status()
        listed = answer.json()["data"]
        return tuple(entry["id"] for entry in listed if isinstance(entry["id"], str))
    except httpx2.HTTPStatusError as exc:
        raise _unlisted(base_url, f"it answered {exc.response.status_code}") from None
    except httpx2.HTTPError as exc:
        raise _unlisted(base_url, f"{type(exc).__name__}: {exc}") from None
    except (ValueError, KeyError, TypeError):
        raise _unlisted(base_url, "its answer is no list of models") from None
    finally:
        if http_client is None:
            client.close()


def only_model(base_url: str, api_key: str | None = None, http_client: Any = None) -> str:
    """The one model that the server has. Raises `ConfigError` where it has none, or several."""
    found = served_models(base_url, api_key, http_client)
    if len(found) == 1:
        return found[0]
    shown = ", ".join(found[:10]) + (", …" if len(found) > 10 else "")
    what = (
        f"the server at {base_url} has {len(found)} models: {shown}"
        if found
        else (f"the server at {base_url} lists no model")
    )
    raise ConfigError(f"model is required; {what}", field="model", hint="Pass model=.")


def _unlisted(base_url: str, why: str) -> ConfigError:
    return ConfigError(
        f"model is required, and the server at {base_url} does not tell which it has: {why}",
        field="model",
        hint="Pass model=, or check that the server runs at base_url=.",
    )
