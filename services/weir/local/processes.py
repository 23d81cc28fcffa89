"""Background servers: started apart from the terminal, recognised for certain, stopped within a deadline."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from weir.local.errors import StartError

__all__ = ["ProcessId", "Server", "die_with_parent", "stop_process", "tail", "wait_until"]

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.02
_ROUTINE = re.compile(r"\S+ (INFO|DEBUG|TRACE) ")
_STACK_FRAME = re.compile(r"\s+(at \S+\(|\.\.\. \d+ more)")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process id with a mark of when that process started, so that a re-used number is told from the old process."""

    pid: int
    mark: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The identity of a living process; None when there is none, or only its unburied remains."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return cls(pid, _mark(process))
        except psutil.Error:
            return None

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self


def _mark(process: psutil.Process) -> str:
    # Clock ticks since boot do not move when the wall clock is set, unlike the start time that psutil derives from them.
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()}:{fields[19]}"
    except (OSError, IndexError):
        return f"{process.create_time():.2f}"


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Poll `condition` until it holds or `timeout` seconds have passed; say whether it held."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def stop_process(process: ProcessId, timeout: float = 20.0) -> bool:
    """End a process and its group: SIGTERM, and SIGKILL when `timeout` seconds have passed.

    Returns whether it ran. A process of the same number that is not the same process is left alone.
    """
    if not process.alive:
        return False
    _signal(process, signal.SIGTERM)
    if not wait_until(lambda: not process.alive, timeout):
        _signal(process, signal.SIGKILL)
        wait_until(lambda: not process.alive, 5.0)
    return True


def _signal(process: ProcessId, number: signal.Signals) -> None:
    if not process.alive:
        return
    try:
        # Servers are started as leaders of their own session; a group of that number is theirs alone.
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, number)
        else:
            os.kill(process.pid, number)
    except ProcessLookupError:
        pass


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a text file without Java's stack frames, out of its last 64 KiB; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 65_536))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.strip().splitlines() if not _STACK_FRAME.match(line)][-lines:])


def die_with_parent() -> None:
    """For a child to call before exec: on Linux it gets SIGTERM when the thread that started it ends. Elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Server:
    """One server process in a session of its own, so that Ctrl-C in the terminal does not end it before its users.

    With `bound` it does not outlive, on Linux, the thread that starts it: whoever is killed leaves nothing behind.
    """

    def __init__(self, name: str, *, bound: bool = False) -> None:
        self.name = name
        self._bound = bound
        self._process: subprocess.Popen[bytes] | None = None
        self.identity: ProcessId | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self, command: Sequence[str | Path], *, output: Path, inherit: Sequence[int] = ()) -> None:
        """Start `command` with what it prints going to `output`, which is written anew.

        It keeps the file descriptors `inherit` open for as long as it lives, and with them a lock on their file.

        Raises:
            StartError: it runs already, or the program cannot be executed.
        """
        if self.running:
            raise StartError(f"{self.name} runs already (process {self.pid})", "call stop() first")
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            with output.open("wb") as sink:
                self._process = subprocess.Popen(
                    [str(part) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=inherit,
                    preexec_fn=die_with_parent if self._bound else None,  # noqa: PLW1509 - the child does nothing but this
                )
        except OSError as error:
            raise StartError(f"{self.name} cannot be started: {error}", f"check that {command[0]} can be executed") from error
        self.identity = ProcessId.of(self._process.pid)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    def wait_ready(self, probe: Callable[[], bool], timeout: float, logs: Sequence[Path]) -> None:
        """Poll `probe` until it is true.

        Raises:
            StartError: the process ended, or `timeout` seconds passed; with the last lines of `logs`. It is stopped then.
        """
        deadline = time.monotonic() + timeout
        while True:
            code = None if self._process is None else self._process.poll()
            if self._process is None or code is not None:
                raise StartError(
                    f"{self.name} ended while it started (exit status {code}); its last lines:\n{_last_lines(logs)}",
                    f"read {logs[0]}",
                )
            if probe():
                return
            if time.monotonic() >= deadline:
                self.stop(timeout=5.0)
                raise StartError(
                    f"{self.name} did not answer within {timeout:g} s; its last lines:\n{_last_lines(logs)}",
                    f"read {logs[0]}; on a slow machine allow a longer timeout",
                )
            time.sleep(_POLL_S)

    def stop(self, timeout: float = 20.0) -> None:
        """SIGTERM, then SIGKILL after `timeout` seconds; harmless when nothing runs."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            _kill_group(process, signal.SIGTERM)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        process.wait()
        self._process = None

    def kill(self) -> None:
        """SIGKILL at once, as a crash would; returns when the process is gone."""
        process = self._process
        if process is not None:
            _kill_group(process, signal.SIGKILL)
            process.wait()


def _kill_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            process.wait()


def _last_lines(logs: Sequence[Path]) -> str:
    """The last warnings and errors of each log, else simply its last lines."""
    lines: list[str] = []
    for log in logs:
        last = tail(log, 200).splitlines()
        telling = [line for line in last if not _ROUTINE.match(line)]
        lines += (telling or last)[-12:]
    return "\n".join("    " + line for line in lines) or "    (nothing was written)"
