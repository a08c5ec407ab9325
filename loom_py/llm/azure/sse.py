"""Server-sent events out of bytes, however the bytes were cut.

Lines end in LF, CRLF or CR; several ``data`` lines of one event are joined with a newline;
comments and other fields are passed over, but for ``error``, which older versions of llama.cpp
send. A stream that breaks off inside an event leaves that event in `SSEReader.rest`.
"""

from __future__ import annotations

__all__ = ["SSEReader"]


class SSEReader:
    """Feed it bytes, get the data of each event that is complete."""

    __slots__ = ("_buffer", "_data", "_pending", "_started")

    def __init__(self) -> None:
        self._buffer = b""
        self._pending: list[bytes] = []
        self._data: list[bytes] = []
        self._started = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that ``chunk`` completes."""
        if b"\r" not in chunk and self._started and self._buffer[-1:] != b"\r":
            if b"\n" not in chunk:  # a long line is looked at when it ends, not with each piece
                self._pending.append(chunk)
                return []
            if not self._data and b"\r" not in self._buffer:
                return self._by_events(self._gathered() + chunk)
        self._buffer = self._gathered() + chunk
        if not self._started:
            if b"\xef\xbb\xbf".startswith(self._buffer[:3]) and len(self._buffer) < 3:
                return []
            self._buffer = self._buffer.removeprefix(b"\xef\xbb\xbf")
            self._started = True
        return self._by_lines()

    def _gathered(self) -> bytes:
        """What was not looked at yet."""
        if self._pending:
            self._buffer = b"".join((self._buffer, *self._pending))
            self._pending.clear()
        return self._buffer

    def _by_lines(self) -> list[bytes]:
        events: list[bytes] = []
        for line in self._lines():
            self._line(line, events)
        return events

    def _by_events(self, buffer: bytes) -> list[bytes]:
        """The data of events whose lines end in LF: those that are all there at once, the rest by lines."""
        end = buffer.rfind(b"\n\n") + 2
        events = self._whole(buffer[:end]) if end > 1 else []
        self._buffer = buffer[end:] if end > 1 else buffer
        return events + self._by_lines()

    def _whole(self, chunk: bytes) -> list[bytes]:
        """The data of events that are all there, with lines that end in LF."""
        events: list[bytes] = []
        for event in chunk[:-2].split(b"\n\n"):
            if event[:6] == b"data: " and b"\n" not in event:
                events.append(event[6:])
            else:
                for line in (*event.split(b"\n"), b""):
                    self._line(line, events)
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if line:
            self._take(line)
        elif self._data:
            events.append(b"\n".join(self._data))
            self._data.clear()

    def rest(self) -> bytes:
        """The data of an event that was not closed by an empty line before the end."""
        if last := self._gathered():
            self._take(last.rstrip(b"\r"))
            self._buffer = b""
        data, self._data = self._data, []
        return b"\n".join(data)

    def _take(self, line: bytes) -> None:
        field, colon, value = line.partition(b":")
        if colon and field in {b"data", b"error"}:
            self._data.append(value.removeprefix(b" "))

    def _lines(self) -> list[bytes]:
        """The lines that are complete; what follows them stays in the buffer."""
        buffer, start, lines = self._buffer, 0, []
        while True:
            newline = buffer.find(b"\n", start)
            carriage = buffer.find(b"\r", start, newline if newline >= 0 else len(buffer))
            end = carriage if carriage >= 0 else newline
            if end < 0 or (end == carriage and end + 1 == len(buffer)):  # an LF may follow that CR
                break
            lines.append(buffer[start:end])
            start = end + (2 if buffer[end : end + 2] == b"\r\n" else 1)
        self._buffer = buffer[start:]
        return lines
