"""Splitting a syslog TCP stream into messages (RFC 6587).

A connection uses one of two framings, told apart by how it begins: ``MSG-LEN SP <`` is octet counting (section 3.4.1), all
else is lines (section 3.4.2) that end in LF or, from some senders, NUL. The ``<`` is part of the test because a line may
well begin with digits and a space, while SYSLOG-MSG always begins with a PRI.
"""

import re
from typing import Final, NamedTuple

__all__ = ["Frame", "FramingError", "SyslogFramer"]


class Frame(NamedTuple):
    """One message as sent, without its frame. Cut short if ``original_length`` exceeds ``len(data)``."""

    data: bytes
    original_length: int


class FramingError(ValueError):
    """The stream has lost its frames and cannot find them again: close the connection.

    ``frames`` are the messages that the failing call had completed, ``offset`` is where in the connection's bytes the
    count should have been, ``rest`` the first bytes found there (at most 256).
    """

    def __init__(self, frames: list[Frame], offset: int, rest: bytes) -> None:
        super().__init__(
            f"no octet count (1 to 8 digits and a space) at byte {offset} of the connection but {rest[:16]!r}: "
            "close it, and have the sender use one framing of RFC 6587 throughout"
        )
        self.frames = frames
        self.offset = offset
        self.rest = rest


_COUNT = re.compile(rb"([1-9][0-9]{0,7}) ")
_COUNT_SO_FAR = re.compile(rb"(?:[1-9][0-9]{0,7} ?)?")
_COUNTED = re.compile(rb"[1-9][0-9]{0,7} <")
_BETWEEN: Final = b"\r\n\0"
_CR: Final = 0x0D
_REST: Final = 256


class SyslogFramer:
    """Incremental splitter for one connection. Holds at most ``max_message_bytes`` and a few bytes more.

    A longer message is kept up to the limit, marked by its ``original_length``, and the rest of it is dropped as it comes.
    Empty lines, and line ends that a sender puts between counted messages, are no messages.
    """

    __slots__ = ("_broken", "_counted", "_head", "_held", "_last", "_length", "_max", "_missing", "_seen")

    def __init__(self, max_message_bytes: int = 65536) -> None:
        if max_message_bytes < 1:
            raise ValueError(f"max_message_bytes is {max_message_bytes}: it must be at least 1")
        self._max = max_message_bytes
        self._counted: bool | None = None  # None until the first bytes have told
        self._head = b""  # bytes that do not yet tell the framing, or the beginning of a count
        self._held = bytearray()  # the message under way
        self._length = 0  # its full length: announced if counted, else seen so far
        self._missing = 0  # of a counted message, how many bytes are still to come
        self._last = 0  # of a line, the byte seen last
        self._seen = 0  # bytes of the connection before the present call
        self._broken: FramingError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes as they came from the socket; give the messages they complete.

        Raises FramingError, now and on every later call, if a counted message is not followed by another count.
        """
        if self._broken is not None:
            raise FramingError([], self._broken.offset, self._broken.rest)
        seen = self._seen
        self._seen += len(data)
        if self._counted is None:
            start = (self._head + data).lstrip(_BETWEEN)
            if _COUNT_SO_FAR.fullmatch(start) is not None:
                self._head = start
                return []
            self._counted = _COUNTED.match(start) is not None
            data, self._head = start, b""
            seen = self._seen - len(data)
        return self._feed_counted(data, seen) if self._counted else self._feed_lines(data)

    def finish(self) -> list[Frame]:
        """The message that the closing connection left without its end, if any.

        A counted message that is not complete comes marked as cut; a count without any of its message is dropped.
        """
        if self._broken is not None:
            return []
        if self._counted:
            frames = [Frame(bytes(self._held), self._length)] if self._held else []
            self._held, self._missing = bytearray(), 0
        else:
            if self._counted is None:
                self._hold(self._head)
            frames = []
            self._end_line(frames)
        self._head = b""
        return frames

    def _feed_lines(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        if b"\0" in data:
            data = data.replace(b"\0", b"\n")
        first, *lines = data.split(b"\n")
        self._hold(first)
        if not lines:
            return frames
        self._end_line(frames)
        unended = lines.pop()
        limit = self._max
        for whole in lines:
            line = whole[:-1] if whole[-1:] == b"\r" else whole
            if line:
                frames.append(Frame(line[:limit], len(line)))
        self._hold(unended)
        return frames

    def _hold(self, part: bytes) -> None:
        if part:
            # One byte above the limit, for a CR that is not part of the message.
            room = self._max + 1 - len(self._held)
            if room > 0:
                self._held += part[:room]
            self._length += len(part)
            self._last = part[-1]

    def _end_line(self, frames: list[Frame]) -> None:
        length = self._length - (self._last == _CR)
        if length > 0:
            frames.append(Frame(bytes(self._held[: min(length, self._max)]), length))
        if self._length:
            self._held, self._length, self._last = bytearray(), 0, 0

    def _feed_counted(self, data: bytes, seen: int) -> list[Frame]:
        frames: list[Frame] = []
        if self._head:
            seen -= len(self._head)
            data, self._head = self._head + data, b""
        position = 0
        end = len(data)
        while position < end:
            if self._missing:
                taken = min(self._missing, end - position)
                room = self._max - len(self._held)
                if room > 0:
                    self._held += data[position : position + min(taken, room)]
                self._missing -= taken
                position += taken
                if not self._missing:
                    frames.append(Frame(bytes(self._held), self._length))
                    self._held = bytearray()
                continue
            if data[position] in _BETWEEN:
                position += 1
                continue
            count = _COUNT.match(data, position)
            if count is None:
                if _COUNT_SO_FAR.fullmatch(data, position) is None:
                    self._broken = FramingError(frames, seen + position, data[position : position + _REST])
                    raise self._broken
                self._head = data[position:]
                break
            length = int(count[1])
            position = count.end()
            if position + length <= end:
                frames.append(Frame(data[position : position + min(length, self._max)], length))
                position += length
            else:
                self._length = self._missing = length
        return frames
