"""Background servers are recognised for certain, stopped within a deadline, and say why they died."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import eventually
from weir.local.errors import StartError
from weir.local.processes import ProcessId, Server, stop_process, tail

_SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
_STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


def _started(command: list[str], output: Path) -> Server:
    server = Server("sleeper")
    server.spawn(command, output=output)
    server.wait_ready(lambda: tail(output) == "up", 20.0, [output])
    return server


def test_a_server_is_in_a_session_of_its_own(tmp_path: Path) -> None:
    server = _started(_SLEEP, tmp_path / "out")
    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid != os.getsid(0)
    server.stop()
    assert server.pid is None


def test_one_that_ignores_sigterm_is_killed_after_the_deadline(tmp_path: Path) -> None:
    server = _started(_STUBBORN, tmp_path / "out")
    identity = server.identity
    begun = time.monotonic()
    server.stop(timeout=0.3)
    assert identity is not None
    assert not identity.alive
    assert 0.3 <= time.monotonic() - begun < 5


def test_stopping_twice_is_harmless(tmp_path: Path) -> None:
    server = _started(_SLEEP, tmp_path / "out")
    server.stop()
    server.stop()


def test_a_process_of_the_same_number_but_another_start_is_left_alone(tmp_path: Path) -> None:
    server = _started(_SLEEP, tmp_path / "out")
    assert server.pid is not None
    assert not stop_process(ProcessId(server.pid, "another boot:1"))
    assert server.running
    identity = ProcessId.of(server.pid)
    assert identity == server.identity
    server.stop()


def test_a_process_is_stopped_by_its_identity_alone(tmp_path: Path) -> None:
    server = _started(_SLEEP, tmp_path / "out")
    assert server.identity is not None
    assert stop_process(server.identity)
    eventually(lambda: not server.running, 5.0)
    assert not stop_process(server.identity)


def test_a_zombie_does_not_count_as_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    eventually(lambda: ProcessId.of(pid) is None, 5.0, "the unburied child counts as alive")
    os.waitpid(pid, 0)


def test_death_while_starting_shows_the_last_lines_without_java_frames(tmp_path: Path) -> None:
    program = "print('2026-01-01T00:00:00Z INFO a: b'); print('ERROR no disk'); print('\\tat a.b.C(D.java:1)'); raise SystemExit(3)"
    output = tmp_path / "out"
    server = Server("Kafka")
    server.spawn([sys.executable, "-c", program], output=output)
    with pytest.raises(StartError) as caught:
        server.wait_ready(lambda: False, 20.0, [output])
    assert "exit status 3" in caught.value.what
    assert "ERROR no disk" in caught.value.what
    assert "D.java" not in caught.value.what
    assert "INFO a" not in caught.value.what
    assert str(output) in caught.value.way_out


def test_silence_until_the_deadline_is_an_error_and_ends_the_process(tmp_path: Path) -> None:
    server = _started(_SLEEP, tmp_path / "out")
    with pytest.raises(StartError, match=r"did not answer within 0\.1 s"):
        server.wait_ready(lambda: False, 0.1, [tmp_path / "out"])
    assert not server.running


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no-such-program"):
        Server("Kafka").spawn(["/no-such-program"], output=tmp_path / "out")


def test_tail_reads_only_the_end_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1_000_000 + b"\nlast\n")
    assert tail(path, 1) == "last"
    assert tail(tmp_path / "none") == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has ended")
def test_a_bound_server_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from weir.local.processes import Server\n"
        f"server = Server('sleeper', bound=True); server.spawn({_SLEEP!r}, output=pathlib.Path({str(tmp_path / 'out')!r}))\n"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        identity = ProcessId.of(int(starter.stdout.readline()))
        starter.kill()
    assert identity is not None
    eventually(lambda: not identity.alive, 10, "the server outlived its starter")
