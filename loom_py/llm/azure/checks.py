"""What can be told of a call before it is sent: options that its model cannot have."""

from __future__ import annotations

from collections.abc import Sequence

from loom_py.errors import ConfigError
from loom_py.llm.profiles import UNKNOWN_PROFILE, ModelProfile
from loom_py.messages import ImagePart, Message, ToolSpec
from loom_py.options import ChatOptions

__all__ = ["check_call"]

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
VERBOSITIES = ("low", "medium", "high")


def check_call(
    messages: Sequence[Message],
    tools: Sequence[ToolSpec],
    options: ChatOptions,
    profile: ModelProfile,
    deployment: str,
) -> None:
    """Raise `ConfigError` for what the model behind ``deployment`` cannot do.

    Of an unknown model nothing is said: Azure will.
    """
    _check_word("reasoning_effort", options.reasoning_effort, EFFORTS)
    _check_word("verbosity", options.verbosity, VERBOSITIES)
    names = [tool.name for tool in tools]
    if options.tool_choice not in (None, "auto", "none", "required", *names):
        raise ConfigError(
            f"tool_choice names {options.tool_choice!r}, and there is no such tool",
            field="tool_choice",
            hint=f"Use auto, none, required or one of: {', '.join(names) or 'there are no tools'}.",
        )
    if profile is UNKNOWN_PROFILE:
        return
    if tools and not profile.tools:
        raise ConfigError(f"the model of {deployment} takes no tools", field="tools")
    if options.reasoning_effort not in (None, "none") and not profile.reasoning:
        raise ConfigError(
            f"the model of {deployment} does not reason, so it has no reasoning_effort",
            field="reasoning_effort",
            hint="Leave it out, or name the model with model_name= if the deployment's name misleads.",
        )
    if not profile.vision and any(_has_image(message) for message in messages):
        raise ConfigError(
            f"the model of {deployment} does not read images",
            field="messages",
            hint="Use a vision model, or name the model with model_name= if the deployment's name misleads.",
        )


def _check_word(name: str, word: str | None, known: tuple[str, ...]) -> None:
    if word is not None and word not in known:
        raise ConfigError(f"{name} must be one of {', '.join(known)}, not {word!r}", field=name)


def _has_image(message: Message) -> bool:
    return not isinstance(message.content, str) and any(
        isinstance(part, ImagePart) for part in message.content
    )
