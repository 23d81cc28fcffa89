"""How a load reaches its target: datagrams, framed streams, Lumberjack windows, HTTP requests.

Everything runs in one event loop. A sender of datagrams serves all sources in turns; of the others each source has a connection and
a task of its own, so that one which is held up does not hold up the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from weir.local.generate.kinds import Maker
from weir.local.generate.load import Load, Schedule, SourceState
from weir.local.generate.senders import frame
from weir.protocols.lumberjack import LumberjackError, encode_batch, parse_ack

__all__ = ["WORKERS"]

_CHUNK: Final = 256
_LONGEST_SLEEP_S: Final = 0.2
_TICK_S: Final = 0.005
_WAKE_UPS: Final = 20_000  # a second, over all sources
_LINGER_S: Final = 0.5
_ACK_TIMEOUT_S: Final = 30.0
_FINISH_S: Final = 10.0
_LOST: Final = (OSError, EOFError, LumberjackError)


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    # uvloop raises a RuntimeError where asyncio's own transports pass over it.
    if writer.is_closing():
        raise ConnectionResetError("the receiver has closed the connection")
    writer.write(data)


Worker = Callable[[Load, Maker, Schedule, list[SourceState], asyncio.Event], Awaitable[None]]


def _allow_sockets(wanted: int) -> None:
    """As many open files as a thousand sources need, where the hard limit allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + 64:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + 64 if hard < 0 else min(hard, wanted + 64), hard))


# Datagrams


def _udp_socket(load: Load, address: str) -> socket.socket:
    family, kind, proto, _, target = socket.getaddrinfo(load.host, load.port, type=socket.SOCK_DGRAM)[0]
    sock = socket.socket(family, kind, proto)
    try:
        if address:
            with contextlib.suppress(OSError):  # other systems than Linux have 127.0.0.1 alone
                sock.bind((address, 0))
        sock.setblocking(False)
        sock.connect(target)  # so that the kernel tells us when nobody listens
    except OSError:
        sock.close()
        raise
    return sock


async def _datagrams(load: Load, maker: Maker, schedule: Schedule, states: list[SourceState], stop: asyncio.Event) -> None:
    sockets: list[socket.socket] = []
    try:
        _allow_sockets(len(states))
        try:
            # Sources that look alike share a socket.
            sockets = [_udp_socket(load, state.address) for state in states[: 1 if not states[0].address else None]]
        except OSError as error:
            for state in states:
                state.failure = f"{load.host} port {load.port}: {error.strerror or error}"
            return
        await _Datagrams(load, maker, schedule, states, stop, sockets).run()
    finally:
        for sock in sockets:
            sock.close()


class _Datagrams:
    def __init__(
        self,
        load: Load,
        maker: Maker,
        schedule: Schedule,
        states: list[SourceState],
        stop: asyncio.Event,
        sockets: list[socket.socket],
    ) -> None:
        self._load, self._maker, self._schedule, self._stop, self._sockets = load, maker, schedule, stop, sockets
        self._turns = list(states)

    async def run(self) -> None:
        sent = turn = 0
        most = self._maker.per_unit
        while self._turns and not self._stop.is_set():
            due = self._schedule.due()
            now_us = time.time_ns() // 1000
            for _ in range(_CHUNK):
                turn = turn % len(self._turns)
                state = self._turns[turn]
                count = most if state.quota is None else min(most, state.quota - state.sent)
                if count <= 0:
                    del self._turns[turn]
                elif sent + count > due:
                    break
                elif await self._send(state, count, now_us):
                    sent += count
                    turn += 1
                else:
                    self._stop.set()
                if not self._turns or self._stop.is_set():
                    return
            # What is not a full unit's worth yet waits until it is; what is due waits for nothing.
            wait = self._schedule.wait(sent + most - 1)
            await asyncio.sleep(min(wait, _LONGEST_SLEEP_S) if wait > 0.0005 else 0)

    async def _send(self, state: SourceState, count: int, now_us: int) -> bool:
        data = self._maker.unit(state.source, state.sent, count, now_us)
        sock = self._sockets[state.source if len(self._sockets) > 1 else 0]
        began = 0.0
        told = False
        while True:
            try:
                sock.send(data)
            except (BlockingIOError, InterruptedError):
                began = began or time.monotonic()
                await asyncio.sleep(0.0005)
                continue
            except OSError as error:
                if error.errno not in {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENOBUFS}:
                    state.failure = f"{self._load.host} port {self._load.port}: {error.strerror or error}"
                    return False
                # The kernel reports that an earlier datagram found nobody; this one was not sent.
                state.refused += 1
                if not told:
                    state.doubt()
                if not self._load.patience:
                    state.failure = f"nobody listens at {self._load.host} UDP port {self._load.port}: {error.strerror or error}"
                    return False
                if told:
                    await asyncio.sleep(_TICK_S)
                told = True
                continue
            break
        if began:
            state.blocked_seconds += time.monotonic() - began
        state.handed_over(count, len(data), len(data))
        return True


# Connections


class _Talk(Protocol):
    """What is said over a connection, once it is there."""

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send until all is sent or it is told to stop. Raises one of _LOST where the connection is lost."""

    def done(self) -> bool:
        """Whether nothing is left to send."""


class _Source:
    """What all talkers need: what is due for this source, and waiting for it."""

    def __init__(self, load: Load, maker: Maker, schedule: Schedule, state: SourceState, stop: asyncio.Event) -> None:
        self.load, self.maker, self.schedule, self.state, self.stop = load, maker, schedule, state, stop
        self._tick = max(_TICK_S, load.sources / _WAKE_UPS)

    def due(self, made: int, most: int) -> int:
        """How many events after the first `made` may go now, `most` at most. Events go round the sources in turns."""
        load, state = self.load, self.state
        share = (self.schedule.due() - state.source + load.sources - 1) // load.sources
        if state.quota is not None:
            share = min(share, state.quota)
        return max(0, min(share - made, most))

    def left(self, made: int) -> bool:
        return not self.stop.is_set() and (self.state.quota is None or made < self.state.quota)

    async def pause(self, made: int) -> None:
        """Until the next event is due, in ticks."""
        wait = self.schedule.wait(made * self.load.sources + self.state.source)
        await asyncio.sleep(min(max(wait, self._tick), _LONGEST_SLEEP_S))

    async def drain(self, writer: asyncio.StreamWriter) -> None:
        """Until the connection takes more; counts how long that was, and lets others work."""
        began = time.monotonic()
        await writer.drain()
        taken = time.monotonic() - began
        if taken > 0.001:
            self.state.blocked_seconds += taken
        else:
            await asyncio.sleep(0)

    def units(self, made: int, events: int) -> list[tuple[int, bytes]]:
        """Units of so many events, each with its number of events."""
        now_us = time.time_ns() // 1000
        most = self.maker.per_unit
        counts = [min(most, events - start) for start in range(0, events, most)]
        first = made
        units = []
        for count in counts:
            units.append((count, self.maker.unit(self.state.source, first, count, now_us)))
            first += count
        return units


class _Frames(_Source):
    """Syslog in either framing, or IPFIX messages, which carry their length."""

    def done(self) -> bool:
        return not self.left(self.state.sent)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state = self.state
        self.maker.connected(state.source)
        framing = "" if self.load.kind == "ipfix" else self.load.framing
        whole = self.maker.per_unit
        most = whole * max(1, _CHUNK // whole)
        closed = asyncio.ensure_future(reader.read(1))
        try:
            while self.left(state.sent):
                events = self.due(state.sent, most)
                if state.quota is None or state.sent + events < state.quota:
                    events -= events % whole  # an exporter fills its messages; only the last one of all may be smaller
                if not events:
                    await self.pause(state.sent + whole - 1)
                    if closed.done():
                        raise EOFError("closed by the receiver")
                    continue
                units = self.units(state.sent, events)
                data = b"".join([frame(framing, unit) for _, unit in units] if framing else [unit for _, unit in units])
                _write(writer, data)
                state.handed_over(events, sum(len(unit) for _, unit in units), len(data))
                await self.drain(writer)
                if closed.done():
                    raise EOFError("closed by the receiver")
            await self._finish(writer, closed)
        except _LOST:
            state.doubt()
            raise
        finally:
            closed.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await closed

    async def _finish(self, writer: asyncio.StreamWriter, closed: asyncio.Future[bytes]) -> None:
        """Hand over what is left, and wait until the receiver has read it all, which it shows by closing its side."""
        # Not `drain` with a limit of 0: under uvloop's TLS it never returns.
        began = time.monotonic()
        while not writer.is_closing() and writer.transport.get_write_buffer_size():
            if closed.done() or (self.stop.is_set() and time.monotonic() - began > _FINISH_S):
                raise EOFError("closed by the receiver before it had taken all")
            await asyncio.sleep(_TICK_S)
        if time.monotonic() - began > 2 * _TICK_S:
            self.state.blocked_seconds += time.monotonic() - began
        if writer.is_closing():
            raise EOFError("closed by the receiver before it had taken all")
        if writer.can_write_eof():
            writer.write_eof()
            await asyncio.wait([closed], timeout=3.0)


class _Windows(_Source):
    """Lumberjack: a window, then its acknowledgement. What is not acknowledged goes out again on the next connection."""

    def __init__(self, load: Load, maker: Maker, schedule: Schedule, state: SourceState, stop: asyncio.Event) -> None:
        super().__init__(load, maker, schedule, state, stop)
        self._pending: list[bytes] = []  # documents not acknowledged; all have been counted as sent

    def done(self) -> bool:
        return not self._pending and not self.left(self.state.sent)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state = self.state
        state.resent += len(self._pending)
        while True:
            if not self._pending:
                if not await self._collect():
                    return
                state.handed_over(len(self._pending), sum(map(len, self._pending)), 0)
            await self.exchange(reader, writer)

    async def _collect(self) -> bool:
        """Documents for a window: full, or as many as half a second brings. False where there are no more."""
        began = 0.0
        made = self.state.sent
        while self.left(made):
            if events := self.due(made, self.load.window - len(self._pending)):
                self._pending += [unit for _, unit in self.units(made, events)]
                made += events
                began = began or time.monotonic()
                if len(self._pending) >= self.load.window:
                    break
            elif began and time.monotonic() - began >= _LINGER_S:
                break
            else:
                await self.pause(made)
        return bool(self._pending)

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send what is pending and wait until all of it is acknowledged."""
        data = encode_batch(self._pending)
        _write(writer, data)
        self.state.wire_bytes += len(data)
        await self.drain(writer)
        wanted = len(self._pending)
        held = 0
        received = b""
        while held < wanted:
            more = await asyncio.wait_for(reader.read(65536), _ACK_TIMEOUT_S)
            if not more:
                raise EOFError("closed by the receiver before all was acknowledged")
            received += more
            while (found := parse_ack(received)) is not None:
                sequence, received = found
                # 0 says only that the receiver is still at it.
                if held < sequence <= wanted:
                    self.acknowledge(sequence - held)
                    held = sequence

    def acknowledge(self, documents: int) -> None:
        """The receiver holds the first so many of what is pending."""
        del self._pending[:documents]
        self.state.acknowledged = (self.state.acknowledged or 0) + documents


class _Requests(_Windows):
    """HTTP/1.1: NDJSON in a POST for each window, over a connection that is kept."""

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b"\n".join(self._pending) + b"\n"
        head = (
            f"POST {self.load.path} HTTP/1.1\r\nHost: {self.load.host}:{self.load.port}\r\n"
            f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        while True:
            _write(writer, head.encode() + body)
            self.state.wire_bytes += len(head) + len(body)
            await self.drain(writer)
            status, headers = await asyncio.wait_for(_response(reader), _ACK_TIMEOUT_S)
            if 200 <= status < 300:
                self.acknowledge(len(self._pending))
            elif status in {429, 503}:
                self.state.throttled += 1
                after = headers.get("retry-after", "1")
                pause = float(after) if after.isdigit() else 1.0
                self.state.blocked_seconds += pause
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stop.wait(), pause)
                if self.stop.is_set():
                    raise ConnectionAbortedError("told to stop while the receiver asked to wait")
            else:
                raise _RefusedError(f"the receiver answered HTTP {status}")
            if headers.get("connection", "").lower() == "close":
                raise _ReopenError
            if not self._pending:
                return


class _RefusedError(Exception):
    """The receiver will not have it, now or later."""


class _ReopenError(Exception):
    """The receiver has said that it closes this connection; that is no loss."""


async def _response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers of a response, its body read and dropped. Raises EOFError where it is cut short."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    parts = head[0].split(" ", 2)
    if len(parts) < 2 or not parts[1].isdigit():
        raise _RefusedError(f"{head[0][:80]!r} is no HTTP response")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if parts[1] == "100":
        return await _response(reader)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            await reader.readexactly(size + 2)
        await reader.readuntil(b"\r\n")
    elif (length := headers.get("content-length", "0")).isdigit():
        await reader.readexactly(int(length))
    return int(parts[1]), headers


async def _connected(load: Load, state: SourceState, talk: _Talk, stop: asyncio.Event) -> None:
    """The life of one source: connect, talk, and where there is patience connect again."""
    lost_since: float | None = None
    pause = 0.05
    while not talk.done():
        writer: asyncio.StreamWriter | None = None
        try:
            reader, connected = await asyncio.wait_for(
                asyncio.open_connection(
                    load.host,
                    load.port,
                    ssl=load.tls,
                    server_hostname=(load.server_name or load.host) if load.tls else None,
                    local_addr=(state.address, 0) if state.address else None,
                ),
                10.0,
            )
            writer = connected
            if lost_since is not None:
                state.reconnects += 1
            progress = state.wire_bytes
            try:
                await talk.talk(reader, connected)
            finally:
                if state.wire_bytes > progress:
                    lost_since, pause = None, 0.05
        except _ReopenError:
            pass
        except _RefusedError as error:
            state.failure = f"{load.host} port {load.port}: {error}"
            return
        except (*_LOST, ssl.SSLError) as error:
            reason = f"{load.host} port {load.port}: {str(error) or type(error).__name__}"
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since >= load.patience or stop.is_set() or isinstance(error, ssl.SSLCertVerificationError):
                state.failure = reason
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = min(pause * 2, 0.5)
        finally:
            if writer is not None:
                writer.close()
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(writer.wait_closed(), _FINISH_S)


def _over(talker: Callable[[Load, Maker, Schedule, SourceState, asyncio.Event], _Talk]) -> Worker:
    async def work(load: Load, maker: Maker, schedule: Schedule, states: Sequence[SourceState], stop: asyncio.Event) -> None:
        _allow_sockets(len(states))
        tasks = [asyncio.create_task(_connected(load, state, talker(load, maker, schedule, state, stop), stop)) for state in states]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    return work


async def _by_kind(load: Load, maker: Maker, schedule: Schedule, states: list[SourceState], stop: asyncio.Event) -> None:
    """TLS carries syslog and IPFIX as TCP does, and documents as Lumberjack."""
    talker = _Windows if load.kind in {"beats", "suricata"} else _Frames
    await _over(talker)(load, maker, schedule, states, stop)


WORKERS: Final[dict[str, Worker]] = {
    "udp": _datagrams,
    "tcp": _over(_Frames),
    "tls": _by_kind,
    "lumberjack": _over(_Windows),
    "http": _over(_Requests),
    "https": _over(_Requests),
}
