"""A conversation with an agent, and what it has asked and been told so far."""

from __future__ import annotations

import json
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from loom_py.agent import Agent
from loom_py.errors import ConfigError
from loom_py.llm.costs import CostReport
from loom_py.messages import Message

__all__ = ["Conversation", "write_new_file"]


@dataclass(slots=True)
class Conversation:
    """One session of ``agent``; a turn that fails or is interrupted leaves it as it was."""

    agent: Agent
    session_id: str = field(default_factory=lambda: f"chat-{secrets.token_hex(4)}")

    @property
    def messages(self) -> tuple[Message, ...]:
        """All that was said, without the system prompt."""
        try:
            return self.agent.history(self.session_id)
        except KeyError:
            return ()

    @property
    def costs(self) -> CostReport:
        """What the session has cost; nothing before its first call."""
        try:
            return self.agent.costs(session=self.session_id)
        except KeyError:
            return CostReport()

    def reset(self) -> bool:
        """Forget the conversation; whether there was one. Its cost stays in the agent's total."""
        return self.agent.delete_session(self.session_id)

    def save(self, path: Path, *, replace: bool = False) -> int:
        """Write the conversation as JSON (``.json``) or Markdown; how many messages there were.

        Raises `ConfigError` for a file that exists, unless ``replace``, and `OSError`.
        """
        messages = self.messages
        if path.suffix.lower() == ".json":
            text = json.dumps(self._plain(messages), ensure_ascii=False, indent=2) + "\n"
        else:
            text = "\n".join(map(_markdown, messages))
        write_new_file(path, text, replace=replace)
        return len(messages)

    def _plain(self, messages: tuple[Message, ...]) -> dict[str, object]:
        return {
            "agent": self.agent.name,
            "session": self.session_id,
            "system_prompt": self.agent.system_prompt,
            "messages": [message.to_dict() for message in messages],
            "costs": self.costs.to_dict(),
        }


def write_new_file(path: Path, text: str, *, replace: bool) -> None:
    """Write ``text`` in one step: there is never half a file. Raises `ConfigError` and `OSError`.

    A file that is replaced keeps its mode, and a link goes on being one. What is no file, such as
    ``/dev/stdout`` or a named pipe, is written to.
    """
    is_there = path.exists()
    if is_there and not replace:
        raise ConfigError(f"{path} exists", hint="Choose another name, or say that it may be replaced.")
    real = path.resolve()
    try:
        if is_there and not real.is_file():
            with path.open("w", encoding="utf-8", errors="replace") as there:
                there.write(text)
        else:
            _replace(real, text)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from None


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        new.write_text(text, "utf-8", errors="replace")
        if path.exists():
            new.chmod(stat.S_IMODE(path.stat().st_mode))
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _markdown(message: Message) -> str:
    if message.role == "tool":
        return f"> **{message.name}** answered:\n>\n" + _quoted(message.text) + "\n"
    parts = [f"## {message.role.capitalize()}\n"]
    if message.text:
        parts.append(f"{message.text}\n")
    parts += [f"> calls `{call.name}({call.arguments_json})`\n" for call in message.tool_calls]
    return "\n".join(parts)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
