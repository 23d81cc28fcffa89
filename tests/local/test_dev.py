"""`weir dev`: one Kafka in the background that outlives the command, and is the only thing `down` ever stops."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from weir.local import dev
from weir.local.downloads import fetch_kafka
from weir.local.errors import LocalError, PortInUseError
from weir.local.kafka import answers
from weir.local.ports import find_free_port
from weir.local.processes import ProcessId


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def _said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty state folder and a free port; what was started is stopped at the end."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("WEIR_KAFKA_PORT", str(find_free_port()))
    yield tmp_path / "dev"
    dev.down(Console(file=io.StringIO()), tmp_path / "dev")


@pytest.mark.kafka
def test_up_outlives_its_process_twice_is_once_and_down_stops_it(root: Path, console: Console) -> None:
    fetch_kafka(lambda _: None)
    program = "import sys; from pathlib import Path; from rich.console import Console; from weir.local import dev"
    command = [sys.executable, "-c", program + "; dev.up(Console(), Path(sys.argv[1]))", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    assert "runs at 127.0.0.1:" in done.stdout
    status = dev.status(root)
    assert (status.kind, status.answering) == ("running", True)
    assert dev.up(console, root) == status.bootstrap_servers
    assert f"runs already at {status.bootstrap_servers} (process {status.pid})" in _said(console)
    assert dev.down(console, root) is True
    assert ProcessId.of(status.pid or 0) is None
    assert dev.status(root).kind == "stopped"
    assert dev.down(console, root) is False
    assert "nothing to stop" in _said(console)


def test_down_leaves_a_process_alone_that_got_the_number_later(root: Path, console: Console) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as innocent:
        root.mkdir()
        state = {"pid": innocent.pid, "mark": "another start", "port": 9092}
        (root / "state.json").write_text(json.dumps(state))
        assert dev.down(console, root) is False
        assert innocent.poll() is None
        innocent.communicate(b"\n")


def test_a_damaged_state_file_counts_as_none(root: Path, console: Console) -> None:
    root.mkdir()
    (root / "state.json").write_text("{")
    assert dev.status(root).kind == "stopped"
    assert dev.down(console, root) is False


def test_a_port_in_use_stops_up_and_names_its_setting(root: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch_kafka(lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("WEIR_KAFKA_PORT", str(other.getsockname()[1]))
        with pytest.raises(PortInUseError) as caught:
            dev.up(console, root)
    assert "WEIR_KAFKA_PORT" in caught.value.way_out
    assert not (root / "state.json").exists()


@pytest.mark.parametrize("text", ["x", "0", "70000", "-1", "٣"])
def test_a_port_setting_that_is_no_port_is_refused(
    root: Path, console: Console, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("WEIR_KAFKA_PORT", text)
    with pytest.raises(LocalError, match=r"WEIR_KAFKA_PORT=.* is no port"):
        dev.up(console, root)


@pytest.mark.kafka
def test_a_cluster_of_ones_own_is_used_and_nothing_started(
    kafka: str, root: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
    assert dev.up(console, root) == kafka
    assert "nothing started" in _said(console)
    assert dev.status(root) == dev.Status("external", kafka, True)
    assert not root.exists()


def test_a_silent_cluster_of_ones_own_is_an_error(root: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{find_free_port()}")
    monkeypatch.setattr(dev, "answers", lambda servers: answers(servers, 0.5))
    with pytest.raises(LocalError, match="no Kafka answers at KAFKA_BOOTSTRAP_SERVERS"):
        dev.up(console, root)


def test_fetch_says_what_it_did_and_leaves_kafka_to_the_own_cluster(
    root: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "fetch_kafka", lambda report: pytest.fail("not needed"))
    monkeypatch.setattr(dev, "fetch_azurite", lambda report: False)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "broker:9092")
    dev.fetch(console)
    assert "not fetched: KAFKA_BOOTSTRAP_SERVERS is broker:9092" in _said(console)
    assert "already there" in _said(console)


def test_the_identity_in_the_state_is_that_of_a_living_process() -> None:
    me = ProcessId.of(psutil.Process().pid)
    assert me is not None
    assert me.alive
