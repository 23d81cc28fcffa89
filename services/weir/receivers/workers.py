"""Several worker processes behind the same ports.

One Python process uses one CPU. With WEIR_RECEIVER_PROCESSES the receiver starts itself so many times; every worker opens the same
ports with SO_REUSEPORT, and the kernel spreads connections, and datagrams by a hash of both addresses and ports, over them. So one
exporter or UDP sender always reaches the same worker, and one sender alone is never faster for more workers.

What Linux does when the number of listeners changes is bounded, but not nothing: datagrams move to other workers; what a dead
worker's sockets still held, and connections it had not accepted yet, are lost with it.

The parent takes no traffic. It starts workers that end again, passes signals on, and answers for all on the health port. Workers
answer for themselves on sockets on the loopback interface that they inherit. When the parent is gone, a pipe tells them, and they
stop as on SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from weir.ops.logging import get
from weir.ops.shutdown import on_stop_signals
from weir.ops.telemetry import HealthServer, meter, own_metrics
from weir.receivers.settings import ReceiverSettings

__all__ = ["SOCKETS_NOT_OPEN", "follow_parent", "merge_metrics", "supervise"]

SOCKETS_NOT_OPEN = "the sockets are not open yet"
"""What a worker that is still starting gives as the reason why it is not ready."""

_LIFELINE = "_WEIR_LIFELINE"
_ASK_SECONDS = 2.0
_LOOK_SECONDS = 0.25
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_SETTLED_SECONDS = 60.0
_KILL_SECONDS = 10.0
_ASKED_AT_ONCE = 32
_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(\{)?")


# For workers


def follow_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Where this process is a worker, set `stop` when its parent is gone."""
    if (number := os.environ.get(_LIFELINE)) is None:
        return
    lifeline = int(number)

    def gone() -> None:
        loop.remove_reader(lifeline)
        stop.set()

    loop.add_reader(lifeline, gone)


# For the parent


def merge_metrics(parts: Sequence[tuple[str | None, str]]) -> str:
    """Prometheus text of several processes as one: every family once, every sample with the label `worker` of its process.

    Args:
        parts: label and text of each; samples under None are taken as they are.
    """
    families: dict[str, tuple[list[str], list[str]]] = {}
    for worker, text in parts:
        family = ""
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                about, _ = families.setdefault(family, ([], []))
                # Each kind of line once; the first process that has the family describes it.
                if not any(known[:7] == line[:7] for known in about):
                    about.append(line)
            elif line and not line.startswith("#") and (found := _SAMPLE.match(line)):
                name, labelled = found.groups()
                if worker is not None:
                    line = f'{name}{{worker="{worker}"' + ("," + line[found.end() :] if labelled else "}" + line[found.end() :])  # noqa: PLW2901
                families.setdefault(family or name, ([], []))[1].append(line)
    return "".join(f"{line}\n" for about, samples in families.values() for line in (*about, *samples))


@dataclass(slots=True)
class _Worker:
    """One worker. `open`: its sockets are open; `opened`: they have been once, perhaps an earlier process's; `owed`: a SIGHUP."""

    number: int
    process: asyncio.subprocess.Process | None = None
    port: int = 0
    open: bool = False
    opened: bool = False
    owed: bool = False
    status: int = 0


def _ask(port: int, path: str) -> tuple[int, str]:
    """Status and text of a worker's answer. Raises OSError where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ASK_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _how(status: int) -> str:
    """The end of a process in words."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


class _Supervisor:
    def __init__(self, settings: ReceiverSettings, service: str) -> None:
        self._settings = settings
        self._log = get(f"weir.{service}")
        self._workers = [_Worker(number) for number in range(1, settings.receiver_processes + 1)]
        self._stopping = asyncio.Event()
        self._failed: int | None = None
        self._lifeline, self._held = os.pipe()
        self._asking = ThreadPoolExecutor(min(_ASKED_AT_ONCE, len(self._workers)), thread_name_prefix="workers")
        m = meter("weir.workers")
        self._up = m.create_gauge("weir.receiver.worker_up", "1", "Whether this worker process has its sockets open")
        self._restarts = m.create_counter("weir.receiver.worker_restarts", "{restart}", "Times that a worker was started again")

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        stop = on_stop_signals(loop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        health = HealthServer(self._settings.health_host, self._settings.health_port, self._problem, self._metrics)
        self._log.info("starting workers", processes=len(self._workers))
        keepers = [asyncio.create_task(self._keep(worker)) for worker in self._workers]
        waits = [asyncio.create_task(event.wait()) for event in (stop, self._stopping)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            for wait in waits:
                wait.cancel()
            await self._end(keepers)
            health.close()
            self._asking.shutdown(wait=False, cancel_futures=True)
            os.close(self._held)
            os.close(self._lifeline)
        if self._failed is not None:
            return self._failed
        worst = max((1 if worker.status < 0 else worker.status for worker in self._workers), default=0)
        self._log.info("stopped", workers=len(self._workers), status=worst)
        return worst

    async def _start(self, worker: _Worker) -> asyncio.subprocess.Process:
        listening = socket.create_server(("127.0.0.1", 0))
        try:
            worker.port = listening.getsockname()[1]
            environment = {
                **os.environ,
                "WEIR_RECEIVER_WORKER": str(worker.number),
                "WEIR_INSTANCE": f"{self._settings.instance}-{worker.number}",
                "WEIR_HEALTH_HOST": f"fd:{listening.fileno()}",
                "WEIR_HEALTH_PORT": str(worker.port),
                _LIFELINE: str(self._lifeline),
            }
            # In a group of their own: Ctrl-C on a terminal goes to the parent, who passes it on once.
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *sys.orig_argv[1:],
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(listening.fileno(), self._lifeline),
                process_group=0,
            )
        finally:
            # The worker's alone from now on: when it is gone, so is the port.
            listening.close()

    async def _keep(self, worker: _Worker) -> None:
        """Start a worker, and again when it has ended, until all stop."""
        loop = asyncio.get_running_loop()
        label = {"worker": str(worker.number)}
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            self._up.set(0, label)
            started = loop.time()
            try:
                worker.process = await self._start(worker)
                if self._stopping.is_set():
                    worker.process.terminate()  # it was not there yet when the others were told
            except OSError as error:
                how, status = f"cannot be started: {error}", 1
            else:
                opening = asyncio.create_task(self._opening(worker, label))
                status = await worker.process.wait()
                how = _how(status)
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
            was_open, worker.open, worker.process = worker.open, False, None
            self._up.set(0, label)
            if self._stopping.is_set():
                # Asked to stop before it could hear, it was ended by the signal itself.
                worker.status = status if was_open or status > 0 else 0
                return
            if not worker.opened and status > 0:
                # It has said why: settings that do not work, or a port that cannot be had. Trying again would not help.
                self._log.error("a worker cannot start; stopping", worker=worker.number, ended=how)
                self._failed = status
                self._stopping.set()
                return
            pause = _FIRST_PAUSE if loop.time() - started > _SETTLED_SECONDS else min(pause * 2, _LONGEST_PAUSE)
            self._restarts.add(1, label)
            self._log.error("a worker has ended; it is started again", worker=worker.number, ended=how, seconds=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _opening(self, worker: _Worker, label: dict[str, str]) -> None:
        """Until its sockets are open."""
        while True:
            try:
                _, text = await asyncio.to_thread(_ask, worker.port, "/readyz")
            except OSError:
                text = SOCKETS_NOT_OPEN
            if text.strip() != SOCKETS_NOT_OPEN:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        worker.open = worker.opened = True
        self._up.set(1, label)
        if worker.owed:
            worker.owed = False
            self._signal(worker, signal.SIGHUP)

    def _signal(self, worker: _Worker, number: signal.Signals) -> None:
        if worker.process is not None:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(number)

    def _hang_up(self) -> None:
        for worker in self._workers:
            if worker.open:
                self._signal(worker, signal.SIGHUP)
            else:
                worker.owed = True  # it might not handle the signal yet, and would end

    async def _end(self, keepers: list[asyncio.Task[None]]) -> None:
        for worker in self._workers:
            self._signal(worker, signal.SIGTERM)
        _, late = await asyncio.wait(keepers, timeout=self._settings.receiver_stop_seconds + _KILL_SECONDS)
        if late:
            self._log.error("workers do not stop; they are killed", workers=len(late))
            for worker in self._workers:
                self._signal(worker, signal.SIGKILL)
            await asyncio.wait(late)

    # Health, in threads of its own

    def _ask_all(self, path: str) -> list[tuple[_Worker, int, str]]:
        def ask(worker: _Worker) -> tuple[_Worker, int, str]:
            if worker.process is None:
                return worker, 0, "is not running"
            try:
                return worker, *_ask(worker.port, path)
            except OSError as error:
                return worker, 0, f"does not answer: {error}"

        return list(self._asking.map(ask, self._workers))

    def _problem(self) -> str | None:
        answers = self._ask_all("/readyz")
        if all(status == 200 for _, status, _ in answers):
            return None
        return "\n".join(f"worker {worker.number}: {text.strip()}" for worker, _, text in answers)

    def _metrics(self) -> str:
        answers = self._ask_all("/metrics")
        return merge_metrics([(None, own_metrics()), *((str(w.number), text) for w, status, text in answers if status == 200)])


def supervise(settings: ReceiverSettings, service: str) -> int:
    """Run WEIR_RECEIVER_PROCESSES workers of this command until SIGTERM or SIGINT; the status to exit with.

    A worker that ends is started again, with growing pauses. One that cannot even start, because of settings or a port, ends all
    with its status; 1 where a worker did not end as it should when asked to.

    Raises:
        OSError: the health port cannot be had.
    """

    async def main() -> int:
        return await _Supervisor(settings, service).run()

    return asyncio.run(main())
