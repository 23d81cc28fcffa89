"""Sockets: paced datagrams from several addresses, syslog over TCP in both framings, and a Beats client that resends.

Each function sends one share of a run in the calling thread and counts in its own `Sent`. None of them raises because a
receiver dies: they go on as real senders do, and count what may have been lost.
"""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path
from threading import Event
from typing import Final

from weir.local.generate.streams import Address, BrokenStreamError, Stream, bind_to, connect
from weir.local.generate.syslog import Source
from weir.local.generate.units import Sent, Unit
from weir.protocols.lumberjack import LumberjackError, encode_batch, parse_ack

__all__ = ["MakeUnit", "Pace", "ReceiveQueue", "frame", "send_beats", "send_datagrams", "send_syslog_tcp"]

MakeUnit = Callable[[int, int], Unit]
"""A number and the time in microseconds UTC to the unit."""

_TICK_S: Final = 0.02
_UNCERTAIN_S: Final = 5.0
_QUEUE_LIMIT: Final = 64 * 1024
_HOLD_AT_MOST_S: Final = 30.0
_LOOK_EVERY: Final = 32 * 1024
_OVERHEAD: Final = 512  # of a datagram in the kernel, roughly


class Pace:
    """How many of `amount` units are due by now, if they are to take `seconds` together; 0 seconds makes all due at once."""

    def __init__(self, amount: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._amount = amount
        self._seconds = seconds
        self._clock = clock
        self._start = clock()

    def due(self) -> int:
        """Numbers below this are due."""
        elapsed = self._clock() - self._start
        return self._amount if elapsed >= self._seconds else int(elapsed / self._seconds * self._amount) + 1


class _Recent:
    """Units handed over lately: those that a receiver which dies now may not have passed on yet."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[float, int]] = deque()

    def add(self, units: int) -> None:
        now = time.monotonic()
        self._chunks.append((now, units))
        while self._chunks[0][0] < now - _UNCERTAIN_S:
            self._chunks.popleft()

    def take(self) -> int:
        """How many there are, each counted once."""
        oldest = time.monotonic() - _UNCERTAIN_S
        units = sum(units for moment, units in self._chunks if moment >= oldest)
        self._chunks.clear()
        return units


class ReceiveQueue:
    """How much the kernel holds for a UDP port of this machine, so that a starved receiver is waited for and nothing is dropped."""

    _TABLES = (Path("/proc/net/udp"), Path("/proc/net/udp6"))

    def __init__(self, target: Address) -> None:
        self._local = target[0].startswith("127.") or target[0] == "::1"
        self._port = f":{target[1]:04X}"

    def full(self) -> bool:
        """Whether it holds more than 64 KiB, a third of the smallest usual buffer. False where that cannot be known."""
        if not self._local:
            return False
        try:
            return any(self._held(table) > _QUEUE_LIMIT for table in self._TABLES)
        except OSError:
            return False

    def _held(self, table: Path) -> int:
        # Columns: number, local address:port, remote, state, tx_queue:rx_queue (both hexadecimal, overhead included), …
        lines = (line.split(maxsplit=5) for line in table.read_text().splitlines()[1:])
        return max((int(line[4].partition(":")[2], 16) for line in lines if line[1].endswith(self._port)), default=0)


def send_datagrams(
    target: Address,
    numbers: Iterable[tuple[int, str]],
    unit: MakeUnit,
    pace: Pace,
    sent: Sent,
    stop: Event,
    *,
    bytes_per_ms: int = 2000,
) -> None:
    """Send units as datagrams, each from the address beside its number.

    Never more than `bytes_per_ms`, also when behind; and where the receiver is on this machine (Linux), not while the
    kernel holds much for it. Where nobody listens any more the datagrams are lost, as in life; they and those of the last
    seconds before count as uncertain.
    """
    sockets: dict[str, socket.socket] = {}
    queue = ReceiveQueue(target)
    recent = _Recent()
    held_until = 0.0
    unseen = _LOOK_EVERY  # what has been added to the queue since it was looked at
    source = iter(numbers)
    following = next(source, None)
    try:
        while following is not None and not stop.is_set():
            if unseen >= _LOOK_EVERY:
                if queue.full():
                    held_until = held_until or time.monotonic() + _HOLD_AT_MOST_S
                    if time.monotonic() < held_until:
                        stop.wait(_TICK_S)
                        continue
                held_until, unseen = 0.0, 0
            due = pace.due()
            budget = int(bytes_per_ms * _TICK_S * 1000)
            while following is not None and following[0] < due and budget > 0:
                number, address = following
                sock = sockets.get(address)
                if sock is None:
                    sock = sockets[address] = _datagram_socket(target, address)
                one = unit(number, time.time_ns() // 1000)
                reached = _send_datagram(sock, one.data)
                if not reached:
                    sent.uncertain += recent.take()
                    reached = _send_datagram(sock, one.data)
                sent.add(one)
                sent.wire_bytes += len(one.data)
                if reached:
                    recent.add(1)
                else:
                    sent.uncertain += 1
                budget -= len(one.data)
                unseen += len(one.data) + _OVERHEAD
                following = next(source, None)
            stop.wait(_TICK_S)
    finally:
        for sock in sockets.values():
            sock.close()


def _datagram_socket(target: Address, address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in target[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bind_to(sock, address, target)
        sock.connect(target)  # so that the kernel tells us when nobody listens
    except OSError:
        sock.close()
        raise
    return sock


def _send_datagram(sock: socket.socket, data: bytes) -> bool:
    """False where the kernel reports that an earlier datagram of this socket found nobody; this one was then not sent."""
    try:
        sock.send(data)
    except OSError as error:
        if error.errno in {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENOBUFS}:
            return False
        raise
    return True


def frame(transport: str, data: bytes) -> bytes:
    """A syslog message framed for TCP: octet counting for "counted", else a line feed behind it (RFC 6587 section 3.4)."""
    return b"%d %s" % (len(data), data) if transport == "counted" else data + b"\n"


def send_syslog_tcp(
    target: Address,
    numbers: Iterable[tuple[int, Source]],
    unit: MakeUnit,
    pace: Pace,
    sent: Sent,
    stop: Event,
    *,
    patience: float = 60.0,
) -> None:
    """Send syslog over one connection for each source, connecting anew when the receiver dies.

    Plain TCP has no acknowledgement: what was handed over in the last seconds before a connection broke is counted as
    uncertain and not sent again. What had not been handed over goes out on the next connection.

    Raises:
        ConnectionError: nobody listened for `patience` seconds.
    """
    lines: dict[Source, _SyslogStream] = {}
    coming = iter(numbers)
    following = next(coming, None)
    try:
        while following is not None and not stop.is_set():
            due = pace.due()
            chunks: dict[Source, list[Unit]] = {}
            now_us = time.time_ns() // 1000
            taken = 0
            while following is not None and following[0] < due and taken < 1000:
                chunks.setdefault(following[1], []).append(unit(following[0], now_us))
                taken += 1
                following = next(coming, None)
            for source, chunk in chunks.items():
                stream = lines.get(source)
                if stream is None:
                    stream = lines[source] = _SyslogStream(target, source, sent, stop, patience)
                stream.send(chunk)
            stop.wait(_TICK_S)
        for stream in lines.values():
            stream.finish()
    finally:
        for stream in lines.values():
            stream.close()


class _SyslogStream:
    """One source's connection, whichever it is by now."""

    def __init__(self, target: Address, source: Source, sent: Sent, stop: Event, patience: float) -> None:
        self._target, self._source, self._sent, self._stop, self._patience = target, source, sent, stop, patience
        self._stream: Stream | None = None
        self._recent = _Recent()
        self._broke = False

    def send(self, chunk: list[Unit]) -> None:
        while chunk:
            stream = self._connected()
            if stream is None:
                return
            frames = [frame(self._source.transport, one.data) for one in chunk]
            try:
                stream.read(0.0)  # a receiver that has gone shows here, before anything is thrown after it
                stream.write(b"".join(frames))
            except BrokenStreamError as error:
                # A message of which only a part was handed over goes out again whole.
                whole = sum(1 for end in accumulate(map(len, frames)) if end <= error.handed_over)
                self._count(chunk[:whole], error.handed_over)
                self._lost()
                chunk = chunk[whole:]
            else:
                self._count(chunk, sum(map(len, frames)))
                return

    def _connected(self) -> Stream | None:
        if self._stream is None:
            self._stream = connect(self._target, self._stop, source=self._source.address, patience=self._patience)
            if self._stream is not None and self._broke:
                self._sent.reconnects += 1
        return self._stream

    def _count(self, units: list[Unit], wire_bytes: int) -> None:
        for one in units:
            self._sent.add(one)
        self._sent.wire_bytes += wire_bytes
        self._recent.add(len(units))

    def _lost(self) -> None:
        self._sent.uncertain += self._recent.take()
        self._broke = True
        self.close()

    def finish(self) -> None:
        """End the stream and wait until the receiver has read it all, which it shows by closing its side."""
        if self._stream is None:
            return
        self._stream.end()
        try:
            self._stream.read(3.0)
        except BrokenStreamError as error:
            if isinstance(error.__cause__, OSError):
                self._sent.uncertain += self._recent.take()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def send_beats(
    target: Address,
    numbers: Iterable[int],
    unit: MakeUnit,
    pace: Pace,
    sent: Sent,
    stop: Event,
    *,
    window: int = 200,
    flush_s: float = 1.0,
    ack_timeout: float = 30.0,
    patience: float = 60.0,
) -> None:
    """Send documents as Filebeat does: a window, then wait until all of it is acknowledged, then the next.

    A window is sent when it holds `window` documents, or `flush_s` seconds after its first. When the connection is lost, or
    nothing was heard for `ack_timeout` seconds, what is not acknowledged is sent again, the same bytes, until it is. What is
    not acknowledged when `stop` is set counts as uncertain.

    Raises:
        ConnectionError: nobody listened for `patience` seconds.
    """
    client = _BeatsClient(target, sent, stop, ack_timeout, patience)
    coming = iter(numbers)
    following = next(coming, None)
    pending: list[bytes] = []
    oldest = 0.0
    try:
        while (following is not None or pending) and not stop.is_set():
            due = pace.due()
            while following is not None and following < due and len(pending) < window:
                one = unit(following, time.time_ns() // 1000)
                oldest = oldest if pending else time.monotonic()
                pending.append(one.data)
                sent.add(one)
                following = next(coming, None)
            if pending and (len(pending) == window or following is None or time.monotonic() - oldest >= flush_s):
                client.publish(pending)
                pending = []
            else:
                stop.wait(_TICK_S)
    finally:
        # Counted as units, and with nobody.
        sent.uncertain += len(pending)
        client.close()


class _BeatsClient:
    def __init__(self, target: Address, sent: Sent, stop: Event, ack_timeout: float, patience: float) -> None:
        self._target, self._sent, self._stop = target, sent, stop
        self._ack_timeout, self._patience = ack_timeout, patience
        self._stream: Stream | None = None

    def publish(self, documents: list[bytes]) -> None:
        """Have them acknowledged, over as many connections as it takes."""
        again = False
        while documents and not self._stop.is_set():
            if self._stream is None:
                self._stream = connect(self._target, self._stop, patience=self._patience)
                if self._stream is None:
                    break
                self._sent.reconnects += again
            self._sent.resent += len(documents) * again
            documents = documents[self._exchange(self._stream, documents) :]
            again = True
        self._sent.uncertain += len(documents)

    def _exchange(self, stream: Stream, documents: list[bytes]) -> int:
        """Send them as one window and wait. How many the receiver holds; where that is not all, the connection is closed."""
        held = 0
        received = b""
        batch = encode_batch(documents)
        try:
            stream.write(batch)
            self._sent.wire_bytes += len(batch)
            while held < len(documents):
                data = stream.read(self._ack_timeout)
                if not data:  # nothing was heard for too long
                    self.close()
                    break
                received += data
                while (found := parse_ack(received)) is not None:
                    sequence, received = found
                    # 0 says only that the receiver is still at it.
                    held = max(held, min(sequence, len(documents)))
        except (BrokenStreamError, LumberjackError):
            self.close()
        self._sent.acknowledged += held
        return held

    def close(self) -> None:
        """Give the connection back."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
