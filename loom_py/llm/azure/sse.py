"""Server-sent events out of bytes, however the bytes were cut.

Lines end in LF, CRLF or CR; several ``data`` lines of one event are joined with a newline;
comments and other fields are passed over. A stream that breaks off inside an event leaves that
event in `SSEReader.rest`.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["SSEReader"]


class SSEReader:
    """Feed it bytes, get the data of each event that is complete."""

    __slots__ = ("_buffer", "_data", "_started")

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []
        self._started = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every event that ``chunk`` completes."""
        self._buffer += chunk
        if not self._started:
            if b"\xef\xbb\xbf".startswith(self._buffer[:3]) and len(self._buffer) < 3:
                return
            self._buffer = self._buffer.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        while (line := self._next_line()) is not None:
            if line:
                self._take(line)
            elif self._data:
                yield b"\n".join(self._data)
                self._data.clear()

    def rest(self) -> bytes:
        """The data of an event that was not closed by an empty line before the end."""
        if self._buffer:
            self._take(self._buffer.rstrip(b"\r"))
            self._buffer = b""
        data, self._data = self._data, []
        return b"\n".join(data)

    def _take(self, line: bytes) -> None:
        field, colon, value = line.partition(b":")
        if colon and field == b"data":
            self._data.append(value.removeprefix(b" "))

    def _next_line(self) -> bytes | None:
        buffer = self._buffer
        newline = buffer.find(b"\n")
        carriage = buffer.find(b"\r", 0, newline if newline >= 0 else len(buffer))
        if carriage >= 0:
            after = carriage + 1
            if after == len(buffer):
                return None  # an LF may follow in the next chunk
            end = after + 1 if buffer[after : after + 1] == b"\n" else after
            self._buffer = buffer[end:]
            return buffer[:carriage]
        if newline < 0:
            return None
        self._buffer = buffer[newline + 1 :]
        return buffer[:newline]
