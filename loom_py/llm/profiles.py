"""What a family of models can do, as data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNKNOWN_PROFILE", "ModelProfile"]


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """Capabilities of a model.

    ``context_window`` and ``max_output`` are in tokens; ``None`` means not known.
    ``reasoning`` models think before they answer and take no sampling parameters.
    ``max_tokens_parameter`` is the name under which the API takes the output limit.
    """

    context_window: int | None = None
    max_output: int | None = None
    tools: bool = True
    parallel_tools: bool = True
    vision: bool = False
    streaming: bool = True
    reasoning: bool = False
    max_tokens_parameter: str = "max_completion_tokens"


UNKNOWN_PROFILE = ModelProfile()
"""A model nothing is known about: assumed to take tools and to stream."""
