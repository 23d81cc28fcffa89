"""Processes of the demo: started with their own settings and logs, started again when they die, stopped together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weir.local.errors import StartError
from weir.local.ports import find_free_port
from weir.local.processes import die_with_parent, tail

__all__ = ["Service", "Supervisor"]

_POLL_SECONDS = 0.05


@dataclass(slots=True)
class Service:
    """One process. `restart` says whether it is started again when it dies by itself or is killed."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    health_port: int = 0
    restart: bool = True
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    ready_line: dict[str, object] = field(default_factory=dict)


class Supervisor:
    """Starts services and keeps them running.

    Args:
        folder: holds `logs/` and `pids/`.
        on_restart: called with the name of a service that died and was started again.
    """

    def __init__(self, folder: Path, on_restart: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder
        self.services: dict[str, Service] = {}
        self.restarts: dict[str, int] = {}
        self._on_restart = on_restart
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        (folder / "pids").mkdir(parents=True, exist_ok=True)
        self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._watcher.start()

    def start_service(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Service:
        """Start `weir ARGUMENTS` with a health port of its own."""
        port = find_free_port()
        own = {**environment, "WEIR_HEALTH_PORT": str(port), "WEIR_INSTANCE": f"demo-{name}", "WEIR_LOG_FORMAT": "json"}
        command = [str(Path(sys.executable).with_name("weir")), *arguments]
        return self._start(Service(name, command, own, self.folder / "logs" / f"{name}.log", health_port=port))

    def start_standin(self, name: str, module: str, arguments: Sequence[str]) -> Service:
        """Start a stand-in; it is not started again, since what it holds is the evidence."""
        command = [sys.executable, "-m", module, *arguments]
        return self._start(Service(name, command, {}, self.folder / "logs" / f"{name}.log", restart=False))

    def _start(self, service: Service) -> Service:
        with self._lock:
            self.services[service.name] = service
            self._spawn(service)
        return service

    def _spawn(self, service: Service) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_") or k in {"WEIR_SCHEMAS_DIR", "WEIR_CACHE_DIR"}}
        clean.pop("KAFKA_BOOTSTRAP_SERVERS", None)
        with service.log.open("ab") as log:
            service.process = subprocess.Popen(
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean | service.environment,
                start_new_session=True,
                # A demo that is killed must not leave a dozen processes behind.
                preexec_fn=die_with_parent,  # noqa: PLW1509 - the child does nothing but this before exec
            )
        service.starts += 1
        self._note(f"{service.name}.pid", f"{service.process.pid}\n")
        if service.health_port:
            self._note(f"{service.name}.url", f"http://127.0.0.1:{service.health_port}/readyz\n")

    def _note(self, name: str, text: str) -> None:
        """Write a file for others so that nobody reads it empty."""
        new = self.folder / "pids" / f".{name}"
        new.write_text(text, encoding="ascii")
        new.replace(self.folder / "pids" / name)

    def _watch(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            with self._lock:
                for service in self.services.values():
                    process = service.process
                    if process is None or process.poll() is None or not service.restart:
                        continue
                    if process.returncode in {0, 2}:
                        continue  # stopped on purpose, or settings that would be as wrong the second time
                    self.restarts[service.name] = self.restarts.get(service.name, 0) + 1
                    self._spawn(service)
                    self._on_restart(service.name)

    def wait_ready(self, names: Sequence[str], timeout: float, on_ready: Callable[[str], None] = lambda _: None) -> None:
        """Wait until each of these says it is ready.

        Raises:
            StartError: one ended, or did not become ready within `timeout` seconds; with the end of its log.
        """
        deadline = time.monotonic() + timeout
        waiting = list(names)
        while waiting:
            for name in list(waiting):
                service = self.services[name]
                if self._ready(service):
                    waiting.remove(name)
                    on_ready(name)
                elif service.process is not None and service.process.poll() is not None and not self._will_restart(service):
                    raise StartError(f"{name} ended at its start:\n{tail(service.log)}", f"read {service.log}")
            if waiting and time.monotonic() > deadline:
                service = self.services[waiting[0]]
                raise StartError(f"{waiting[0]} is not ready after {timeout:.0f} s:\n{tail(service.log)}", f"read {service.log}")
            if waiting:
                time.sleep(_POLL_SECONDS)

    def _will_restart(self, service: Service) -> bool:
        return service.restart and service.starts < 3 and service.process is not None and service.process.returncode not in {0, 2}

    @staticmethod
    def _ready(service: Service) -> bool:
        if service.health_port == 0:
            for line in tail(service.log, 50).splitlines():
                if line.startswith('{"ready"') or '"ready": true' in line or '"ready":true' in line:
                    service.ready_line = json.loads(line)
                    return True
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{service.health_port}/readyz", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, names: Sequence[str] | None = None, timeout: float = 15.0) -> None:
        """SIGTERM to these (or all), SIGKILL to what is left after `timeout` seconds."""
        if names is None:
            self._stopping.set()
        with self._lock:
            chosen = [self.services[n] for n in (names if names is not None else list(self.services))]
            for service in chosen:
                service.restart = False
                if service.process is not None and service.process.poll() is None:
                    service.process.terminate()
        deadline = time.monotonic() + timeout
        for service in chosen:
            if service.process is None:
                continue
            try:
                service.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                service.process.kill()
                service.process.wait()
            for file in (self.folder / "pids").glob(f"{service.name}.*"):
                file.unlink(missing_ok=True)
