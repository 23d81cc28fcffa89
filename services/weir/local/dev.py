"""What `weir dev fetch|up|down|status` do: one Kafka for development, in the background, and its downloads.

State is in `.weir/dev` of the project: `kafka/` holds data, configuration and logs, `state.json` which process `up` started.
Environment: `KAFKA_BOOTSTRAP_SERVERS` (a cluster of one's own: nothing is started), `WEIR_KAFKA_PORT` (9092),
`WEIR_KAFKA_CONTROLLER_PORT` (any free one), `WEIR_CACHE_DIR`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from weir.local.downloads import AZURITE_VERSION, KAFKA_VERSION, Report, fetch_azurite, fetch_kafka, locked
from weir.local.errors import LocalError, Unavailable
from weir.local.kafka import Kafka, answers, make_startup_archive
from weir.local.processes import ProcessId, stop_process

__all__ = ["DEFAULT_ROOT", "Status", "down", "fetch", "status", "up"]

DEFAULT_ROOT = Path(".weir/dev")
_DEFAULT_PORT = 9092


@dataclass(frozen=True, slots=True)
class Status:
    """How development's Kafka is: `external` when KAFKA_BOOTSTRAP_SERVERS names a cluster, else `running` or `stopped`."""

    kind: str
    bootstrap_servers: str | None
    answering: bool
    pid: int | None = None
    log_path: Path | None = None


@dataclass(frozen=True, slots=True)
class _State:
    pid: int
    mark: str
    port: int

    @property
    def process(self) -> ProcessId:
        return ProcessId(self.pid, self.mark)

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"


def fetch(console: Console, *, azurite: bool = True) -> None:
    """Download what Kafka and Azurite need, with one line and the seconds for each; quick when it is there.

    With KAFKA_BOOTSTRAP_SERVERS set, Kafka is left out.

    Raises:
        Unavailable: something cannot be had; its `way_out` says what to do.
    """
    if servers := _external():
        _line(console, "Kafka", f"not fetched: KAFKA_BOOTSTRAP_SERVERS is {servers}")
    else:
        _fetched(console, f"Kafka {KAFKA_VERSION}", fetch_kafka)
        _fetched(console, "Kafka's start-up archive", make_startup_archive, "made")
    if azurite:
        _fetched(console, f"Azurite {AZURITE_VERSION}", fetch_azurite)


def up(console: Console, root: Path = DEFAULT_ROOT, timeout: float = 60.0) -> str:
    """Make sure that a Kafka for development answers, and return its bootstrap servers.

    A cluster that KAFKA_BOOTSTRAP_SERVERS names is only asked; else one is started that outlives this process, unless
    it runs already. What is missing is fetched first.

    Raises:
        LocalError: with the way out: no download, a port in use, it died while starting, the named cluster is silent.
    """
    if servers := _external():
        if not answers(servers):
            raise LocalError(
                f"no Kafka answers at KAFKA_BOOTSTRAP_SERVERS={servers}",
                "start that cluster or correct the address; unset the variable to have one started here",
            )
        _line(console, "Kafka", f"answers at {servers} (KAFKA_BOOTSTRAP_SERVERS); nothing started")
        return servers
    port = _port("WEIR_KAFKA_PORT") or _DEFAULT_PORT
    with locked(root / "lock"):
        state = _read(root)
        if state is not None and state.process.alive:
            if not answers(state.bootstrap_servers):
                raise LocalError(
                    f"Kafka (process {state.pid}) runs but does not answer at {state.bootstrap_servers}",
                    f"read {root / 'kafka' / 'kafka.log'}; `make down` stops it",
                )
            _line(console, "Kafka", f"runs already at {state.bootstrap_servers} (process {state.pid})")
            return state.bootstrap_servers
        fetch(console, azurite=False)
        begun = time.monotonic()
        kafka = Kafka(root / "kafka", port, _port("WEIR_KAFKA_CONTROLLER_PORT"))
        kafka.spawn()
        identity = kafka.identity
        if identity is not None:
            # Written before it answers: `down` finds it even if this command is killed meanwhile.
            _write(root, _State(identity.pid, identity.mark, port))
        try:
            kafka.wait_ready(timeout)
        except BaseException:
            kafka.stop()
            _state_file(root).unlink(missing_ok=True)
            raise
    _line(console, "Kafka", f"runs at {kafka.bootstrap_servers} (process {kafka.pid})", time.monotonic() - begun)
    _line(console, "", f"log: {kafka.log_path}; `make down` stops it, its data stays")
    return kafka.bootstrap_servers


def down(console: Console, root: Path = DEFAULT_ROOT) -> bool:
    """Stop the Kafka that `up` started, and nothing else; say whether there was one. Its data stays."""
    if not root.is_dir():
        _line(console, "Kafka", "nothing to stop")
        return False
    with locked(root / "lock"):
        state, begun = _read(root), time.monotonic()
        stopped = state is not None and stop_process(state.process)
        _state_file(root).unlink(missing_ok=True)
    if state is not None and stopped:
        _line(console, "Kafka", f"stopped (process {state.pid})", time.monotonic() - begun)
    else:
        _line(console, "Kafka", "nothing to stop")
    return stopped


def status(root: Path = DEFAULT_ROOT) -> Status:
    """How it stands; asks the cluster, for at most five seconds."""
    if servers := _external():
        return Status("external", servers, answers(servers))
    state = _read(root)
    log_path = root / "kafka" / "kafka.log"
    if state is None or not state.process.alive:
        return Status("stopped", None, False, log_path=log_path if log_path.exists() else None)
    return Status("running", state.bootstrap_servers, answers(state.bootstrap_servers), state.pid, log_path)


def _external() -> str | None:
    return os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or None


def _port(setting: str) -> int | None:
    text = os.environ.get(setting)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise LocalError(f"{setting}={text} is no port", f"set {setting} to a number from 1 to 65535")
    return int(text)


def _fetched(console: Console, what: str, fetcher: Callable[[Report], bool], verb: str = "fetched") -> None:
    begun = time.monotonic()

    def report(line: str) -> None:
        if console.is_terminal:
            _line(console, "", f"{line} …")

    try:
        done = fetcher(report)
    except Unavailable:
        _line(console, what, "cannot be had", time.monotonic() - begun)
        raise
    _line(console, what, verb if done else "already there", time.monotonic() - begun)


def _line(console: Console, what: str, said: str, seconds: float | None = None) -> None:
    took = "" if seconds is None else f"  {seconds:.1f} s"
    console.print(f"{what:<26}{said}{took}", markup=False, highlight=False, soft_wrap=True)


def _state_file(root: Path) -> Path:
    return root / "state.json"


def _read(root: Path) -> _State | None:
    try:
        value = json.loads(_state_file(root).read_text(encoding="utf-8"))
        return _State(int(value["pid"]), str(value["mark"]), int(value["port"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(root: Path, state: _State) -> None:
    aside = root / "state.json.new"
    aside.write_text(json.dumps(asdict(state)), encoding="utf-8")
    aside.replace(_state_file(root))
