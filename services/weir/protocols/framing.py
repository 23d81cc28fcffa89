"""Splitting a syslog TCP or TLS stream into messages (RFC 6587, RFC 5425).

A connection uses one of two framings, told apart by how it begins: ``MSG-LEN SP <`` is octet counting (section 3.4.1), all
else is lines (section 3.4.2). The ``<`` is part of the test because a line may well begin with digits and a space, while
SYSLOG-MSG always begins with a PRI.

Lines end in LF or in NUL, whichever the connection shows first; CR before it belongs to the end. The other of the two ends a
message only where a PRI follows, so a message may hold it and two messages are never taken for one.

Counted messages go wrong in the field: a sender adds a space or a line end that it does not count, counts characters for bytes,
or sends lines in between. Between messages, spaces and line ends are passed over; a PRI there begins a line; anything else is
what a wrong count left over, given as a frame that is marked `lost` up to the next line end or count, where the stream goes on.
A count that is too large to be true is wrong: believing it would swallow up to 100 MB of good messages.
"""

import re
from typing import Final, NamedTuple

__all__ = ["Frame", "FramingError", "SyslogFramer"]


class Frame(NamedTuple):
    """One message as sent, without its frame. Cut short if ``original_length`` exceeds ``len(data)``.

    ``lost``: not a message but bytes that stood where a counted message should have begun.
    """

    data: bytes
    original_length: int
    lost: bool = False


class FramingError(ValueError):
    """The stream has lost its frames and cannot find them again: close the connection.

    ``frames`` are the messages that the failing call had completed, ``offset`` is where in the connection's bytes a message
    should have begun, ``rest`` what stands there (at most 8 KiB).
    """

    def __init__(self, frames: list[Frame], offset: int, rest: bytes) -> None:
        super().__init__(
            f"no octet count (1 to 8 digits and a space) at byte {offset} of the connection but {rest[:16]!r}: "
            "have the sender use one framing of RFC 6587 throughout, and count bytes, not characters"
        )
        self.frames = frames
        self.offset = offset
        self.rest = rest


_COUNT = re.compile(rb"([1-9][0-9]{0,7}) ")
_COUNT_SO_FAR = re.compile(rb"(?:[1-9][0-9]{0,7} ?)?")
_COUNTED = re.compile(rb"([1-9][0-9]{0,7}) (?=<)")
_PRI_SO_FAR = re.compile(rb"<[0-9]{0,3}")
_PRI = re.compile(rb"<[0-9]{1,3}>")
# Where a stream that lost its frames may go on: after a line end, or at a count before a PRI.
_RESUME = re.compile(rb"[\n\0]|(?<![0-9])(?=[1-9][0-9]{0,7} <[0-9]{1,3}>)")
_RESUME_LONGEST: Final = 14  # the longest count, a space and a PRI
_BETWEEN: Final = b"\r\n\0 "
_LINE_ENDS: Final = b"\r\n\0"
_CR: Final = b"\r"
_LF: Final = b"\n"
_NUL: Final = b"\0"
_OTHER_THEN_PRI: Final = {
    _LF: (re.compile(rb"\0(?=<[0-9]{1,3}>)"), re.compile(rb"\0(?:<[0-9]{0,3})?\Z")),
    _NUL: (re.compile(rb"\n(?=<[0-9]{1,3}>)"), re.compile(rb"\n(?:<[0-9]{0,3})?\Z")),
}
_STRAY: Final = {_LF: b"\r\0", _NUL: b"\r\n"}
_SPACED_PRI: Final = b" <"  # Cisco's ASA sends a space after a line end now and then
_LOST_IN_A_ROW: Final = 16
_LOST_LONGEST: Final = 8_192  # it is searched anew with each read
_KEPT_WHEN_FULL: Final = 8_192  # what every receiver should take (RFC 5425, section 4.3.1)
_BELIEVED: Final = 1024 * 1024


class SyslogFramer:
    """Incremental splitter for one connection. Holds at most ``max_message_bytes`` and a few bytes more.

    A longer message is kept up to the limit, marked by its ``original_length``, and the rest of it is dropped as it comes.
    Empty lines are no messages (section 3.4.2 puts a message before each line end); ``blank`` counts them.

    A count above 1 MiB and eight times ``max_message_bytes`` is taken for a mistake.

    While ``full`` is set, no more than 8 KiB are kept of an unfinished message, as if that were the limit: a ceiling over many
    connections together holds even where each keeps within its own, and those with ordinary messages do not suffer for the others.
    """

    __slots__ = (
        "_bad",
        "_believed",
        "_broken",
        "_end",
        "_head",
        "_held",
        "_length",
        "_max",
        "_missing",
        "_mode",
        "_seen",
        "_trail",
        "blank",
        "full",
    )

    def __init__(self, max_message_bytes: int = 65536) -> None:
        if max_message_bytes < 1:
            raise ValueError(f"max_message_bytes is {max_message_bytes}: it must be at least 1")
        self.blank = 0
        self.full = False
        self._max = max_message_bytes
        self._believed = max(_BELIEVED, 8 * max_message_bytes)
        self._mode = "?"  # "?" until the first bytes have told, then "lines" or "counted"; "line" is a line among counted messages
        self._end = b""  # what ends lines, once seen
        self._head = b""  # bytes that do not yet tell what they are
        self._held = bytearray()  # the message under way
        self._length = 0  # its full length: announced if counted, else seen so far
        self._trail = 0  # of a line, how many bytes at its end may belong to the line end
        self._missing = 0  # of a counted message, how many bytes are still to come
        self._bad = 0  # frames lost in a row
        self._seen = 0  # bytes of the connection so far
        self._broken: FramingError | None = None

    @property
    def held(self) -> int:
        """Bytes kept of what is not finished."""
        return len(self._held) + len(self._head)

    @property
    def _room(self) -> int:
        return min(self._max, _KEPT_WHEN_FULL) if self.full else self._max

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes as they came from the socket; give the messages they complete.

        Raises FramingError, now and on every later call, if among counted messages nothing that could be one follows within
        8 KiB, or the frames were lost too many times in a row.
        """
        if self._broken is not None:
            raise FramingError([], self._broken.offset, self._broken.rest)
        self._seen += len(data)
        frames: list[Frame] = []
        if self._mode == "lines":
            self._feed_lines(data, frames)
            return frames
        if self._mode == "?":
            start = self._head + data
            data = start.lstrip(_LINE_ENDS)
            self.blank += start[: len(start) - len(data)].count(_LF)
            if _COUNT_SO_FAR.fullmatch(data) is not None:
                self._head = data
                return frames
            self._head = b""
            if (count := _COUNTED.match(data)) is None or int(count[1]) > self._believed:
                self._mode = "lines"
                self._feed_lines(data, frames)
                return frames
            self._mode = "counted"
        elif self._head:
            data, self._head = self._head + data, b""
        self._feed_counted(data, frames)
        return frames

    def finish(self) -> list[Frame]:
        """The message that the closing connection left without its end, if any.

        A counted message that is not complete comes marked as cut; a count without any of its message is dropped.
        """
        if self._broken is not None:
            return []
        frames: list[Frame] = []
        if self._mode == "counted":
            if self._missing:
                frames += [Frame(bytes(self._held), self._length)] if self._missing < self._length else []
            elif self._head and _COUNT_SO_FAR.fullmatch(self._head) is None:
                line = _PRI_SO_FAR.fullmatch(self._head) is not None
                frames.append(Frame(self._head, len(self._head), not line))
        else:
            self._hold(self._head)
            self._end_line(frames, blank=False)
        self._held, self._head, self._length, self._missing, self._trail = bytearray(), b"", 0, 0, 0
        if self._mode == "line":
            self._mode = "counted"
        return frames

    # Lines

    def _feed_lines(self, data: bytes, frames: list[Frame]) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        if not self._end:
            feed, nul = data.find(_LF), data.find(_NUL)
            if feed < 0 and nul < 0:
                self._hold(data)
                return
            self._end = _LF if nul < 0 or 0 <= feed < nul else _NUL
        end = self._end
        other = _NUL if end == _LF else _LF
        if other in data:
            # Seldom: the end that this connection does not use, which only counts as one before a PRI.
            before_pri, undecided = _OTHER_THEN_PRI[end]
            if (tail := undecided.search(data)) is not None:
                data, self._head = data[: tail.start()], data[tail.start() :]
            if not self._length:
                data = data.lstrip(other)
            data = before_pri.sub(end, data.replace(end + other, end))
        first, *lines = data.split(end)
        self._hold(first)
        if not lines:
            return
        self._end_line(frames)
        unended = lines.pop()
        limit, stray = self._max, _STRAY[end]
        for whole in lines:
            line = whole
            if whole[-1:] in stray or whole[:1] in stray:
                line = whole.lstrip(other).rstrip(stray)
            if line[:2] == _SPACED_PRI:
                line = line[1:]
            if line:
                frames.append(Frame(line[:limit], len(line)))
            elif not whole.strip(_CR):
                self.blank += 1
        self._hold(unended)

    def _hold(self, part: bytes) -> None:
        if not self._length and self._end:
            part = part.lstrip(_NUL if self._end == _LF else _LF)
        if not part:
            return
        # One byte above the limit, for a space that is not part of the message. Once something was left out nothing may follow.
        if len(self._held) == self._length and (room := self._room + 1 - len(self._held)) > 0:
            self._held += part[:room]
        self._length += len(part)
        kept = len(part.rstrip(_LINE_ENDS if not self._end else _STRAY[self._end]))
        self._trail = len(part) - kept if kept else self._trail + len(part)

    def _end_line(self, frames: list[Frame], *, blank: bool = True) -> None:
        length = self._length - self._trail
        if length > 0:
            line = bytes(self._held[:length])
            if line[:2] == _SPACED_PRI:
                line, length = line[1:], length - 1
            frames.append(Frame(line[: self._max], length))
        elif blank:
            self.blank += 1
        if self._length:
            self._held, self._length, self._trail = bytearray(), 0, 0

    # Counted messages

    def _feed_counted(self, data: bytes, frames: list[Frame]) -> None:
        position = 0
        end = len(data)
        while position < end:
            if self._mode == "line":
                position = self._line_among_counted(data, position, frames)
            elif self._missing:
                taken = min(self._missing, end - position)
                room = self._room - len(self._held)
                if room > 0 and len(self._held) == self._length - self._missing:
                    self._held += data[position : position + min(taken, room)]
                self._missing -= taken
                position += taken
                if not self._missing:
                    frames.append(Frame(bytes(self._held), self._length))
                    self._held, self._length = bytearray(), 0
            elif data[position] in _BETWEEN:
                position += 1
            elif (count := (_COUNTED if self._bad else _COUNT).match(data, position)) is not None and (
                length := int(count[1])
            ) <= self._believed:
                position = count.end()
                self._bad = 0
                if position + length <= end:
                    frames.append(Frame(data[position : position + min(length, self._max)], length))
                    position += length
                else:
                    self._length = self._missing = length
            elif _COUNT_SO_FAR.fullmatch(data, position) is not None or _PRI_SO_FAR.fullmatch(data, position) is not None:
                self._head = data[position:]
                return
            elif _PRI.match(data, position) is not None:
                self._mode, self._bad = "line", 0
            else:
                position = self._lost(data, position, frames)
                if self._head:
                    return

    def _line_among_counted(self, data: bytes, position: int, frames: list[Frame]) -> int:
        stop = len(data)
        for mark in (_LF, _NUL):
            if (found := data.find(mark, position, stop)) >= 0:
                stop = found
        self._hold(data[position:stop])
        if stop < len(data):
            self._end_line(frames)
            self._mode = "counted"
        return stop

    def _lost(self, data: bytes, position: int, frames: list[Frame]) -> int:
        """Give what stands here up to where the stream may go on; where that has not come yet, wait for it in `_head`."""
        most = position + min(self._max, _LOST_LONGEST)
        # Not right here: a count that is not believed would be found again.
        resume = _RESUME.search(data, position + 1, most + _RESUME_LONGEST)
        found = resume is not None and resume.start() <= most
        if not found and len(data) < most + _RESUME_LONGEST:
            self._head = data[position:]
            return position
        stop = resume.start() if resume is not None and found else most
        rest = data[position:stop]
        self._bad += 1
        if not found or self._bad > _LOST_IN_A_ROW:
            self._broken = FramingError(frames, self._seen - len(data) + position, rest)
            raise self._broken
        frames.append(Frame(rest, len(rest), lost=True))
        return stop
